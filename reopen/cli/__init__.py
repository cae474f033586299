"""The command line: a thin face that parses, calls the engine and prints. ``reopen.cli.main:main`` is the entry point.

- :mod:`reopen.cli.face` owns options that every command has, output, errors and exit codes.
- :mod:`reopen.desk.session` leads from the settings to contracts, keys, vaults and the epoch log.
- One module a group of commands; each has ``register(app)``. What is heavy is imported inside the commands, so that
  ``reopen --help`` is quick.
"""
