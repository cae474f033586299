"""The order of things and nothing else: snapshot, verify, replicate, retain, drill and failover as Prefect flows.

Each flow takes one request (:mod:`flows.requests`) and returns the engine's own result; a result that is bad fails the
flow run and reaches the caller as :class:`flows.outcome.BadFinding`. Each also runs as ``python -m flows.<name>``.

Importing this package prepares the environment, because Prefect reads its settings when it is first imported. It also
takes this folder out of the places that modules are looked for in: a worker loads a flow by its file and puts the
file's folder first, and our ``requests`` would then stand for the library of that name, by which notices are sent. And
it sets the time that a deployment gives its runs, lets a run be cancelled whose worker is gone, and has the log of a
run tell our errors in their words.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tasks.environment import prepare_for_arguments
from tasks.limits import end_in_time
from tasks.orphan import listen_when_left
from tasks.told import tell_errors_in_words

sys.path[:] = [place for place in sys.path if Path(place).resolve() != Path(__file__).resolve().parent]
prepare_for_arguments(sys.argv[1:])
end_in_time()
listen_when_left()
tell_errors_in_words()
