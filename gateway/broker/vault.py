"""Secrets: what hides them in memory, what seals them on disk, and the one key behind both.

The master key is a file of 32 random bytes. It is never used itself: HKDF-SHA256 (RFC 5869) turns it once into a
root, and every use has a key of its own, expanded from the root under its own label:

    root = HKDF-Extract(salt = "ordergate master key", master key)
    key of one sealed record = HKDF-Expand(root, "ordergate seal" | versions | the record's 16 random bytes)
    key of one purpose       = HKDF-Expand(root, "ordergate mac" | purpose)

A sealed record is AES-256-GCM under a key that no other record has, bound to its table, row and column:

    format (1) | master key version (1) | salt (16) | nonce (12) | ciphertext | tag (16)

`Vault` is immutable and may be used by any thread. Nothing here logs; no error's text holds a secret.
"""

import hashlib
import hmac
import re
from pathlib import Path
from typing import Any, Final, Literal, NoReturn, get_args

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from gateway.broker.secret_file import SecretFile
from gateway.clock import Clock
from gateway.errors import BadSettings, SealBroken

MASTER_KEY_BYTES: Final = 32
Purpose = Literal["token", "claim-key", "claim-body", "check", "audit"]

_FORMAT: Final = 1
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12  # what GCM is made for
_TAG_BYTES: Final = 16
_HEAD_BYTES: Final = 2 + _SALT_BYTES + _NONCE_BYTES
_CHECKED: Final = b"this ledger belongs to this master key"


class _Unshown:
    """Shows nothing of itself, and cannot be copied out of the process by pickling or copying."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return format("***", spec)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} is neither pickled nor copied")

    def __getstate__(self) -> NoReturn:
        self.__reduce_ex__(None)

    def __copy__(self) -> NoReturn:
        self.__reduce_ex__(None)

    def __deepcopy__(self, memo: object) -> NoReturn:
        self.__reduce_ex__(None)


class Secret(_Unshown):
    """A text that must not be seen: an upstream key, a token. `reveal` is the only way to it; look for its callers.

    Equal in constant time for texts of the same length; not hashable, so that it is no dictionary's key.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def matches(self, form: re.Pattern[str]) -> bool:
        """Whether the whole text has this form, without showing it to whoever asks."""
        return form.fullmatch(self._text) is not None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        mine, theirs = (text.encode("utf-8", "surrogatepass") for text in (self._text, other._text))
        return hmac.compare_digest(mine, theirs)

    __hash__ = None  # type: ignore[assignment]  # typeshed says that every object can be hashed


class MasterKey(_Unshown):
    """The root that every key is expanded from. `version` is written into what is sealed under it (1 to 255)."""

    __slots__ = ("_root", "version")

    def __init__(self, material: bytes, *, version: int = 1) -> None:
        if len(material) != MASTER_KEY_BYTES:
            raise ValueError(f"a master key is {MASTER_KEY_BYTES} bytes")
        self._root = HKDF.extract(SHA256(), b"ordergate master key", material)
        self.version = version

    def expand(self, label: bytes) -> bytes:
        """32 bytes for this label alone: HKDF-Expand, one HMAC."""
        return HKDFExpand(algorithm=SHA256(), length=32, info=label).derive(self._root)


class Vault(_Unshown):
    """Seals, opens and marks under one master key."""

    __slots__ = ("_clock", "_mac_keys", "_master")

    def __init__(self, master: MasterKey, clock: Clock) -> None:
        self._master = master
        self._clock = clock
        self._mac_keys = {name: master.expand(b"ordergate mac" + _joined(name)) for name in get_args(Purpose)}

    def seal(self, plaintext: bytes, *, table: str, row: str, column: str) -> bytes:
        """Encrypt for one place. Two seals of the same plaintext differ. 46 bytes longer than the plaintext."""
        versions = bytes((_FORMAT, self._master.version))
        salt, nonce = self._clock.random_bytes(_SALT_BYTES), self._clock.random_bytes(_NONCE_BYTES)
        place = _place(versions, table, row, column)
        return versions + salt + nonce + self._cipher(versions, salt).encrypt(nonce, plaintext, place)

    def seal_secret(self, secret: Secret, *, table: str, row: str, column: str) -> bytes:
        """`seal` of a secret's text, so that whoever stores one need not see it."""
        return self.seal(secret.reveal().encode(), table=table, row=row, column=column)

    def open_secret(self, sealed: bytes, *, table: str, row: str, column: str) -> Secret:
        """`open` as a secret. Raises `SealBroken`."""
        return Secret(self.open(sealed, table=table, row=row, column=column).decode())

    def open(self, sealed: bytes, *, table: str, row: str, column: str) -> bytes:
        """The plaintext that was sealed for this very place. Raises `SealBroken`."""
        versions = bytes((_FORMAT, self._master.version))
        if len(sealed) < _HEAD_BYTES + _TAG_BYTES:
            raise SealBroken(f"the sealed value in {table}.{column} is cut short")
        if sealed[0] != _FORMAT:
            raise SealBroken(f"the sealed value in {table}.{column} has a format that this version does not read")
        if sealed[1] != self._master.version:
            raise SealBroken(f"the sealed value in {table}.{column} is under another version of the master key")
        salt, nonce = sealed[2 : 2 + _SALT_BYTES], sealed[2 + _SALT_BYTES : _HEAD_BYTES]
        place = _place(versions, table, row, column)
        try:
            return self._cipher(versions, salt).decrypt(nonce, sealed[_HEAD_BYTES:], place)
        except InvalidTag as fault:
            raise SealBroken(
                f"the sealed value in {table}.{column} was changed, moved, or sealed under another key"
            ) from fault

    def mac(self, purpose: Purpose, data: bytes) -> bytes:
        """HMAC-SHA256 (32 bytes) under the purpose's own key. Compare with `hmac.compare_digest`."""
        return hmac.digest(self._mac_keys[purpose], data, hashlib.sha256)

    def check_value(self) -> bytes:
        """32 bytes that tell whether a ledger was written under this master key, and nothing about the key."""
        return self.mac("check", _CHECKED)

    def require_check_value(self, stored: bytes) -> None:
        """Raise `BadSettings` where the ledger's check value is another master key's."""
        if not hmac.compare_digest(stored, self.check_value()):
            raise BadSettings(
                "secrets.master_key_file: this ledger was written under another master key: "
                "restore the key file that belongs to it"
            )

    def _cipher(self, versions: bytes, salt: bytes) -> AESGCM:
        return AESGCM(self._master.expand(b"ordergate seal" + versions + salt))


def _joined(*parts: str) -> bytes:
    """Parts so that no two lists of parts give the same bytes: each behind its length, 4 bytes big-endian."""
    encoded = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


def _place(versions: bytes, table: str, row: str, column: str) -> bytes:
    return b"ordergate seal" + versions + _joined(table, row, column)


def load_or_create_master_key(path: Path, may_create: bool, clock: Clock) -> Vault:
    """The vault under the master key in `path`, which is made where it is missing and `may_create` says so.

    See `secret_file` for what is asked of the file. `BadSettings`, one line, where it is not so.
    """
    file = SecretFile(
        path,
        "secrets.master_key_file",
        sizes=(MASTER_KEY_BYTES, MASTER_KEY_BYTES),
        missing="is not there, and is made for a new SQLite ledger only: restore it from its backup",
    )
    make = (lambda: clock.random_bytes(MASTER_KEY_BYTES)) if may_create else None
    return Vault(MasterKey(file.load(make, clock)), clock)
