"""Canonical JSON and signed envelopes; I1 to I3 are the invariants of the two modules named ``canonical``."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from spec_keys import canonical

from reopen.errors import Corrupt, Internal
from reopen.storage.canonical import RECORD_BYTES_MAX
from reopen.vault.canonical import decode, encode, open_envelope, seal_envelope, signed_message
from reopen.vault.keys import SigningKey, verify_signature

SAFE_INTEGERS = st.integers(min_value=-(2**53) + 1, max_value=2**53 - 1)
VALUES = st.recursive(
    st.none() | st.booleans() | SAFE_INTEGERS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=50)
@given(st.dictionaries(st.text(), VALUES, max_size=4))
@example({"\ue000": 1, "\U00010000": 2})  # UTF-16 sorts the second first.
@example({"\U00010000": {"\ue000": "\x7f\u2028\x00"}})
@example({"a": 2**53 - 1, "b": -(2**53) + 1})
def test_what_is_written_is_read_back_and_is_what_the_page_says(value: dict[str, object]) -> None:
    """I1; the second encoder is the specification's reader's own."""
    data = encode(value)
    assert decode(data, "x") == value
    assert data == canonical(value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b'{"a":1,"a":1}',
        b'{"a":{"b":1,"b":2}}',
        b'{"b":1,"a":2}',
        b'{"a": 1}',
        b'{"a":1}\n',
        b'{"a":1.0}',
        b'{"a":1e2}',
        b'{"a":-0}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":1e400}',
        b'{"a":"\\u0041"}',
        b'{"a":"\\/"}',
        b'{"a":9007199254740993}',
        b'{"a":[9007199254740992]}',
        b'{"a":{"b":-9007199254740992}}',
        '{"\ue000":1,"\U00010000":2}'.encode(),
        b'{"a":[0.10]}',
        b'{"a":' + b"1" * 5000 + b"}",
        b'{"a":"\xff"}',
        b'{"a":"\\ud800"}',
        b'{"\\ud800":1}',
        '{"a":1}'.encode("utf-16"),
        b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    ],
    ids=range(29),
)
def test_what_is_not_canonical_is_corrupt(data: bytes) -> None:
    """I2."""
    with pytest.raises(Corrupt, match="some object"):
        decode(data, "some object")


@pytest.mark.parametrize("value", [{"a": 0.1}, {"a": [1e21, 1e-7, -1.5]}, {"a": 2**53 - 1, "\U00010000": 0.5}])
def test_a_float_is_read_as_it_was_written(value: dict[str, object]) -> None:
    assert decode(encode(value), "x") == value


def test_a_document_over_the_limit_is_refused_before_it_is_parsed() -> None:
    largest = encode({"a": "x" * (RECORD_BYTES_MAX - 8)})
    assert len(largest) == RECORD_BYTES_MAX
    assert decode(largest, "x")
    with pytest.raises(Corrupt, match="no document has more"):
        decode(b"[" * (RECORD_BYTES_MAX + 1), "x")


@given(st.binary(max_size=200))
@example(b'{"a":1}')
def test_random_bytes_are_corrupt_or_canonical(data: bytes) -> None:
    try:
        value = decode(data, "x")
    except Corrupt:
        return
    assert encode(value) == data


@pytest.mark.parametrize("value", [{"a": float("nan")}, {"a": 2**53 + 1}, {"a": b"bytes"}, {1: "key"}, {"a": "\ud800"}])
def test_a_value_that_has_no_canonical_form_is_our_own_fault(value: dict[str, object]) -> None:
    with pytest.raises(Internal):
        encode(value)


def test_a_signature_covers_kind_and_body() -> None:
    """I3."""
    key = SigningKey.generate("writer")
    body = {"kind": "snapshot", "vault": "00"}
    read, signer, signature = open_envelope(seal_envelope(body, key), "x", "snapshot")
    assert (read, signer) == (body, key.id)
    assert verify_signature(key.public(), signature, b'reopen/v1/snapshot\0{"kind":"snapshot","vault":"00"}')
    assert not verify_signature(key.public(), signature, signed_message({"kind": "void", "vault": "00"}))
    assert not verify_signature(SigningKey.generate("writer").public(), signature, signed_message(body))


@pytest.mark.parametrize(
    "value",
    [
        {"body": {"kind": "k"}},
        {"signature": {"signer": "s", "value": "00"}},
        {"body": {"kind": "k"}, "signature": {"signer": "s", "value": "00"}, "more": 1},
        {"body": [], "signature": {"signer": "s", "value": "00"}},
        {"body": {"kind": "k"}, "signature": "00"},
        {"body": {"kind": "k"}, "signature": {"value": "00"}},
        {"body": {"kind": "k"}, "signature": {"signer": "s", "value": "0x"}},
        {"body": {"kind": "k"}, "signature": {"signer": "s", "value": 0}},
        {"body": {"kind": "other"}, "signature": {"signer": "s", "value": "00"}},
        {"body": {}, "signature": {"signer": "s", "value": "00"}},
    ],
)
def test_what_is_no_envelope_of_the_kind_is_corrupt(value: dict[str, object]) -> None:
    with pytest.raises(Corrupt, match="some object"):
        open_envelope(encode(value), "some object", "k")


def test_a_signature_in_another_spelling_is_corrupt() -> None:
    """Hex in capitals is the same number: accepted, a changed bit in a stored document would go unnoticed."""
    data = seal_envelope({"kind": "lease", "vault": "00"}, SigningKey.generate("writer"))
    value = data[data.index(b'"value":"') + 9 : -3]
    assert open_envelope(data, "lease", "lease")[2].hex().encode() == value
    with pytest.raises(Corrupt, match="malformed signature"):
        open_envelope(data.replace(value, value.upper()), "lease", "lease")
