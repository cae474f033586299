"""The catalog: the history of vaults and of recoveries as DuckDB tables, views and macros, in a file or in memory.

- :mod:`~reopen.review.catalog.tables` lays out what is stored, :mod:`~reopen.review.catalog.rows` makes the rows.
- :mod:`~reopen.review.catalog.sync` brings records, facts and the control store's tables up to date,
  :mod:`~reopen.review.catalog.around` makes the tables of sites, contracts and recoveries,
  :mod:`~reopen.review.catalog.versions` keeps manifests and profiles as intervals.
- :mod:`~reopen.review.catalog.views` and :mod:`~reopen.review.catalog.macros` are what people ask,
  :mod:`~reopen.review.catalog.named` the questions that have names.
- :mod:`~reopen.review.catalog.file` owns the file, :mod:`~reopen.review.catalog.query` asks.
- :mod:`~reopen.review.catalog.plain` leads a DuckDB of one's own to the encrypted manifests.

docs/0015-the-catalog.md says why it is as it is. A catalog is a cache: all of it can be made again from the vaults.
"""
