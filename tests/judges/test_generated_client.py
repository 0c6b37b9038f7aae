"""A client generated from OfferGrid's document works with the gateway: another base URL, a token for the key."""

from pathlib import Path
from typing import Any, Final

import pytest

from tests.judges.document import WITH_ANSWERS
from tests.judges.offergrid_client import generate_client, run_client
from tests.judges.prism import prism_mock
from tests.judges.upstream import taking_upstream
from tests.support.needs import needs
from tests.support.stack import running_stack

# Prints the status, what the client made of the body, and the order id it read.
PLACE: Final = """
import json
from offergrid_client import AuthenticatedClient
from offergrid_client.api.reseller_orders import reseller_orders_controller_create as create
from offergrid_client.models import CreateOrderRequest

client = AuthenticatedClient(
    base_url=base_url, token=key, prefix="", auth_header_name="x-api-key", httpx_args={"trust_env": False}
)
with client:
    answer = create.sync_detailed(client=client, body=CreateOrderRequest.from_dict(ORDER))
print(json.dumps({"status": answer.status_code, "parsed": type(answer.parsed).__name__,
                  "order_id": getattr(answer.parsed, "order_id", None), "text": answer.content.decode()}))
"""


def place(folder: Path, order: dict[str, Any], *, base_url: str, key: str) -> Any:
    return run_client(folder, f"ORDER = {order!r}\n{PLACE}", base_url=base_url, key=key)


@needs("prism")
def test_generated_client_works_with_an_independent_mock(tmp_path: Path, order: dict[str, Any]) -> None:
    """The judge itself: it can place an order where there is no gateway, and notices a refusal."""
    client = generate_client(WITH_ANSWERS, tmp_path)
    with prism_mock(WITH_ANSWERS) as mock:
        placed = place(client, order, base_url=mock, key="key")
    assert (placed["status"], placed["parsed"], placed["order_id"]) == (201, "OrderPlaced", "ord-123-abc")


@pytest.mark.parametrize("answers", [True, False], ids=["with the guides' answers", "as published"])
def test_generated_client_places_an_order_through_the_gateway(
    tmp_path: Path, document: Path, order: dict[str, Any], answers: bool
) -> None:
    client = generate_client(WITH_ANSWERS if answers else document, tmp_path)
    with taking_upstream() as upstream, running_stack(upstream_base_url=upstream.base_url) as stack:
        placed = place(client, order, base_url=stack.tenant_url, key=stack.token)
        refused = place(client, order, base_url=stack.tenant_url, key=stack.token + "x")
    assert placed["status"] == 201, placed
    assert placed["text"].encode() == upstream.taken[0].answer
    assert placed["order_id"] == ("ord-0" if answers else None)
    assert upstream.taken[0].body["items"] == order["items"]
    assert refused["status"] == 401
    assert len(upstream.taken) == 1
