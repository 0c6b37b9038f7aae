"""By which digests an order is known again."""

import json
from typing import Any, cast

from msgspec import structs

from gateway.core import json_text
from gateway.flow.describe import Describer
from gateway.flow.ports import OrderRequest
from gateway.ledger.interface import Claimed
from tests.flow.flow_tools import CLOCK, TENANT, VAULT

REQUEST = OrderRequest(
    tenant=TENANT, body=cast("Any", None), content=b"{}", idempotency_key="k", request_id="r-1", traceparent="",
    received_ms=0, hung_up=cast("Any", None),
)  # fmt: skip


def _digests(request: OrderRequest) -> tuple[bytes, bytes | None]:
    describer = Describer(marks=VAULT, ledger_id="ledger-1", clock=CLOCK, implicit_window_s=300, ttl_s=86_400)
    order = describer.order(request)
    return order.fingerprint, order.key_digest


def test_digests_are_the_tenants_own() -> None:
    """They stand in OfferGrid's listing: nobody learns from it that two tenants sent the same."""
    own = _digests(REQUEST)
    assert own == _digests(structs.replace(REQUEST, request_id="r-2", received_ms=5))
    for scope in ("shop-2", "sho", "7"):
        other = _digests(structs.replace(REQUEST, tenant=structs.replace(TENANT, scope=scope)))
        assert not set(own) & set(other)


def test_digests_rest_on_nothing_that_a_restored_ledger_cannot_know() -> None:
    """A tenant that was made again has its name, and another id, team and rules."""
    again = structs.replace(TENANT, tenant_id=8, team_id=9, defaults={}, enforced={}, created_ms=5)
    assert _digests(REQUEST) == _digests(structs.replace(REQUEST, tenant=again))


def test_a_scope_that_is_not_the_tenants_name_is_told() -> None:
    """By it a restored ledger knows whose order it is, where several tenants had one name."""
    request = structs.replace(REQUEST, body=json_text.read_object(b"{}"))
    describer = Describer(marks=VAULT, ledger_id="ledger-1", clock=CLOCK, implicit_window_s=300, ttl_s=86_400)
    for scope, told in ((TENANT.name, {}), ("shop#0a1b2c3d", {"gatewayScope": "shop#0a1b2c3d"})):
        asked = structs.replace(request, tenant=structs.replace(TENANT, scope=scope))
        order = describer.order(asked)
        body = describer.body(asked, order, Claimed(order_id="id", version=1, key_digest=order.key_digest))
        metadata = json.loads(body)["metadata"]
        assert {name: metadata[name] for name in metadata if name == "gatewayScope"} == told
        assert metadata["gatewayTenant"] == TENANT.name


def test_a_key_and_a_body_of_the_same_bytes_have_different_digests() -> None:
    body, key = _digests(structs.replace(REQUEST, content=b"k"))
    assert body != key
