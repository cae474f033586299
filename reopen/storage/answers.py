"""Owns what a server's refusal means: from an HTTP status and an S3 error code to the one class a handler knows.

A wrong class is paid for: a denied request called transient is tried for ever, a full store called transient is never
freed, and a lost connection called denied sends people to change keys that are right.
"""

from __future__ import annotations

from reopen.errors import Conflict, NotFound, Refused, ReopenError, Transient, VaultUnwritable

CREDENTIAL_CODES = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"}
)
CLOCK_CODES = frozenset({"RequestTimeTooSkewed", "RequestExpired"})
REGION_CODES = frozenset({"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"})
FULL_CODES = frozenset(
    {"QuotaExceeded", "InsufficientStorage", "StorageFull", "ServiceQuotaExceeded", "TooManyBuckets"}
)

CREDENTIALS_HINT = "Check the credentials in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or a profile)."


def error_of_answer(*, status: int, code: str, detail: str, url: str, name: str, is_write: bool) -> ReopenError:
    """The error for an answer that is no success.

    :param status: the HTTP status; 0 when no answer came.
    :param code: the server's own word for it, for example ``SlowDown``; empty when it gave none.
    :param detail: the library's first line, for what has no class of its own.
    """
    denied = VaultUnwritable if is_write else Refused
    if code == "NoSuchBucket":
        hint = "Make the bucket, or correct the URL and the endpoint in the environment."
        return NotFound(f"the bucket of {url} does not exist.", hint=hint, object=name)
    if code in CREDENTIAL_CODES or status == 401:
        message = f"{url} does not accept the credentials ({code or status})."
        return denied(message, hint=CREDENTIALS_HINT, object=name)
    if code in CLOCK_CODES:
        return denied(f"{url} refuses the request's time ({code}).", hint="Set this machine's clock.", object=name)
    if code in REGION_CODES or status in (301, 307, 308) or "region" in detail:
        hint = "Set AWS_REGION to the bucket's region."
        return denied(f"{url} is in another region: {code or detail}.", hint=hint, object=name)
    if status == 507 or code in FULL_CODES or "storage full" in detail.lower():
        hint = "Free space there or raise the quota, then run the same command again."
        return VaultUnwritable(f"{url} is full: {name} was not written.", hint=hint, object=name)
    if status == 403:
        hint = "The credentials are known and may not do this: check the bucket's policy."
        return denied(f"{url} denies access to {name}.", hint=hint, object=name)
    if status == 404:
        return NotFound(f"{name} is not in {url}.", object=name)
    if status == 412:
        return Conflict(f"{name} already exists in {url}.", object=name)
    if status == 413 or code == "EntityTooLarge":
        return Refused(f"{url} does not take an object as large as {name}.", object=name)
    if status == 501:
        return Refused(f"{url} does not support what {name} needs: {code or detail}.", object=name)
    what = f"answered {status} {code}".rstrip() if status else "did not answer"
    hint = "Look at the network and the service behind it, then run the same command again."
    return Transient(f"{url} {what} for {name}: {detail.rstrip('.')}.", hint=hint, object=name)
