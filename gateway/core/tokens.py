"""A tenant's token: `ogt_<tokenId>_<secret>`.

The id is readable (logs and `token list` name it); the secret holds 256 random bits. Only a keyed hash of the
secret is stored, so that neither the database nor a backup of it can be used to call the gateway.
"""

import base64
import re
from collections.abc import Mapping
from typing import Final

import msgspec

PREFIX: Final = "ogt"
ID_BYTES: Final = 6
SECRET_BYTES: Final = 32
_SECONDS: Final[Mapping[str, int]] = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
DURATION: Final = re.compile(r"([0-9]{1,9})([smhd])", re.ASCII)
"""How long a token is valid, as an operator says it: `90d`, `12h`, `30m` or `45s`."""

_FORM: Final = re.compile(r"ogt_([a-z2-7]{10})_([a-z2-7]{52})", re.ASCII)


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """The two halves of what a tenant shows."""

    token_id: str
    secret: str

    def __repr__(self) -> str:
        return f"Token({self.token_id})"

    def text(self) -> str:
        return f"{PREFIX}_{self.token_id}_{self.secret}"


def mint(id_bytes: bytes, secret_bytes: bytes) -> Token:
    """A token from 6 and 32 random bytes. Base32 in lower case: no case to confuse, no `_` inside."""
    return Token(token_id=_base32(id_bytes), secret=_base32(secret_bytes))


def parse(text: str) -> Token | None:
    """The halves, or None for anything that cannot be one of ours."""
    found = _FORM.fullmatch(text)
    return Token(token_id=found[1], secret=found[2]) if found else None


def seconds_of(duration: str) -> int | None:
    """A duration in seconds; None where it has not the form of one."""
    found = DURATION.fullmatch(duration)
    return int(found[1]) * _SECONDS[found[2]] if found else None


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode("ascii").rstrip("=").lower()
