"""An order is known again by its own metadata, whole or not at all."""

import json
from typing import Any

import pytest

from gateway.core.listing import Listing, read_listing
from gateway.core.reentry import Reentry, Unreadable, foreign_orders, lacks, own_orders

KEY, BODY = "ab" * 32, "cd" * 32
ID = "01890a5d-ac96-774b-bcce-b302099a8057"


def listed(upstream_order_id: Any = "up-1", **metadata: Any) -> dict[str, Any]:
    whole = {
        "own": "stays",
        "gatewayOrderId": ID,
        "gatewayTenant": "shop",
        "gatewayReceivedAt": "2026-01-02T03:04:05.678Z",
        "gatewayClaim": f"{KEY}.{BODY}",
        "gatewayLedger": "mine",
    }
    return {"orderId": upstream_order_id, "status": "OPEN", "metadata": {**whole, **metadata}}


def listing(*orders: dict[str, Any]) -> Listing:
    found = read_listing(json.dumps(orders).encode())
    assert found is not None
    return found


def test_an_order_of_ours_is_known_by_all_that_the_ledger_needs() -> None:
    order = listed()
    assert own_orders(listing(order), "mine") == [
        Reentry(
            order_id=ID,
            tenant="shop",
            scope="shop",
            key_digest=bytes.fromhex(KEY),
            fingerprint=bytes.fromhex(BODY),
            received_ms=1_767_323_045_678,
            upstream_order_id="up-1",
            upstream_status="OPEN",
            text=json.dumps(order).encode(),
        )
    ]


def test_an_order_without_an_idempotency_key_has_no_key_digest() -> None:
    (found,) = own_orders(listing(listed(gatewayClaim=f".{BODY}")), "mine")
    assert isinstance(found, Reentry) and found.key_digest is None


@pytest.mark.parametrize("scope", ["shop#0a1b2c3d", "17", "other"])
def test_whose_order_it_is_its_scope_says(scope: str) -> None:
    (found,) = own_orders(listing(listed(gatewayScope=scope)), "mine")
    assert isinstance(found, Reentry) and (found.tenant, found.scope) == ("shop", scope)


def test_orders_of_others_and_of_nobody_are_not_ours() -> None:
    found = listing(listed(gatewayLedger="theirs"), {"orderId": "x"}, {"orderId": "y", "metadata": {"a": 1}})
    assert own_orders(found, "mine") == []
    assert (foreign_orders(found, "mine"), foreign_orders(found, "theirs")) == (1, 0)


def test_the_oldest_comes_first_and_a_second_one_of_the_same_order_stays() -> None:
    moments = ["2026-01-02T03:04:05.678Z", "2026-01-01T00:00:00.000Z", "2026-01-02T03:04:05.678Z"]
    rows = [listed(f"up-{number}", gatewayReceivedAt=moment) for number, moment in enumerate(moments)]
    assert [order.upstream_order_id for order in own_orders(listing(*rows), "mine")] == ["up-1", "up-2", "up-0"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gatewayOrderId", None), ("gatewayOrderId", "1"), ("gatewayOrderId", ID.upper()), ("gatewayTenant", None),
        ("gatewayTenant", "Shop"), ("gatewayTenant", ""), ("gatewayTenant", 5), ("gatewayReceivedAt", None),
        ("gatewayReceivedAt", "2026-02-31T00:00:00.000Z"), ("gatewayReceivedAt", "yesterday"),
        ("gatewayReceivedAt", "2026-01-02T03:04:05.678+01:00"), ("gatewayClaim", None), ("gatewayClaim", f"{KEY}."),
        ("gatewayClaim", f"{KEY}{BODY}"), ("gatewayClaim", f"{KEY[1:]}.{BODY}"), ("gatewayClaim", f"{KEY}.{BODY}\n"),
        ("gatewayClaim", f"{KEY.upper()}.{BODY}"), ("gatewayClaim", {}),
        ("gatewayScope", None), ("gatewayScope", ""), ("gatewayScope", 5), ("gatewayScope", "shop#"),
        ("gatewayScope", "shop#0A1B2C3D"), ("gatewayScope", "shop#0a1b2c3d4"), ("gatewayScope", "#0a1b2c3d"),
    ],
)  # fmt: skip
def test_metadata_that_is_not_as_the_gateway_wrote_it_is_unreadable(name: str, value: object) -> None:
    assert own_orders(listing(listed(**{name: value})), "mine") == [Unreadable(upstream_order_id="up-1")]


def test_a_listing_lacks_what_it_does_not_hold_under_the_same_two_names() -> None:
    found = listing(listed("up-1"), listed("up-2", gatewayOrderId=None))
    assert lacks(found, [(ID, "up-1")]) == []
    assert lacks(found, [(ID, "up-2")]) == [ID]
    assert lacks(found, [("other", "up-1"), (ID, "up-1"), ("gone", "up-9")]) == ["other", "gone"]
