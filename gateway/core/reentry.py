"""Knowing an order again by what the gateway wrote into its metadata, when the ledger has lost it.

`gatewayClaim` holds the two keyed digests by which the ledger finds an order: of its tenant and idempotency key, and of
its tenant and body. So a repeat of an order that only OfferGrid remembers is known as one.
"""

import json
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

import msgspec

from gateway.core.listing import ListedOrder, Listing

_ORDER_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_TENANT: Final = re.compile(r"[a-z][a-z0-9-]{0,62}", re.ASCII)
_SCOPE: Final = re.compile(r"[0-9]{1,18}|[a-z][a-z0-9-]{0,62}(?:#[0-9a-f]{8})?", re.ASCII)
_CLAIM: Final = re.compile(r"((?:[0-9a-f]{64})?)\.([0-9a-f]{64})", re.ASCII)
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)


class Reentry(msgspec.Struct, frozen=True, kw_only=True):
    """An order of this ledger as OfferGrid lists it. `received_ms` is wall time; `text` its JSON there.

    `scope` is whose it is: `tenant` may have been the name of several, one after the other. `key_digest` None: it was
    sent without an idempotency key.
    """

    order_id: str
    tenant: str
    scope: str
    key_digest: bytes | None
    fingerprint: bytes
    received_ms: int
    upstream_order_id: str
    upstream_status: str | None
    text: bytes


class Unreadable(msgspec.Struct, frozen=True, kw_only=True):
    """An order of this ledger whose own metadata is not as the gateway wrote it: nobody can tell which it is."""

    upstream_order_id: str


def own_orders(listing: Listing, ledger_id: str) -> list[Reentry | Unreadable]:
    """The listing's orders that were placed by this ledger, the oldest first; an order listed twice stands there twice.

    Lists are usually the newest first, so of equal moments the last one comes first.
    """
    own = [_read(entry) for entry in reversed(listing.orders) if entry.gateway_ledger == ledger_id]
    return sorted(own, key=lambda order: order.received_ms if isinstance(order, Reentry) else 0)


def foreign_orders(listing: Listing, ledger_id: str) -> int:
    """How many of the listing's orders another ledger placed."""
    return sum(entry.gateway_ledger not in (None, ledger_id) for entry in listing.orders)


def lacks(listing: Listing, placed: Iterable[tuple[str, str]]) -> list[str]:
    """Those of the placed orders (order id, upstream order id) that the listing does not hold with their metadata."""
    held = {(entry.gateway_order_id, entry.upstream_order_id) for entry in listing.orders}
    return [order_id for order_id, upstream_order_id in placed if (order_id, upstream_order_id) not in held]


def _read(entry: ListedOrder) -> Reentry | Unreadable:
    metadata: dict[str, Any] = json.loads(entry.text)["metadata"]  # a listed order with a ledger has metadata
    claim = _match(_CLAIM, metadata.get("gatewayClaim"))
    order_id = _match(_ORDER_ID, entry.gateway_order_id)
    tenant = _match(_TENANT, metadata.get("gatewayTenant"))
    scope = _match(_SCOPE, metadata.get("gatewayScope", metadata.get("gatewayTenant")))
    received_ms = _wall_ms(metadata.get("gatewayReceivedAt"))
    if claim is None or order_id is None or tenant is None or scope is None or received_ms is None:
        return Unreadable(upstream_order_id=entry.upstream_order_id)
    return Reentry(
        order_id=order_id[0],
        tenant=tenant[0],
        scope=scope[0],
        key_digest=bytes.fromhex(claim[1]) or None,
        fingerprint=bytes.fromhex(claim[2]),
        received_ms=received_ms,
        upstream_order_id=entry.upstream_order_id,
        upstream_status=entry.status,
        text=entry.text,
    )


def _match(form: re.Pattern[str], value: object) -> re.Match[str] | None:
    return form.fullmatch(value) if isinstance(value, str) else None


def _wall_ms(value: object) -> int | None:
    found = _match(_MOMENT, value)
    try:
        return None if found is None else round(datetime.fromisoformat(found[0]).timestamp() * 1000)
    except ValueError:  # the 31st of February
        return None
