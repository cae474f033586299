"""Verbs on copies. ``plan_x`` reads, ``execute_x`` acts.

Taking a snapshot is in the files here: :mod:`~reopen.protect.plan` compares, :mod:`~reopen.protect.capture` reads,
:mod:`~reopen.protect.snapshot` commits. Every other verb has a folder of its name: ``verify``, ``replicate``,
``repair``, ``retain``, ``prune``, ``keys``.
"""
