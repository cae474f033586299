"""A drill or failover as a page that a person reads in two minutes: :func:`reopen.recover.report.render.render`."""
