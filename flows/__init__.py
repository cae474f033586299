"""The order of things and nothing else: snapshot, verify, replicate, retain, drill and failover as Prefect flows.

Each flow takes one request (:mod:`flows.requests`) and returns the engine's own result; a result that is bad fails the
flow run and reaches the caller as :class:`flows.outcome.BadFinding`. Each also runs as ``python -m flows.<name>``.

Importing this package prepares the environment, because Prefect reads its settings when it is first imported.
"""

from __future__ import annotations

import sys

from tasks.environment import prepare_for_arguments

prepare_for_arguments(sys.argv[1:])
