"""Owns the dead man's switch: a job tells an observer outside that it ran; the observer tells people when it did not.

Whatever watches from inside falls silent with the machine that it runs on. So each job calls an address of somebody
else's (healthchecks.io and those that work like it; Uptime Kuma, a script): ``<url>/start`` when it begins,
``<url>`` when it did its work, ``<url>/fail`` when it could not. No call is the alarm.

Invariants
    B1  A call that fails, or hangs, stops no job and fails none: what became of it is a value.
    B2  A call takes no longer than the limit, with its retry; a server that drips an answer is left behind.
    B3  The address is a secret (whoever has it can pretend that the job ran): it is in no result, log or error; the
        observer is named by its host.
    B4  Nothing of the data is sent: a line of how the job ended, which the observer shows.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import Request, urlopen

from reopen.errors import ReopenError, Transient
from reopen.notify.addresses import Unsendable, fill
from reopen.recover.readiness.limit import within

ATTEMPTS_MAX = 2
"""The first, and one retry: an observer waits for the next call anyway before it raises an alarm."""
TEXT_CHARACTERS_MAX = 1_000


class Beat(StrEnum):
    """What a job says of itself; the value is what is put behind the address."""

    START = "start"
    OK = ""
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What became of a call. ``problem`` is empty when the observer took it; ``observer`` is its host."""

    beat: Beat
    observer: str
    problem: str = ""


def send_beat(
    url: str, beat: Beat, *, seconds_max: float, text: str = "", environment: Mapping[str, str] = os.environ
) -> Heard:
    """Tell the observer.

    :param url: its address, in which ``${NAME}`` stands for a variable of the environment.
    :param text: a line that it may show to people (B4).
    """
    try:
        filled = fill(url, environment)
        target = _behind(filled, beat)
    except Unsendable as problem:
        return Heard(beat=beat, observer="", problem=str(problem))
    except ValueError:
        return Heard(beat=beat, observer="", problem="it is no address of a web server")
    host = urlsplit(target).hostname or ""
    body = " ".join(text.split())[:TEXT_CHARACTERS_MAX].encode()
    told = within(seconds_max, "heartbeat", partial(_call, target, body, seconds_max))
    if isinstance(told, ReopenError):
        # Only its kind: the text of an error that nobody foresaw may quote the address (B3).
        told = f"no answer within {seconds_max:g} s" if isinstance(told, Transient) else "it could not be called"
    return Heard(beat=beat, observer=host, problem=told)


def _behind(url: str, beat: Beat) -> str:
    """The address with what is said at the end of its path, before any query."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("no address of a web server")
    path = parts.path.rstrip("/")
    return urlunsplit((parts.scheme, parts.netloc, f"{path}/{beat}" if beat else path or "/", parts.query, ""))


def _call(target: str, body: bytes, seconds_max: float) -> str:
    """What is wrong, empty when nothing is."""
    problem = ""
    for _ in range(ATTEMPTS_MAX):
        request = Request(target, data=body, method="POST", headers={"Content-Type": "text/plain; charset=utf-8"})
        try:
            with urlopen(request, timeout=seconds_max) as reply:
                reply.read(1)
            return ""
        except HTTPError as error:
            problem = f"it answered {error.code}"
            error.close()
            if error.code < 500:
                return problem  # The address is wrong or was removed; asking again changes nothing.
        except (URLError, OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            problem = f"it could not be reached ({type(reason).__name__})"
    return problem
