"""The vault: nothing is shown, and nothing opens elsewhere."""

import base64
import copy
import hashlib
import hmac
import logging
import pickle
import traceback
from typing import get_args

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from gateway.broker.vault import MasterKey, Purpose, Secret, Vault
from gateway.clock import SystemClock
from gateway.errors import BadSettings, MasterKeyMissing, SealBroken

CLOCK = SystemClock()
CANARY = "canary-7f3a-of-a-secret"
PLACE = {"table": "upstream_keys", "row": "k1", "column": "secret"}


def vault(byte: bytes = b"\x01") -> Vault:
    return Vault(MasterKey(byte * 32), CLOCK)


def seal(plaintext: bytes) -> bytes:
    return vault().seal(plaintext, table="upstream_keys", row="k1", column="secret")


# --- Secret -------------------------------------------------------------------------------------------------------


def test_a_secret_shows_itself_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret(CANARY)
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("a").warning("it is %s, %r", secret, {"key": secret})
    texts = [repr(secret), str(secret), f"{secret}", f"{secret!r:>40}", f"{secret:>40}", format(secret, "x<9")]
    texts += [repr([secret]), caplog.text, str(ValueError(secret)), repr(dir(secret))]
    assert not [text for text in texts if CANARY in text]
    assert str(secret) == "***"
    assert not hasattr(secret, "__dict__")
    assert secret.reveal() == CANARY


def test_a_traceback_with_locals_does_not_show_a_secret() -> None:
    def fails(secret: Secret) -> None:
        raise ValueError("no")

    try:
        fails(Secret(CANARY))
    except ValueError as fault:
        shown = "".join(traceback.TracebackException.from_exception(fault, capture_locals=True).format())
    assert "secret = Secret(***)" in shown
    assert CANARY not in shown


@pytest.mark.parametrize(
    "hidden", [Secret(CANARY), MasterKey(b"k" * 32), vault()], ids=lambda it: type(it).__name__
)
def test_what_is_hidden_is_neither_copied_nor_pickled_nor_encoded(hidden: object) -> None:
    assert repr(hidden) == f"{type(hidden).__name__}(***)"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="neither pickled nor copied"):
            pickle.dumps(hidden, protocol)
    for way in (copy.copy, copy.deepcopy, lambda it: it.__getstate__(), msgspec.json.encode, msgspec.to_builtins):
        with pytest.raises(TypeError):
            way(hidden)


def test_secrets_are_equal_by_text_and_no_dictionary_keys() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert Secret("\ud800") != Secret("é")  # no encoding fault either, which would show the text
    with pytest.raises(TypeError):
        hash(Secret("a"))


# --- seal and open ------------------------------------------------------------------------------------------------


@given(plaintext=st.binary(max_size=300), row=st.text(st.characters(codec="utf-8"), max_size=20))
def test_what_was_sealed_opens_in_its_place(plaintext: bytes, row: str) -> None:
    sealed = vault().seal(plaintext, table="orders", row=row, column="body")
    assert vault().open(sealed, table="orders", row=row, column="body") == plaintext
    assert len(sealed) == len(plaintext) + 46


def test_the_layout_is_versions_salt_nonce_ciphertext_and_tag() -> None:
    sealed = Vault(MasterKey(b"\x01" * 32), _Counting()).seal(b"hello", table="t", row="r", column="c")
    assert sealed[:2] == b"\x01\x01"
    assert sealed[2:18] == b"\x01" * 16
    assert sealed[18:30] == b"\x02" * 12
    assert sealed[30:] == _by_hand(b"\x01" * 32, sealed, b"hello")


class _Counting(SystemClock):
    """Random bytes that say which call they came from."""

    def __init__(self) -> None:
        self.calls = 0

    def random_bytes(self, count: int) -> bytes:
        self.calls += 1
        return bytes([self.calls]) * count


def _by_hand(master: bytes, sealed: bytes, plaintext: bytes) -> bytes:
    """RFC 5869 written out with nothing but HMAC, then AES-GCM: all that another program needs to read a ledger."""
    root = hmac.digest(b"ordergate master key", master, "sha256")
    key = hmac.digest(root, b"ordergate seal\x01\x01" + sealed[2:18] + b"\x01", "sha256")
    place = b"ordergate seal\x01\x01" + b"".join(b"\0\0\0\x01" + part for part in (b"t", b"r", b"c"))
    return AESGCM(key).encrypt(sealed[18:30], plaintext, place)


