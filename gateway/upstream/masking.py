"""Takes an upstream key out of what OfferGrid answered, before anyone sees it.

Looked for are the key itself and every spelling of it with JSON escapes: `\\/`, `\\u0041`, and the same escaped
again, as when a JSON text is quoted inside another one. An answer without the key comes back as the same object.
"""

import asyncio
import io
import re

MASK = b"***"

# At most eight backslashes are read as one escape: enough for a text quoted three times over, and it bounds the
# time that a body made of backslashes can take.
_ESCAPED_ASCII = re.compile(rb"\\{1,8}u00([2-7][0-9A-Fa-f])")
_LONGEST_SPELLING = 8 + len("u0041")
"""Bytes that one letter of the key can take."""
_TURN_BYTES = 64 * 1024
"""Looked through at a time: some milliseconds where a body is made of nothing but escapes."""


def mask(text: bytes, key: bytes) -> bytes:
    """`text` with every occurrence of `key` replaced by `***`. Letters of the key are matched exactly."""
    if b"\\" not in text:
        return text.replace(key, MASK) if key in text else text
    if not _may_hold(text, key):
        return text
    return _pattern(key).sub(MASK, text)


async def mask_in_turns(text: bytes, key: bytes, turn_bytes: int = _TURN_BYTES) -> bytes:
    """As `mask`; where `text` is long the event loop gets its turn after every `turn_bytes` of it."""
    if len(text) <= turn_bytes:
        return mask(text, key)
    # A spelling that begins in a piece may end behind it.
    beyond = _LONGEST_SPELLING * len(key)
    for start in range(0, len(text), turn_bytes):
        if _may_hold(text[start : start + turn_bytes + beyond], key):
            return await _masked_in_turns(text, key, turn_bytes, beyond)
        await asyncio.sleep(0)
    return text


async def _masked_in_turns(text: bytes, key: bytes, turn_bytes: int, beyond: int) -> bytes:
    pattern = _pattern(key)
    # Unlike joined pieces, what is written to it is not copied once more at the end.
    masked = io.BytesIO()
    done = 0
    for start in range(0, len(text), turn_bytes):
        end = start + turn_bytes
        # Asked of each piece again: the pattern is slow.
        if _may_hold(text[start : end + beyond], key):
            for found in pattern.finditer(text, max(start, done), end + beyond):
                if found.start() >= end:
                    break
                masked.write(text[done : found.start()] + MASK)
                done = found.end()
        if done < end:
            masked.write(text[done:end])
            done = end
        await asyncio.sleep(0)
    return masked.getvalue()


def holds_escape_or(text: bytes, key: bytes) -> bool:
    """Cheap and generous: False only when `mask` would certainly change nothing."""
    return key in text or b"\\" in text


def _may_hold(text: bytes, key: bytes) -> bool:
    plain_key = key.replace(b"\\", b"")
    return bool(plain_key) and plain_key in (_without_escapes(text) if b"\\" in text else text)


def _pattern(key: bytes) -> re.Pattern[bytes]:
    # Rare: only an answer that does hold the key comes here, so the pattern is not kept.
    return re.compile(b"".join(map(_any_spelling, key.replace(b"\\", b""))))


def _without_escapes(text: bytes) -> bytes:
    return _ESCAPED_ASCII.sub(lambda found: bytes((int(found[1], 16),)), text).replace(b"\\", b"")


def _any_spelling(char: int) -> bytes:
    code = "".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() else c for c in f"{char:02x}").encode()
    return rb"(?:\\{0,8}" + re.escape(bytes((char,))) + rb"|\\{1,8}u00" + code + rb")"
