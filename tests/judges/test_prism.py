"""What the gateway sends, and what it answers, judged by Prism against the document that OfferGrid publishes."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.judges.document import WITH_ANSWERS
from tests.judges.prism import prism_mock, prism_proxy
from tests.judges.upstream import taking_upstream
from tests.support.needs import needs
from tests.support.stack import running_stack

pytestmark = needs("prism")


def place(base_url: str, order: Any, **headers: str) -> httpx.Response:
    with httpx.Client(trust_env=False, timeout=30) as client:
        return client.post(f"{base_url}/reseller/orders", json=order, headers=headers)


def varied(order: dict[str, Any]) -> list[dict[str, Any]]:
    """Orders that the document allows, told apart by what a gateway could spoil on the way."""
    return [
        order,
        order | {"notes": 'Zoë, 3. Stock — ☎ \u202e \\ " \u0001'},
        order | {"metadata": {"referralSource": "property-listing", "deep": {"list": [1, 2.50, None, True]}}},
        order | {"notNamedByTheDocument": {"kept": [1.50, -0.0, 2**53]}},
        order | {"items": [{"offerId": f"off-{number}", "extra": number} for number in range(50)]},
    ]


def test_prism_takes_a_right_order_and_refuses_a_wrong_one(document: Path, order: dict[str, Any]) -> None:
    """The judge itself: without this, that it refuses nothing of ours would prove nothing."""
    with taking_upstream() as upstream, prism_proxy(document, upstream.base_url) as judge:
        assert place(judge, order, **{"x-api-key": "key"}).status_code == 201
        assert len(upstream.taken) == 1
        assert place(judge, order).status_code == 401
        wrong = order | {"items": [{"offerId": 1}], "serviceAddress": {"street": "123 Main St"}}
        refused = place(judge, wrong, **{"x-api-key": "key"})
        assert refused.status_code == 422
        assert len(refused.json()["validation"]) == 5
        assert len(upstream.taken) == 1


def test_orders_leave_the_gateway_as_the_document_says(document: Path, order: dict[str, Any]) -> None:
    with (
        taking_upstream() as upstream,
        prism_proxy(document, upstream.base_url) as judge,
        running_stack(upstream_base_url=judge) as stack,
    ):
        orders = varied(order)
        for number, wanted in enumerate(orders):
            answer = place(stack.tenant_url, wanted, **stack.bearer)
            assert answer.status_code == 201, answer.text
            assert answer.json() == json.loads(upstream.taken[number].answer)
        for wanted, taken in zip(orders, upstream.taken, strict=True):
            own = {name: value for name, value in taken.body["metadata"].items() if not name.startswith("gateway")}
            sent = {name: value for name, value in taken.body.items() if name != "metadata"}
            assert sent == {name: value for name, value in wanted.items() if name != "metadata"}
            assert own == wanted.get("metadata", {})
            assert stack.token not in str(taken)


def test_answers_to_tenants_are_what_the_document_says(document: Path, order: dict[str, Any]) -> None:
    """Prism stands where a tenant's own OfferGrid client stood: between it and the gateway."""
    with (
        taking_upstream() as upstream,
        running_stack(upstream_base_url=upstream.base_url) as stack,
        prism_proxy(document, stack.tenant_url) as judge,
    ):
        answer = place(judge, order, **{"x-api-key": stack.token})
        assert answer.status_code == 201, answer.text
        assert answer.json() == json.loads(upstream.taken[0].answer)


@pytest.mark.parametrize("answers", [True, False], ids=["with the guides' answers", "as published"])
def test_prism_as_upstream_is_believed_only_where_it_names_the_order(
    document: Path, order: dict[str, Any], answers: bool
) -> None:
    """As published, 201 has no body, so its mock names no order: that is none that the gateway may claim."""
    with (
        prism_mock(WITH_ANSWERS if answers else document) as upstream,
        running_stack(upstream_base_url=upstream) as stack,
    ):
        answer = place(stack.tenant_url, order, **stack.bearer)
        if answers:
            assert answer.status_code == 201, answer.text
            assert answer.json()["orderId"] == "ord-123-abc"
        else:
            assert answer.status_code == 502, answer.text
            assert answer.json()["type"] == "/problems/outcome-unknown"
