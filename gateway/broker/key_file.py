"""The master key's file. One version: its 32 bytes as they are. After a rotation, a text:

    ordergate master key
    1 5f0c…  (64 hexadecimal digits)
    2 a91e…
    check 0f3d77c0a1b2c3d4  (16 digits of SHA-256 over the lines before)

The newest version seals. Older ones stay, so that a backup from before a rotation can be restored, until they are
dropped. What is asked of the file itself (mode, owner, no link): see `secret_file`.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gateway.broker.hidden import Hidden
from gateway.broker.master_key import MASTER_KEY_BYTES, MOST_VERSIONS, Keyring, MasterKey
from gateway.broker.secret_file import Put, SecretFile
from gateway.clock import Clock
from gateway.errors import BadSettings, Refused

SETTING: Final = "secrets.master_key_file"
MOST_BYTES: Final = 8192
_TITLE: Final = b"ordergate master key\n"
_LINE: Final = re.compile(rb"([1-9][0-9]{0,4}) ([0-9a-f]{64})")
_CHECK: Final = re.compile(rb"check ([0-9a-f]{16})\n")


class KeyFile(Hidden):
    """The file at `path`. Every method raises BadSettings, one line, where it cannot be used."""

    __slots__ = ("_clock", "_file", "_path")

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._file = SecretFile(
            path,
            SETTING,
            sizes=(MASTER_KEY_BYTES, MOST_BYTES),
            missing="is not there, and is made for a new SQLite ledger only: restore it from its backup",
        )

    def read(self, *, may_create: bool = False) -> Keyring:
        """What it holds; made first, with one version, where it is missing and `may_create` says so."""
        return Keyring(*(MasterKey(key, version=version) for version, key in self._materials(may_create).items()))

    @contextmanager
    def turning(self) -> Iterator["Turning"]:
        """To change it. Refused where another process does so right now."""
        with self._file.alone() as put:
            yield Turning(lambda: self._materials(False), put, self._clock)

    def _materials(self, may_create: bool) -> Mapping[int, bytes]:
        make = (lambda: self._clock.random_bytes(MASTER_KEY_BYTES)) if may_create else None
        content = self._file.load(make, self._clock)
        if len(content) == MASTER_KEY_BYTES:
            return {1: content}
        found = _parsed(content)
        if found is None:
            raise BadSettings(
                f"{SETTING}: {self._path}: is {len(content)} bytes long, not {MASTER_KEY_BYTES}, and no whole list of "
                "versions: restore it from its backup"
            )
        return found


class Turning(Hidden):
    """The file while this process alone may change it."""

    __slots__ = ("_clock", "_held", "_put")

    def __init__(self, held: Callable[[], Mapping[int, bytes]], put: Put, clock: Clock) -> None:
        self._held = held
        self._put = put
        self._clock = clock

    def add(self, version: int) -> None:
        """A new version, of random bytes: durable in the file when this returns."""
        if version > MOST_VERSIONS:
            raise Refused(f"the master key was rotated {MOST_VERSIONS} times: there is no further version")
        self._write({**self._held(), version: self._clock.random_bytes(MASTER_KEY_BYTES)})

    def keep_only(self, version: int) -> None:
        """Every other version is gone from the file when this returns."""
        self._write({version: self._held()[version]})

    def _write(self, materials: Mapping[int, bytes]) -> None:
        lines = [b"%d %b\n" % (version, materials[version].hex().encode()) for version in sorted(materials)]
        text = b"".join((_TITLE, *lines))
        whole = text + b"check %b\n" % _digest(text)
        if len(whole) > MOST_BYTES:
            raise Refused("the master key's file is full of old versions: ordergate secrets rotate --drop-old")
        self._put(whole)


def _parsed(content: bytes) -> Mapping[int, bytes] | None:
    """Version to bytes; None where it is not as it was written, wherever it was cut or changed."""
    text, newline, check = content.rpartition(b"check ")
    said = _CHECK.fullmatch(newline + check)
    if said is None or said[1] != _digest(text) or not text.startswith(_TITLE):
        return None
    lines = [_LINE.fullmatch(line) for line in text.removeprefix(_TITLE).splitlines()]
    found = {int(line[1]): bytes.fromhex(line[2].decode()) for line in lines if line is not None}
    if not found or len(found) != len(lines) or max(found) > MOST_VERSIONS:
        return None
    return found


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:16].encode()
