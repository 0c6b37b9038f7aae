"""Canaries: texts that must be found nowhere, in every form in which they could get somewhere."""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote


def forms(canary: bytes) -> Iterator[bytes]:
    """As it is, in hexadecimal digits, in base64 wherever it begins in a longer text, and as JSON and URLs write it."""
    yield canary
    yield canary.hex().encode()
    yield canary.hex().upper().encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):
            # The first and last digits depend on what stands beside it.
            encoded = encode(bytes(before) + canary).rstrip(b"=")
            yield encoded[-(-before * 8 // 6) : len(encoded) - 1]
    text = canary.decode("latin-1")
    yield json.dumps(text)[1:-1].encode()
    yield repr(canary)[2:-1].encode()
    yield quote(canary, safe="").encode()


def found(places: Mapping[str, bytes], canaries: Mapping[str, bytes]) -> list[str]:
    """Which canary stands where."""
    return [
        f"{place} holds {name}"
        for name, canary in canaries.items()
        for form in set(forms(canary))
        for place, content in places.items()
        if form in content
    ]


def without(canaries: Mapping[str, bytes], kinds: Iterable[str]) -> dict[str, bytes]:
    """Those whose names do not begin so."""
    left_out = tuple(kinds)
    return {name: canary for name, canary in canaries.items() if not name.startswith(left_out)}
