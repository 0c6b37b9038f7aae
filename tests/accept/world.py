"""A gateway and its sandbox as one world: what goes in, and what it leaves behind on both sides."""

import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpx
import msgspec

from gateway.broker.administration import NewTenant
from gateway.broker.vault import Secret
from gateway.ledger.interface import OrderFilter, StoredOrder
from gateway.sandbox.records import Order, Request
from gateway.sandbox.thread import SandboxThread
from gateway.wiring import open_orders
from tests.support.stack import Stack, an_order, running_stack

EVERY: Final = 1_000_000
REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[0-3]")
SERVER_TIMING: Final = re.compile(r"gateway;dur=\d+(\.\d+)?, upstream;dur=\d+(\.\d+)?")
ORDER_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
WITHIN_S: Final = 30
"""How long a condition may take on a busy machine. Nothing depends on its being short."""


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Returns as soon as `holds` does; fails, naming `what`, where it never does."""
    until = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < until, f"never: {what}"
        time.sleep(0.005)


class World(msgspec.Struct, kw_only=True):
    """`answers` are those that `ask` got in the current test. `nobody` shows no token to the tenants' listener,
    `operator` none to the admin listener."""

    sandbox: SandboxThread
    stack: Stack
    client: httpx.Client
    nobody: httpx.Client
    operator: httpx.Client
    answers: list[httpx.Response]
    tokens: dict[str, str]
    orders_before: int = 0
    calls_before: int = 0

    def begin(self) -> None:
        """From here on `answers`, `placed` and `calls` are this test's: the last one's late orders have come."""
        wait_until(lambda: self.sandbox.still_to_come == 0, "what the sandbox does later")
        self.answers.clear()
        self.orders_before = len(self.sandbox.orders)
        self.calls_before = len(self.sandbox.calls)

    @property
    def placed(self) -> list[Order]:
        """The orders that the sandbox took in this test."""
        return self.sandbox.orders[self.orders_before :]

    @property
    def calls(self) -> list[Request]:
        """What came in at the sandbox in this test."""
        return self.sandbox.calls[self.calls_before :]

    def ask(self, method: str, path: str, *, token: str | None = None, **options: Any) -> httpx.Response:
        """One request of the tenant `shop`, or of whoever `token` belongs to ("": without one)."""
        if token is not None:
            options["headers"] = {"authorization": f"Bearer {token}", **options.get("headers", {})}
            if not token:
                del options["headers"]["authorization"]
        answer = (self.nobody if token == "" else self.client).request(method, path, **options)
        self.answers.append(answer)
        every_answer_says_who_it_is(answer)
        return answer

    def order(self, key: str | None = None, *, token: str | None = None, **members: Any) -> httpx.Response:
        """One order, unlike every other, under an idempotency key where there is one."""
        members.setdefault("notes", uuid.uuid4().hex)
        headers = {} if key is None else {"idempotency-key": key}
        return self.ask("POST", "/orders", token=token, json=an_order(**members), headers=headers)

    def shown(self, order_id: str, *, token: str | None = None) -> dict[str, Any]:
        """The order as the ledger's own interface shows it."""
        answer = self.ask("GET", f"/orders/{order_id}", token=token)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def token_of(self, tenant: str, *, team: str = "team", key: str | None = None, **options: Any) -> str:
        """The token of a tenant, which is made, with its team and that team's key, where there is none."""
        if tenant not in self.tokens:
            with self.stack.administration() as admin:
                if team not in {known.name for known in admin.teams()}:
                    admin.add_team(team)
                    if key is not None:
                        admin.add_key(team, Secret(key))
                admin.add_tenant(NewTenant(name=tenant, team=team, **options))
                self.tokens[tenant] = admin.issue_token(tenant).token.text()
            self.wait_for_token(self.tokens[tenant])
        return self.tokens[tenant]

    def wait_for_token(self, token: str, *, status: int = 200) -> None:
        """Returns when the running gateway answers this token with `status`."""
        headers = {"authorization": f"Bearer {token}"}
        wait_until(
            lambda: self.client.get("/orders?limit=1", headers=headers).status_code == status,
            f"{status} for the token",
        )

    def ledger(self) -> list[StoredOrder]:
        """Every order of every tenant, read beside the gateway."""
        with open_orders(self.stack.settings) as reader:
            return list(reader.page(OrderFilter(tenant_id=None, outcome=None, before_seq=None, limit=EVERY)))

    def admin(self, method: str, path: str, *, token: str | None = None, **headers: str) -> httpx.Response:
        """One request to the admin listener, with its token unless another one, or "" for none, is given."""
        shown = self.stack.admin_token if token is None else token
        authorization = {"authorization": f"Bearer {shown}"} if shown else {}
        answer = self.operator.request(method, path, headers={**authorization, **headers})
        every_answer_says_who_it_is(answer)
        return answer


