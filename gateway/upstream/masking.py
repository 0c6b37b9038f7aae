"""Takes an upstream key out of what OfferGrid answered, before anyone sees it.

Looked for are the key itself and every spelling of it with JSON escapes: `\\/`, `\\u0041`, and the same escaped
again, as when a JSON text is quoted inside another one. An answer without the key comes back as the same object.
"""

import re

MASK = b"***"

# At most eight backslashes are read as one escape: enough for a text quoted three times over, and it bounds the
# time that a body made of backslashes can take.
_ESCAPED_ASCII = re.compile(rb"\\{1,8}u00([2-7][0-9A-Fa-f])")


def mask(text: bytes, key: bytes) -> bytes:
    """`text` with every occurrence of `key` replaced by `***`. Letters of the key are matched exactly."""
    if b"\\" not in text:
        return text.replace(key, MASK) if key in text else text
    plain_key = key.replace(b"\\", b"")
    if not plain_key or plain_key not in _without_escapes(text):
        return text
    # Rare: only an answer that does hold the key comes here, so the pattern is not kept.
    return re.sub(b"".join(map(_any_spelling, plain_key)), MASK, text)


def holds_escape_or(text: bytes, key: bytes) -> bool:
    """Cheap and generous: False only when `mask` would certainly change nothing."""
    return key in text or b"\\" in text


def _without_escapes(text: bytes) -> bytes:
    return _ESCAPED_ASCII.sub(lambda found: bytes((int(found[1], 16),)), text).replace(b"\\", b"")


def _any_spelling(char: int) -> bytes:
    code = "".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() else c for c in f"{char:02x}").encode()
    return rb"(?:\\{0,8}" + re.escape(bytes((char,))) + rb"|\\{1,8}u00" + code + rb")"
