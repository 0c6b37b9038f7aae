"""Secrets: what hides them in memory, what seals them on disk, and the keys behind that.

Two things are sealed under the master key itself, in records that name its version: the upstream keys, each bound to
its team and key id; and the *ledger key*, 32 random bytes that a ledger keeps for life. Everything else rests on the
ledger key: the content of orders, and every keyed digest (tokens, gatewayClaim, the audit log's chain). So a rotation
of the master key writes the few records anew that are under it, in one transaction, while millions of contents and the
digests that OfferGrid holds stay as they are, and an old master key opens nothing of them.

    format 1, content of orders    head = 1 | 1              under the ledger key
    format 2, under the master key head = 2 | version (2)    under that version of the master key
    digest of one purpose          HMAC-SHA256 under HKDF-Expand(ledger key, "ordergate mac" | purpose)

A ledger that is older than this has no ledger key of its own: its contents were sealed under version 1 of the master
key, whose root becomes its ledger key (`LedgerKey.from_master`).

Nothing here logs; no error's text holds a secret. See `sealing` for the records and `master_key` for versions.
"""

import hashlib
import hmac
import re
from typing import Final, Literal, get_args

from gateway.broker.hidden import Hidden
from gateway.broker.master_key import MASTER_KEY_BYTES, Keyring, MasterKey, Masters, Root
from gateway.broker.sealing import joined, open_record, seal_record
from gateway.clock import Clock
from gateway.errors import BadSettings, SealBroken

__all__ = ["MASTER_KEY_BYTES", "LedgerKey", "MasterKey", "Purpose", "Secret", "Vault", "version_of"]

Purpose = Literal["token", "claim-key", "claim-body", "check", "audit"]

_CONTENT: Final = b"\x01\x01"
"""The head of what is sealed under the ledger key: the format, and which ledger key, of which there is one."""

_UNDER_MASTER: Final = 2
_CONTENT_LABEL: Final = b"ordergate seal"
_MASTER_LABEL: Final = b"ordergate master seal"
_LEDGER_KEY_PLACE: Final = ("meta", "ledger_key")
_CHECKED: Final = b"this ledger belongs to this master key"


class Secret(Hidden):
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


class LedgerKey(Root):
    """What a ledger's contents and digests rest on, for its whole life. Sealed in the ledger, under the master key.

    `from_master`: it is the root of version 1 of the master key, as in ledgers that are older than ledger keys. Whoever
    has that version has this key too, however often the master key is rotated.
    """

    __slots__ = ("from_master",)

    def __init__(self, root: bytes, *, from_master: bool = False) -> None:
        super().__init__(root)
        self.from_master = from_master

    @classmethod
    def new(cls, clock: Clock) -> "LedgerKey":
        return cls(clock.random_bytes(MASTER_KEY_BYTES))

    @classmethod
    def of_an_older_ledger(cls, master: MasterKey) -> "LedgerKey":
        return cls(master.given_to(bytes), from_master=True)

    def sealed(self, master: MasterKey, *, ledger_id: str, clock: Clock) -> bytes:
        """For the ledger of that id, under that version of the master key."""
        origin = b"\x01" if self.from_master else b"\x00"
        return self.given_to(
            lambda root: seal_record(
                master, label=_MASTER_LABEL, head=_head(master.version), place=(*_LEDGER_KEY_PLACE, ledger_id),
                plaintext=origin + root, clock=clock,
            )
        )  # fmt: skip

    @classmethod
    def opened(cls, sealed: bytes, masters: Masters, *, ledger_id: str) -> "LedgerKey":
        """Raises SealBroken, and MasterKeyMissing where the file does not hold the version."""
        name = ".".join(_LEDGER_KEY_PLACE)
        version = version_of(sealed, name)
        plaintext = open_record(
            masters.to_open(version), label=_MASTER_LABEL, head=_head(version), place=(*_LEDGER_KEY_PLACE, ledger_id),
            sealed=sealed, name=name,
        )  # fmt: skip
        return cls(plaintext[1:], from_master=plaintext[:1] == b"\x01")