def test_two_seals_of_the_same_text_have_nothing_in_common_but_the_versions() -> None:
    one, two = seal(b"same"), seal(b"same")
    assert one[:2] == two[:2]
    assert one[2:18] != two[2:18]
    assert one[18:30] != two[18:30]
    assert one[30:] != two[30:]
    assert b"same" not in one


PARTS = st.text("ab|\0/", max_size=4)


@given(sealed_for=st.tuples(PARTS, PARTS, PARTS), opened_as=st.tuples(PARTS, PARTS, PARTS))
def test_a_sealed_value_opens_in_no_other_place(
    sealed_for: tuple[str, str, str], opened_as: tuple[str, str, str]
) -> None:
    names = ("table", "row", "column")
    sealed = vault().seal(b"x", **dict(zip(names, sealed_for, strict=True)))
    if sealed_for == opened_as:
        assert vault().open(sealed, **dict(zip(names, opened_as, strict=True))) == b"x"
    else:
        with pytest.raises(SealBroken):
            vault().open(sealed, **dict(zip(names, opened_as, strict=True)))


@pytest.mark.parametrize(
    "other", [{"row": "k2"}, {"column": "label"}, {"table": "tenants"}], ids=lambda it: next(iter(it))
)
def test_swapped_rows_columns_and_tables_are_refused(other: dict[str, str]) -> None:
    with pytest.raises(SealBroken):
        vault().open(seal(CANARY.encode()), **{**PLACE, **other})


def test_a_boundary_between_names_cannot_be_moved() -> None:
    sealed = vault().seal(b"x", table="ab", row="c", column="d")
    with pytest.raises(SealBroken):
        vault().open(sealed, table="a", row="bc", column="d")


def test_any_flipped_bit_is_refused() -> None:
    sealed = seal(b"0123456789")
    for bit in range(len(sealed) * 8):
        flipped = bytearray(sealed)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SealBroken):
            vault().open(bytes(flipped), **PLACE)


def test_any_cut_and_any_addition_is_refused() -> None:
    sealed = seal(b"0123456789")
    for cut in [*(sealed[:length] for length in range(len(sealed))), sealed + b"\0", sealed[1:]]:
        with pytest.raises(SealBroken):
            vault().open(cut, **PLACE)


def test_another_master_key_opens_nothing() -> None:
    with pytest.raises(SealBroken, match="another key"):
        vault(b"\x02").open(seal(b"x"), **PLACE)
    sealed = vault().seal_secret(Secret("x"), **PLACE, version=1)
    with pytest.raises(MasterKeyMissing, match="version 1 of the master key is needed, and the file holds 2"):
        Vault(MasterKey(b"\x01" * 32, version=2), CLOCK).open(sealed, **PLACE)


def test_an_old_format_is_refused_by_name() -> None:
    with pytest.raises(SealBroken, match="a format that this version does not read"):
        vault().open(b"\x00" + seal(b"x")[1:], **PLACE)


def test_a_broken_seal_tells_neither_text_nor_key() -> None:
    sealed = bytearray(seal(CANARY.encode()))
    sealed[-1] ^= 1
    with pytest.raises(SealBroken) as caught:
        vault().open(bytes(sealed), **PLACE)
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    for secret in (CANARY, repr(b"\x01" * 32), base64.b64encode(b"\x01" * 32).decode()):
        assert secret not in shown


# --- marks --------------------------------------------------------------------------------------------------------


def test_marks_of_different_purposes_differ_and_are_keyed() -> None:
    marks = [vault(key).mac(purpose, b"data") for key in (b"\x01", b"\x02") for purpose in get_args(Purpose)]
    marks.append(hashlib.sha256(b"data").digest())
    assert len(set(marks)) == 2 * len(get_args(Purpose)) + 1
    assert {len(mark) for mark in marks} == {32}
    assert vault().mac("token", b"data") == vault().mac("token", b"data")


def test_an_unknown_purpose_is_a_defect() -> None:
    with pytest.raises(KeyError):
        vault().mac("tokens", b"data")  # type: ignore[arg-type]  # the defect that is meant


def test_the_check_value_knows_its_ledger() -> None:
    vault().require_check_value(vault().check_value())
    with pytest.raises(BadSettings, match="this ledger was written under another master key"):
        vault().require_check_value(vault(b"\x02").check_value())
