"""Looking back: the history of vaults as DuckDB views, what differs between snapshots, and how exposed each dataset is.

- :mod:`reopen.review.catalog` keeps the history in tables, and has views and macros over them.
- :mod:`reopen.review.difference` compares two snapshots; :mod:`reopen.review.status` judges exposure.

Nothing here changes anything.
"""
