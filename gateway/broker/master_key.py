"""The master key: one version of it or several, and how keys are expanded from each.

A version is 32 random bytes. It is never used itself: HKDF-SHA256 (RFC 5869) turns it once into a root, and every use
has a key of its own, expanded from the root under a label of its own:

    root = HKDF-Extract(salt = "ordergate master key", version's bytes)
    key of one use = HKDF-Expand(root, label)

Each ledger stands under one version, which is written at the head of everything that is sealed under the master key.
"""

from collections.abc import Callable, Mapping
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from gateway.broker.hidden import Hidden
from gateway.errors import MasterKeyMissing, SealBroken

MASTER_KEY_BYTES: Final = 32
MOST_VERSIONS: Final = 0xFFFF  # two bytes at the head of a sealed record


class Root(Hidden):
    """32 bytes that keys are expanded from."""

    __slots__ = ("_root",)

    def __init__(self, root: bytes) -> None:
        if len(root) != MASTER_KEY_BYTES:
            raise ValueError(f"a root is {MASTER_KEY_BYTES} bytes")
        self._root = root

    def expand(self, label: bytes) -> bytes:
        """32 bytes for this label alone: HKDF-Expand, one HMAC."""
        return HKDFExpand(algorithm=SHA256(), length=32, info=label).derive(self._root)

    def given_to(self, seal: Callable[[bytes], bytes]) -> bytes:
        """What `seal` makes of the root: the one way in which it leaves this object."""
        return seal(self._root)


class MasterKey(Root):
    """One version of the master key, 1 to 65535."""

    __slots__ = ("version",)

    def __init__(self, material: bytes, *, version: int = 1) -> None:
        if len(material) != MASTER_KEY_BYTES:
            raise ValueError(f"a master key is {MASTER_KEY_BYTES} bytes")
        if not 1 <= version <= MOST_VERSIONS:
            raise ValueError(f"a master key's version is 1 to {MOST_VERSIONS}")
        super().__init__(HKDF.extract(SHA256(), b"ordergate master key", material))
        self.version = version


class Keyring(Hidden):
    """The versions that the master key's file holds."""

    __slots__ = ("_keys",)

    def __init__(self, *keys: MasterKey) -> None:
        self._keys: Mapping[int, MasterKey] = {key.version: key for key in keys}

    @property
    def versions(self) -> tuple[int, ...]:
        """The oldest first."""
        return tuple(sorted(self._keys))

    @property
    def newest(self) -> int:
        return max(self._keys)

    def of_version(self, version: int) -> MasterKey:
        """Raises MasterKeyMissing where it is not here."""
        found = self._keys.get(version)
        if found is None:
            held = ", ".join(str(one) for one in self.versions)
            raise MasterKeyMissing(f"version {version} of the master key is needed, and the file holds {held}")
        return found


class Masters(Hidden):
    """The master key as one process uses it, while it may be rotated by another.

    Only moves forward: what names an older version than the ledger was seen to stand under was put back by somebody,
    and is not opened. `read` reads the file again, when a version is asked for that was not there.
    """

    __slots__ = ("_keyring", "_oldest", "_read")

    def __init__(self, keyring: Keyring, read: Callable[[], Keyring] | None = None) -> None:
        self._keyring = keyring
        self._read = read
        self._oldest = 1

    @property
    def versions(self) -> tuple[int, ...]:
        return self._keyring.versions

    def of_version(self, version: int) -> MasterKey:
        """Raises MasterKeyMissing where the file does not hold it either, or BadSettings where it cannot be read."""
        if version not in self._keyring.versions and self._read is not None:
            self._keyring = self._read()
        return self._keyring.of_version(version)

    def to_open(self, version: int) -> MasterKey:
        """The same, for a record that names that version. SealBroken where the ledger is beyond it."""
        if version < self._oldest:
            raise SealBroken("the sealed value is under an older version of the master key than its ledger")
        return self.of_version(version)

    def stands_under(self, version: int) -> None:
        """The ledger was seen to stand under it."""
        self._oldest = max(self._oldest, version)
