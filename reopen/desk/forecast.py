"""Owns the way from the settings to what a plan says of what is to come: losses counted over every vault that can be
read, predictions fitted on the control store's history.
"""

from __future__ import annotations

from reopen.desk.session import Session
from reopen.errors import ReopenError
from reopen.recover.foresee import CountLoss, MakeForecast
from reopen.recover.parts import EVIDENCE_PREFIX


def loss_counter(session: Session, home: str) -> CountLoss:
    """Counts what recovery points lack. ``home`` is the site whose vault is recovered from."""
    # Imported here: what is counted with loads slowly, and a drill's plan counts nothing.
    from reopen.recover.loss import LossCounter
    from reopen.vault import Vault

    vaults: dict[str, Vault] = {}
    unreadable = []
    for name in session.settings.sites:
        try:
            vaults[name] = session.vault(name)
        except ReopenError:
            unreadable.append(name)
    return LossCounter(session.vault(home), vaults, unreadable=unreadable)


def forecaster(session: Session, *, workers: int) -> MakeForecast | None:
    """Predicts by the history in the control store; None before the first recovery, and where it cannot be read."""
    if session.log is None:
        return None
    try:
        if next(session.log.store.list(f"{EVIDENCE_PREFIX}/"), None) is None:
            return None
        # Imported here: they load Arrow and numpy, and before the first recovery a plan is made without.
        from reopen.recover.history import read_history
        from reopen.recover.predict import Forecaster, fit

        model = fit(read_history(session.log.store))
    except ReopenError:
        return None
    rate = session.settings.recovery.rate
    return None if model is None else Forecaster(model, workers=workers, rate=rate)
