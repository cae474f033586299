"""Verbs on copies: take snapshots, verify, repair, replicate. One file a verb; ``plan_x`` reads, ``execute_x`` acts."""
