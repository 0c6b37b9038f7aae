"""What goes upstream is the tenant's own bytes; only the span of `metadata` is another one."""

import json
import re
import uuid
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.accept.json_texts import SPACE, VALUES, objects, pairs, spelled, texts
from tests.accept.world import ORDER_ID, World
from tests.support.stack import an_order

OWN: Final = [
    "gatewayOrderId", "gatewayTenant", "gatewayRequestId", "gatewayReceivedAt", "gatewayClaim", "gatewayLedger",
]  # fmt: skip
SPEC: Final = {"items", "serviceAddress", "customerInfo", "notes", "metadata"}
CLAIM: Final = re.compile(r"(?:[0-9a-f]{32,})?\.[0-9a-f]{32,}")
MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
METADATA: Final = objects(VALUES, names=texts().filter(lambda name: not name.casefold().startswith("gateway")))


@st.composite
def bodies(draw: st.DrawFn, *, metadata: bool) -> tuple[str, str, str]:
    """An order as text: what stands before the metadata, the metadata, and what stands behind it.

    Without metadata, the first part ends with the last member, and the second is empty.
    """
    unknown = draw(st.lists(texts().filter(lambda name: name not in SPEC), max_size=3, unique=True))
    members = [(name, json.dumps(value)) for name, value in an_order(notes="n").items()]
    members += [(name, draw(VALUES)) for name in unknown]
    members = draw(st.permutations(members))
    texts_of = [f"{draw(spelled(name))}{draw(SPACE)}:{draw(SPACE)}{value}" for name, value in members]
    start, end = draw(SPACE) + "{" + draw(SPACE), draw(SPACE) + "}" + draw(SPACE)
    between = f"{draw(SPACE)},{draw(SPACE)}"
    if not metadata:
        return start + between.join(texts_of) + draw(SPACE), "", end.lstrip()
    at = draw(st.integers(0, len(texts_of)))
    name = f"{draw(spelled('metadata'))}{draw(SPACE)}:{draw(SPACE)}"
    before = start + "".join(text + between for text in texts_of[:at]) + name
    return before, draw(METADATA), "".join(between + text for text in texts_of[at:]) + end


def _received(world: World, body: str, **options: Any) -> str:
    answer = world.ask(
        "POST",
        "/orders",
        content=body.encode(),
        headers={"content-type": "application/json", "idempotency-key": uuid.uuid4().hex},
        **options,
    )
    assert answer.status_code == 201, answer.text
    order = world.sandbox.orders[-1]
    assert order.order_id == answer.json()["orderId"]
    return order.request.body.decode()


BOUNDED: Final = settings(
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@BOUNDED
@given(parts=bodies(metadata=True))
def test_all_but_the_metadata_is_the_tenants_bytes(world: World, parts: tuple[str, str, str]) -> None:
    before, metadata, behind = parts
    got = _received(world, before + metadata + behind)
    assert got.startswith(before)
    assert got.endswith(behind)
    members = pairs(got[len(before) : len(got) - len(behind)])
    own = pairs(metadata)
    assert members[: len(own)] == own, "the tenant's members as they were spelled, in their order"
    assert [name for name, _ in members[len(own) :]] == OWN


@BOUNDED
@given(parts=bodies(metadata=False))
@example(parts=(json.dumps(an_order())[:-1], "", "}\r\n\t "))
def test_without_metadata_it_is_added_behind_the_last_member(world: World, parts: tuple[str, str, str]) -> None:
    before, _, behind = parts
    got = _received(world, before + behind)
    assert got.startswith(before)
    assert got.endswith(behind)
    name, _, members = got[len(before) : len(got) - len(behind)].partition(":")
    assert name == ',"metadata"'
    assert [name for name, _ in pairs(members)] == OWN


@pytest.mark.parametrize(
    "number", ["1e999", "-1E+400", "9" * 5000, "1e99999999999999999999", "-0.0", "1.50", "1E0"]
)
def test_a_number_keeps_its_spelling(world: World, number: str) -> None:
    body = json.dumps(an_order(x=["@"], metadata={"a": "@"})).replace('"@"', number)
    got = _received(world, body)
    assert got.count(number) == 2


def test_gateways_own_members(world: World) -> None:
    answer = world.order("with-a-key", metadata={"campaign": "spring"})
    own = world.placed[0].metadata
    assert own is not None
    assert own["campaign"] == "spring"
    assert own["gatewayOrderId"] == answer.headers["ordergate-order-id"]
    assert ORDER_ID.fullmatch(own["gatewayOrderId"])
    assert own["gatewayTenant"] == "shop"
    assert own["gatewayRequestId"] == answer.headers["x-request-id"]
    assert MOMENT.fullmatch(own["gatewayReceivedAt"])
    assert world.shown(own["gatewayOrderId"])["createdAt"] == own["gatewayReceivedAt"]
    assert CLAIM.fullmatch(own["gatewayClaim"])
    assert not own["gatewayClaim"].startswith(".")
    assert "with-a-key" not in json.dumps(own)
    world.order(metadata={"campaign": "spring"})
    other = world.placed[1].metadata
    assert other is not None
    assert other["gatewayClaim"].startswith("."), "the key's part is empty where there was none"
    assert other["gatewayLedger"] == own["gatewayLedger"]
    assert other["gatewayClaim"].partition(".")[2] != own["gatewayClaim"].partition(".")[2], "another body"


def test_claim_names_tenant_key_and_body_whatever_the_spelling(world: World) -> None:
    claims: list[list[str]] = []
    for token in (world.stack.token, world.token_of("claims")):
        for body in ('{"a":1,"b":"\\u0041"}', '{ "b":"A", "a":1.0 }'):
            text = json.dumps(an_order(notes="claims"))[:-1] + f',"x":{body}}}'
            headers = {"content-type": "application/json", "idempotency-key": f"claims-{len(claims)}"}
            assert world.ask("POST", "/orders", token=token, content=text, headers=headers).status_code == 201
            metadata = world.placed[-1].metadata
            assert metadata is not None
            claims.append(metadata["gatewayClaim"].split("."))
    (one, two, three, four) = claims
    assert len({claim[0] for claim in claims}) == 4
    assert one[1] == two[1] != three[1] == four[1]


def test_defaults_fill_and_enforced_replace(world: World) -> None:
    world.token_of("enriched")
    with world.stack.administration() as admin:
        admin.set_metadata(
            "enriched",
            defaults={"channel": '"web"', "depth": '{"a": [1.50]}'},
            enforced={"costCentre": '"4711"', "channel2": "null"},
        )
        token = admin.issue_token("enriched").token.text()
    world.wait_for_token(token)
    assert world.order(token=token, metadata={"channel": "app", "costCentre": 1, "z": True}).status_code == 201
    assert world.order(token=token).status_code == 201
    first, second = (_metadata(order.request.body.decode()) for order in world.placed)
    own = [name for name, _ in first if name not in OWN]
    assert own == ["channel", "costCentre", "z", "depth", "channel2"]
    assert dict(first)["channel"] == "app"
    assert dict(first)["costCentre"] == "4711"
    assert dict(first)["channel2"] is None
    assert dict(first)["depth"] == [("a", ["1.50"])]
    assert dict(second)["channel"] == "web"
    assert dict(second)["costCentre"] == "4711"


def _metadata(text: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = dict(pairs(text))["metadata"]
    return found
