"""Owns the answer to "could this site take over now": one check a question, each with what was measured and what to do.

Invariants
    Y1  What cannot be measured is never ``ok``: its value says ``unknown`` and its verdict is ``warn`` or worse.
    Y2  A look changes nothing but probes of its own, which it removes: nothing is restored, fenced or promoted.
    Y3  A look ends: a place that does not answer within its time is a failed check.
    Y4  The engine works without the orchestrator, so its absence never fails a check.

:func:`reopen.recover.readiness.assess.assess` looks; the modules beside it each own one area. Called by ``reopen
ready``, by the first step of a failover (:meth:`reopen.recover.context.Verbs.preflight`) and by drills.
"""

from __future__ import annotations

from reopen.recover.readiness.model import Area, Check, Mark, Readiness

__all__ = ["Area", "Check", "Mark", "Readiness"]