class Vault(Hidden):
    """Seals, opens and marks. May be used by any thread.

    `key`: what contents and digests rest on. `masters`: what upstream keys are sealed under; without it that is the
    key, too, where it is a MasterKey.
    """

    __slots__ = ("_clock", "_key", "_mac_keys", "_masters")

    def __init__(self, key: Root, clock: Clock, masters: Masters | None = None) -> None:
        self._key = key
        self._clock = clock
        alone = (key,) if isinstance(key, MasterKey) else ()
        self._masters = Masters(Keyring(*alone)) if masters is None else masters
        self._mac_keys = {name: key.expand(b"ordergate mac" + joined(name)) for name in get_args(Purpose)}

    def seal(self, plaintext: bytes, *, table: str, row: str, column: str) -> bytes:
        """Encrypt an order's content for one place. 46 bytes longer than the plaintext."""
        return seal_record(
            self._key, label=_CONTENT_LABEL, head=_CONTENT, place=(table, row, column), plaintext=plaintext,
            clock=self._clock,
        )  # fmt: skip

    def seal_secret(self, secret: Secret, *, table: str, row: str, column: str, version: int) -> bytes:
        """A secret's text under that version of the master key, so that whoever stores one need not see it.

        Raises BadSettings or MasterKeyMissing where the file does not hold the version.
        """
        return seal_record(
            self._masters.of_version(version), label=_MASTER_LABEL, head=_head(version), place=(table, row, column),
            plaintext=secret.reveal().encode(), clock=self._clock,
        )  # fmt: skip

    def open_secret(self, sealed: bytes, *, table: str, row: str, column: str) -> Secret:
        """`open` as a secret. Raises `SealBroken`."""
        return Secret(self.open(sealed, table=table, row=row, column=column).decode())

    def open(self, sealed: bytes, *, table: str, row: str, column: str) -> bytes:
        """The plaintext that was sealed for this very place. Raises `SealBroken`.

        MasterKeyMissing (which is one) where it is under a version of the master key that is not there; BadSettings
        where that one's file cannot be read.
        """
        name, place = f"{table}.{column}", (table, row, column)
        if sealed[:1] == _CONTENT[:1]:
            if sealed[: len(_CONTENT)] != _CONTENT:
                raise SealBroken(f"the sealed value in {name} is under another key, or cut short")
            return open_record(
                self._key, label=_CONTENT_LABEL, head=_CONTENT, place=place, sealed=sealed, name=name
            )
        version = version_of(sealed, name)
        master = self._masters.to_open(version)
        plaintext = open_record(
            master, label=_MASTER_LABEL, head=_head(version), place=place, sealed=sealed, name=name
        )
        self._masters.stands_under(version)
        return plaintext

    def mac(self, purpose: Purpose, data: bytes) -> bytes:
        """HMAC-SHA256 (32 bytes) under the purpose's own key. Compare with `hmac.compare_digest`."""
        return hmac.digest(self._mac_keys[purpose], data, hashlib.sha256)

    def check_value(self) -> bytes:
        """32 bytes that tell whether a ledger was written under this ledger key, and nothing about the key."""
        return self.mac("check", _CHECKED)

    def require_check_value(self, stored: bytes) -> None:
        """Raise `BadSettings` where the ledger's check value is another key's."""
        if not hmac.compare_digest(stored, self.check_value()):
            raise BadSettings(
                "secrets.master_key_file: this ledger was written under another master key: "
                "restore the key file that belongs to it"
            )


def version_of(sealed: bytes, name: str) -> int:
    """The version of the master key that a record says it is under. SealBroken where it says none."""
    if len(sealed) < len(_head(1)):
        raise SealBroken(f"the sealed value in {name} is cut short")
    if sealed[0] != _UNDER_MASTER:
        raise SealBroken(f"the sealed value in {name} has a format that this version does not read")
    return int.from_bytes(sealed[1:3], "big")


def _head(version: int) -> bytes:
    return bytes((_UNDER_MASTER,)) + version.to_bytes(2, "big")
