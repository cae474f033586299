"""The program that the tests of killed processes start: one verb of the engine on a vault on disk.

``python -m tests.crash.killed <verb> <vault> <keys> <folder>`` prints ``ready`` when its imports are done and the verb
begins. With the verb ``serve`` it reads further verbs from its input, a line each, and forks a process for each, whose
number it prints: a campaign of hundreds need not import everything hundreds of times.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from reopen.contracts.model import RetentionRule
from reopen.protect.prune.prune import execute_prune, plan_prune
from reopen.protect.repair.repair import execute_repair, plan_repair
from reopen.protect.replicate.replicate import execute_replicate, plan_replicate
from reopen.protect.retain.retain import execute_retain, plan_retain
from reopen.protect.verify.verify import Level, verify_vault
from reopen.storage import open_store
from reopen.vault import Vault, load_keyring
from tests.kit import a_dataset, restore, snapshot

RULES = {"it": RetentionRule(last=3)}

VERBS: dict[str, Callable[[Vault, str], object]] = {
    "snapshot": lambda vault, folder: snapshot(vault, a_dataset("it", folder)),
    "restore": lambda vault, folder: restore(vault, vault.find("it"), folder),
    "verify": lambda vault, folder: verify_vault(vault, level=Level.CONTENT),
    "replicate": lambda vault, folder: execute_replicate(plan_replicate(vault, open_store(folder))),
    "repair": lambda vault, folder: execute_repair(plan_repair(vault)),
    "retain": lambda vault, folder: execute_retain(plan_retain(vault, RULES)),
    "prune": lambda vault, folder: execute_prune(plan_prune(vault)),
}
"""What is done with a vault and a folder (the source, the target or the replica)."""


def main(verb: str, vault_url: str, keys: str, folder: str = "") -> None:
    """Do one verb, or serve many."""
    if verb == "serve":
        serve(vault_url, keys)
        return
    vault = Vault.open(open_store(vault_url), load_keyring(Path(keys)))
    say("ready")
    VERBS[verb](vault, folder)


def serve(vault_url: str, keys: str) -> None:
    """Fork a process for every ``<verb> <folder>`` and say when it has ended, and how."""
    say("ready")
    child = 0
    for line in sys.stdin:
        if child:
            # Not before: until then its number is nobody else's, whenever it is killed.
            os.waitpid(child, 0)
        verb, _, folder = line.strip().partition(" ")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                VERBS[verb](Vault.open(open_store(vault_url), load_keyring(Path(keys))), folder)
                code = 0
            finally:
                os._exit(code)
        say(str(child))
        ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        say(str(ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status))


def say(line: str) -> None:
    """Print a line for whoever started this."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
