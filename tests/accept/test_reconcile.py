"""Unknown orders are found out about by looking: what is listed is placed, what is proven absent can be placed anew."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest

from gateway.broker.administration import NewTenant
from gateway.broker.vault import Secret
from gateway.sandbox import SandboxThread
from tests.support.stack import UPSTREAM_KEY, Stack, an_order, running_stack


@pytest.fixture
def sandbox() -> Iterator[SandboxThread]:
    with SandboxThread() as running:
        yield running


def until(holds: Callable[[], object]) -> None:
    """Waits for a condition; the test's own timeout ends what never comes."""
    while not holds():
        threading.Event().wait(0.02)


def metric(stack: Stack, line: str) -> float:
    text = httpx.get(stack.admin_url + "/metrics", trust_env=False).text
    return next(float(found.rpartition(" ")[2]) for found in text.splitlines() if found.startswith(line + " "))


def outcome(client: httpx.Client, order_id: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/orders/{order_id}").json()
    return found


def listed(sandbox: SandboxThread, key: str = UPSTREAM_KEY) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(
        sandbox.base_url + "/reseller/orders", headers={"x-api-key": key}, trust_env=False
    ).json()
    return found


FOUND = 'ordergate_reconciliations_total{result="found"}'
ABSENT = 'ordergate_reconciliations_total{result="absent"}'
NOTHING = 'ordergate_reconciliations_total{result="nothing"}'


def test_an_order_that_offergrid_took_before_it_hung_up_becomes_placed(sandbox: SandboxThread) -> None:
    with (
        running_stack(upstream_base_url=sandbox.base_url, reconcile__interval_s=0.2) as stack,
        stack.client(headers={"idempotency-key": "k"}) as client,
    ):
        sandbox.set_fault("place_then_reset")
        first = client.post("/orders", json=an_order())
        assert (first.status_code, first.json()["outcome"]) == (502, "unknown")
        order_id = first.json()["orderId"]
        until(lambda: outcome(client, order_id)["outcome"] == "placed")
        view = outcome(client, order_id)
        (entry,) = listed(sandbox)
        assert (view["upstreamOrderId"], view["upstreamStatus"]) == (entry["orderId"], entry["status"])
        assert (view["response"], view["httpStatus"]) == (entry, 201)
        assert view["settledAt"] is not None
        again = [client.post("/orders", json=an_order()) for _ in range(2)]
        assert {answer.status_code for answer in again} == {201}
        assert again[0].headers["idempotent-replayed"] == "true"
        assert again[0].content == again[1].content
        assert json.loads(again[0].content) == entry
        assert metric(stack, FOUND) == 1
        assert metric(stack, "ordergate_duplicates_total") == 0
        until(lambda: metric(stack, "ordergate_oldest_unknown_timestamp_seconds") == 0)
    assert len(sandbox.orders) == 1


def test_an_order_that_is_not_listed_stays_unknown_and_is_not_sent_again(sandbox: SandboxThread) -> None:
    with (
        running_stack(upstream_base_url=sandbox.base_url, reconcile__interval_s=0.2) as stack,
        stack.client(headers={"idempotency-key": "k"}) as client,
    ):
        sandbox.set_fault("reset_after_read")
        order_id = client.post("/orders", json=an_order()).json()["orderId"]
        until(lambda: metric(stack, NOTHING) >= 2)
        assert outcome(client, order_id)["outcome"] == "unknown"
        again = client.post("/orders", json=an_order())
        assert (again.status_code, again.json()["orderId"]) == (502, order_id)
        assert metric(stack, "ordergate_oldest_unknown_timestamp_seconds") > 0
    assert not sandbox.orders
    assert len([call for call in sandbox.calls if call.method == "POST"]) == 1


def test_an_order_that_is_proven_absent_is_placed_when_it_is_sent_again(sandbox: SandboxThread) -> None:
    settings = {"reconcile__interval_s": 0.1, "reconcile__settle_after_s": 0.5, "budget__reserved_per_minute": 1000}
    with (
        running_stack(upstream_base_url=sandbox.base_url, **settings) as stack,
        stack.client(headers={"idempotency-key": "k"}) as client,
    ):
        assert client.post("/orders", json=an_order(), headers={"idempotency-key": "first"}).status_code == 201
        sandbox.set_fault("reset_after_read")
        order_id = client.post("/orders", json=an_order(notes="n")).json()["orderId"]
        until(lambda: outcome(client, order_id)["outcome"] == "not_placed")
        view = outcome(client, order_id)
        assert (view["httpStatus"], view["upstreamOrderId"]) == (502, None)
        assert view["settledAt"] is not None
        assert metric(stack, ABSENT) == 1
        again = client.post("/orders", json=an_order(notes="n"))
        assert (again.status_code, again.headers["ordergate-order-id"]) == (201, order_id)
        assert [attempt["evidence"] for attempt in outcome(client, order_id)["attempts"]] == ["sent", "answered"]
    assert len(sandbox.orders) == 2


def test_a_timeout_that_was_false_is_counted_as_one(sandbox: SandboxThread) -> None:
    settings = {"reconcile__interval_s": 0.2, "upstream__timeout_s": 1}
    with running_stack(upstream_base_url=sandbox.base_url, **settings) as stack, stack.client() as client:
        sandbox.set_fault("place_then_hang")
        first = client.post("/orders", json=an_order())
        assert first.status_code == 504
        until(lambda: outcome(client, first.json()["orderId"])["outcome"] == "placed")
        assert metric(stack, "ordergate_false_timeouts_total") == 1


def test_an_order_that_is_listed_twice_is_the_same_order(sandbox: SandboxThread) -> None:
    with (
        running_stack(upstream_base_url=sandbox.base_url, reconcile__interval_s=0.2) as stack,
        stack.client() as client,
    ):
        sandbox.set_fault("list_twice", count=0)
        sandbox.set_fault("place_then_reset")
        first = client.post("/orders", json=an_order())
        until(lambda: outcome(client, first.json()["orderId"])["outcome"] == "placed")
        assert metric(stack, "ordergate_duplicates_total") == 0


LISTINGS: dict[str, dict[str, Any]] = {
    "fails": {"kind": "status", "code": 500, "match": {"method": "GET"}},
    "is no JSON": {"kind": "garbage", "match": {"method": "GET"}},
    "is another account's": {"kind": "list_other_account"},
    "has lost its metadata": {"kind": "list_drop_metadata"},
}


@pytest.mark.parametrize("fault", LISTINGS.values(), ids=LISTINGS)
def test_a_listing_that_shows_nothing_decides_nothing(sandbox: SandboxThread, fault: dict[str, Any]) -> None:
    with (
        running_stack(upstream_base_url=sandbox.base_url, reconcile__interval_s=0.2) as stack,
        stack.client() as client,
    ):
        sandbox.set_fault(
            fault["kind"], count=2, **{name: value for name, value in fault.items() if name != "kind"}
        )
        sandbox.set_fault("place_then_reset")
        order_id = client.post("/orders", json=an_order()).json()["orderId"]
        # After the bad listings comes a good one: until then nothing was decided, and then the truth is.
        until(lambda: outcome(client, order_id)["outcome"] != "unknown")
        assert outcome(client, order_id)["outcome"] == "placed"
        assert metric(stack, FOUND) == 1
        assert len([call for call in sandbox.calls if call.method == "GET"]) == 3


def test_a_team_whose_key_is_refused_holds_up_no_other(sandbox: SandboxThread) -> None:
    with running_stack(upstream_base_url=sandbox.base_url, reconcile__interval_s=0.2) as stack:
        with stack.administration() as admin:
            admin.add_team("other")
            admin.add_key("other", Secret("sandbox-key-other"))
            admin.add_tenant(NewTenant(name="other-shop", team="other"))
            token = admin.issue_token("other-shop").token.text()
        with (
            stack.client() as mine,
            httpx.Client(
                base_url=stack.tenant_url, headers={"authorization": f"Bearer {token}"}, trust_env=False
            ) as theirs,
        ):
            until(lambda: theirs.get("/orders").status_code == 200)
            sandbox.set_fault("place_then_reset", count=2)
            ids = [client.post("/orders", json=an_order()).json()["orderId"] for client in (theirs, mine)]
            state = {"key": "sandbox-key-other", "state": "revoked"}
            httpx.post(sandbox.base_url + "/sandbox/keys", json=state, trust_env=False).raise_for_status()
            until(lambda: outcome(mine, ids[1])["outcome"] == "placed")


def test_an_order_in_flight_when_its_process_was_killed_is_found(sandbox: SandboxThread) -> None:
    with running_stack(upstream_base_url=sandbox.base_url, reconcile__interval_s=0.2) as stack:
        sandbox.set_fault("place_then_hang")

        def ask() -> None:
            with stack.client() as client, suppress(httpx.TransportError):
                client.post("/orders", json=an_order(), headers={"idempotency-key": "k"})

        asking = threading.Thread(target=ask)
        asking.start()
        until(lambda: sandbox.orders)
        stack.process.kill()
        asking.join(30)
        stack.start()
        with stack.client() as client:
            answers: list[httpx.Response] = []

            def placed() -> bool:
                answers.append(client.post("/orders", json=an_order(), headers={"idempotency-key": "k"}))
                return answers[-1].status_code == 201

            until(placed)
            assert {answer.status_code for answer in answers[:-1]} <= {502}
            assert answers[-1].json()["orderId"] == sandbox.orders[0].order_id
    assert len(sandbox.orders) == 1


def test_looking_keeps_to_its_pace(sandbox: SandboxThread) -> None:
    settings = {
        "reconcile__interval_s": 0.05, "reconcile__absence": "never", "budget__reserved_per_minute": 3,
    }  # fmt: skip
    with running_stack(upstream_base_url=sandbox.base_url, **settings) as stack, stack.client() as client:
        sandbox.set_fault("reset_after_read")
        client.post("/orders", json=an_order())
        until(lambda: metric(stack, NOTHING) == 3)
        beats = metric(stack, "ordergate_ledger_commit_duration_seconds_count")
        until(lambda: metric(stack, "ordergate_ledger_commit_duration_seconds_count") > beats + 1)
        assert len([call for call in sandbox.calls if call.method == "GET"]) == 3
