"""A sealed record: AES-256-GCM under a key that no other record has, bound to its place.

    head | salt (16) | nonce (12) | ciphertext | tag (16)

    the record's key = HKDF-Expand(root, label | head | salt)
    bound to         = label | head | each part of its place behind its length (4 bytes, big-endian)

The head names the format, and under what the record is sealed. Salt and nonce are random, both of them for each
record, so that no key is ever used with two nonces that could be the same.
"""

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.broker.master_key import Root
from gateway.clock import Clock
from gateway.errors import SealBroken

_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12  # what GCM is made for
_TAG_BYTES: Final = 16


def seal_record(
    root: Root, *, label: bytes, head: bytes, place: tuple[str, ...], plaintext: bytes, clock: Clock
) -> bytes:
    """The record, `len(head)` + 44 bytes longer than the plaintext. Two seals of the same plaintext differ."""
    salt, nonce = clock.random_bytes(_SALT_BYTES), clock.random_bytes(_NONCE_BYTES)
    cipher = AESGCM(root.expand(label + head + salt))
    return head + salt + nonce + cipher.encrypt(nonce, plaintext, label + head + joined(*place))


def open_record(
    root: Root, *, label: bytes, head: bytes, place: tuple[str, ...], sealed: bytes, name: str
) -> bytes:
    """The plaintext. SealBroken where the record is not whole, or was not sealed under this root for this place.

    `name`: what the record is called in that error's text.
    """
    body = memoryview(sealed)[len(head) :]
    if len(body) < _SALT_BYTES + _NONCE_BYTES + _TAG_BYTES:
        raise SealBroken(f"the sealed value in {name} is cut short")
    salt, nonce = bytes(body[:_SALT_BYTES]), bytes(body[_SALT_BYTES : _SALT_BYTES + _NONCE_BYTES])
    cipher = AESGCM(root.expand(label + head + salt))
    try:
        return cipher.decrypt(nonce, bytes(body[_SALT_BYTES + _NONCE_BYTES :]), label + head + joined(*place))
    except InvalidTag as fault:
        raise SealBroken(f"the sealed value in {name} was changed, moved, or sealed under another key") from fault


def joined(*parts: str) -> bytes:
    """Parts so that no two lists of parts give the same bytes: each behind its length, 4 bytes big-endian."""
    encoded = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