@contextmanager
def a_world(**settings: Any) -> Iterator[World]:
    """`settings` as for `running_stack`. At the end the promise is held against everything that happened."""
    with a_world_apart(**settings) as world:
        yield world
        both_sides_agree(world)


@contextmanager
def a_world_apart(**settings: Any) -> Iterator[World]:
    """The same for tests in which OfferGrid breaks its own promise, so that it may hold an order twice."""
    with (
        SandboxThread(per_minute=0, per_hour=0) as sandbox,
        running_stack(upstream_base_url=sandbox.base_url, **settings) as stack,
        stack.client() as client,
        httpx.Client(base_url=stack.tenant_url, timeout=30, trust_env=False) as nobody,
        httpx.Client(base_url=stack.admin_url, timeout=30, trust_env=False) as operator,
    ):
        world = World(
            sandbox=sandbox,
            stack=stack,
            client=client,
            nobody=nobody,
            operator=operator,
            answers=[],
            tokens={"shop": stack.token},
        )
        yield world
        said = [line for line in stack.process.log if line["event"] in ("defect", "text")]
        assert not said, said


def every_answer_says_who_it_is(answer: httpx.Response) -> None:
    """What each answer carries, whatever it says."""
    told = answer.headers
    for name, form in (
        ("x-request-id", REQUEST_ID),
        ("traceparent", TRACEPARENT),
        ("server-timing", SERVER_TIMING),
    ):
        assert len(told.get_list(name)) == 1, (name, answer.status_code, told)
        assert form.fullmatch(told[name]), (name, told[name])
    assert told["cache-control"] == "no-store"
    assert "server" not in told


def problem(answer: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """The problem document of an answer, all that is the same for each of them being checked."""
    assert answer.status_code == status, answer.text
    every_answer_says_who_it_is(answer)
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert list(found)[:5] == ["type", "title", "status", "detail", "requestId"]
    assert found["type"] == f"/problems/{kind}"
    assert found["status"] == status
    assert found["title"]
    assert found["detail"]
    if "idempotent-replayed" not in answer.headers:
        assert found["requestId"] == answer.headers["x-request-id"]
    assert set(found) <= {
        "type", "title", "status", "detail", "requestId", "outcome", "retryable", "orderId", "errors", "upstream",
    }  # fmt: skip
    return found


def refused(answer: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """A problem that is about no order."""
    found = problem(answer, status, kind)
    assert not {"outcome", "retryable", "orderId", "upstream"} & set(found)
    assert "ordergate-order-id" not in answer.headers
    assert "location" not in answer.headers
    return found


def about_order(
    world: World,
    answer: httpx.Response,
    status: int,
    kind: str,
    outcome: str,
    *,
    known: bool = True,
    token: str | None = None,
) -> dict[str, Any]:
    """A problem about an order. `known`: the ledger has a row for it, which must say the same."""
    found = problem(answer, status, kind)
    assert found["outcome"] == outcome
    assert found["retryable"] is (outcome != "rejected")
    if found["retryable"]:
        assert int(answer.headers["retry-after"]) >= 1
    else:
        assert "retry-after" not in answer.headers
    if not known:
        assert "orderId" not in found
        assert "ordergate-order-id" not in answer.headers
        return found
    assert ORDER_ID.fullmatch(found["orderId"])
    assert answer.headers["ordergate-order-id"] == found["orderId"]
    assert answer.headers["location"] == f"/orders/{found['orderId']}"
    shown = world.shown(found["orderId"], token=token)
    assert shown["outcome"] == outcome
    assert shown["httpStatus"] == (None if outcome == "in_flight" else status)
    return found


def both_sides_agree(world: World) -> None:
    """The promise: no order twice, every 201 there exactly once, and the ledger denies nothing that is there."""
    held = Counter(_gateway_id(order) for order in world.sandbox.orders)
    assert not [order_id for order_id, count in held.items() if count > 1]
    theirs = {_gateway_id(order): order.order_id for order in world.sandbox.orders}
    rows = {row.order_id: row for row in world.ledger()}
    for row in rows.values():
        if row.outcome == "placed":
            assert row.order_id in theirs, f"placed, and not there: {row}"
    for order_id, upstream_id in theirs.items():
        row = rows[order_id]
        assert row.outcome in ("placed", "unknown", "in_flight"), f"there, and denied: {row}"
        if row.outcome == "placed":
            assert row.upstream_order_id == upstream_id


def what_was_told_is_true(world: World) -> None:
    """Each 201 of this test stands for an order that the sandbox holds, by the same names on both sides."""
    theirs = {order.order_id: _gateway_id(order) for order in world.sandbox.orders}
    for answer in world.answers:
        if answer.status_code == 201:
            assert theirs[answer.json()["orderId"]] == answer.headers["ordergate-order-id"]


def _gateway_id(order: Order) -> str:
    assert order.metadata is not None
    found: str = order.metadata["gatewayOrderId"]
    return found
