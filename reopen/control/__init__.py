"""Who may act: epochs, fences, promotions and the log of steps. Rules are pure; the log is one chain in a store.

- :mod:`reopen.control.log` reads and appends; :mod:`reopen.control.rules` answers questions about what was read.
- :mod:`reopen.control.states` names where a failover is; :mod:`reopen.control.records` says what each record means.
- :mod:`reopen.control.chain` is the mechanism, also of the evidence; :mod:`reopen.control.values` the stored form.

The design is in ``docs/0003-epochs-and-recovery.md``.
"""
