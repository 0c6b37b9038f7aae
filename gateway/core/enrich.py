"""Metadata: what the gateway and the tenant's administration add to an order, as text spliced into text.

The tenant's own members keep their spelling and their order. `defaults` fill members that are absent, `enforced`
replace whatever is there, and the gateway's own members (`gateway…`) let the order be found again in OfferGrid's
listing. Nothing outside `metadata` is touched.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Final

from gateway.core.faults import Fault, escape
from gateway.core.json_text import JsonObject, members_at

METADATA: Final = "metadata"
RESERVED_PREFIX: Final = "gateway"
MAX_METADATA_BYTES: Final = 65_536
"""The tenant's own metadata as it was sent, in UTF-8. OfferGrid names no bound; orders must stay listable."""


def is_reserved(name: str) -> bool:
    """Whether a metadata member's name belongs to the gateway, in any case."""
    return name[: len(RESERVED_PREFIX)].casefold() == RESERVED_PREFIX


def metadata_of(body: JsonObject) -> JsonObject | None:
    """The tenant's own metadata object with its spans, or None where there is none."""
    member = body.member(METADATA)
    if member is None or not isinstance(member.value, Mapping):
        return None
    return members_at(body.text, member.start)


def metadata_size_fault(body: JsonObject) -> Fault | None:
    """The one fault that the spec's schema does not know: metadata of unreasonable size."""
    member = body.member(METADATA)
    if member is None or member.end - member.start <= MAX_METADATA_BYTES // 4:  # 4 bytes a character at most
        return None
    size = len(body.text[member.start : member.end].encode())
    return (
        Fault(f"/{METADATA}", f"is larger than {MAX_METADATA_BYTES} bytes") if size > MAX_METADATA_BYTES else None
    )


def reserved_faults(body: JsonObject) -> Iterator[Fault]:
    """One fault for each metadata member whose name the gateway keeps to itself."""
    metadata = metadata_of(body)
    for member in metadata.members if metadata else ():
        if is_reserved(member.name):
            yield Fault(f"/{METADATA}/{escape(member.name)}", "begins with a name that is the gateway's own")


def enriched(
    body: JsonObject,
    *,
    own: Mapping[str, str],
    defaults: Mapping[str, str],
    enforced: Mapping[str, str],
) -> bytes:
    """The bytes to send: the tenant's text with `metadata` replaced, or added behind the last member.

    `own` holds the gateway's members as plain strings; `defaults` and `enforced` map names to JSON texts.
    """
    metadata = metadata_of(body)
    parts: list[str] = []
    present: set[str] = set()
    for member in metadata.members if metadata else ():
        value = enforced.get(member.name, body.text[member.start : member.end])
        parts.append(body.text[member.begin : member.start] + value)
        present.add(member.name)
    added = {**defaults, **enforced}
    parts += [f"{json.dumps(name)}:{value}" for name, value in added.items() if name not in present]
    parts += [f"{json.dumps(name)}:{json.dumps(value)}" for name, value in own.items()]
    replacement = "{" + ",".join(parts) + "}"
    member_there = body.member(METADATA)
    if member_there is not None:
        text = body.text[: member_there.start] + replacement + body.text[member_there.end :]
    else:
        comma = "," if body.members else ""
        text = f'{body.text[: body.closing]}{comma}"{METADATA}":{replacement}{body.text[body.closing :]}'
    return text.encode()
