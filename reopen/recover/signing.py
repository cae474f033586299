"""Owns who signs what a site says of its recoveries (evidence, the kit), and who believes it. It loads no Arrow."""

from __future__ import annotations

from reopen.recover.context import Sign
from reopen.recover.evidence import VerifySignature
from reopen.vault import Vault
from reopen.vault.keys import verify_signature

EVIDENCE_ROLE = "verifier"
"""Whose key signs evidence: the one that says ``drilled``, and that production does not hold."""


def evidence_verifier(vault: Vault) -> VerifySignature:
    """Checks signatures of evidence against the certificates in a vault."""

    def verify(key: str, message: bytes, signature: bytes) -> bool:
        certificate = vault.certificates.get(key)
        if certificate is None or certificate.role != EVIDENCE_ROLE:
            return False
        ended = vault.trust.ended.get(key)
        if ended is not None and ended.reason == "stolen":
            # Evidence lies outside the vault, so no list tells what was signed before the theft.
            return False
        return verify_signature(certificate.public, signature, message)

    return verify


def evidence_signer(vault: Vault) -> Sign | None:
    """Signs evidence with this site's verifier key; None where it is not here."""
    if not vault.keyring.has_role(EVIDENCE_ROLE):
        return None
    key = vault.keyring.signer(EVIDENCE_ROLE)
    return lambda message: (key.id, key.sign(message).hex())
