"""The metrics tell the truth: each counter is what a test's own client, and the sandbox, counted."""

import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics

from gateway.telemetry.catalogue import CATALOGUE, ORDER_OUTCOMES
from tests.accept.metrics import series, total
from tests.accept.raw import exchange, request
from tests.accept.world import World, a_world, wait_until

FAULTS: Final = (
    ("place_then_500", "unknown", "5xx"), ("reset_after_read", "unknown", "broken"), ("garbage", "unknown", "broken"),
    ("place_then_hang", "unknown", "timeout"), ("echo_key", "rejected", "4xx"), ("html_4xx", "unknown", "4xx"),
    ("redirect", "unknown", "broken"),
)  # fmt: skip


@pytest.fixture(scope="module")
def counted() -> Iterator[World]:
    """A gateway that nobody else asks anything."""
    with a_world(upstream__timeout_s=0.8, upstream__max_in_flight=1, admission__max_waiting=0) as world:
        yield world


def test_counters_are_what_both_sides_counted(counted: World) -> None:
    world, outcomes, results = counted, Counter[str](), Counter[str]()
    world.begin()
    before = series(world)
    for number in range(3):
        assert world.order(f"m{number}", notes="same").status_code == 201
        assert world.order(f"m{number}", notes="same").headers["idempotent-replayed"] == "true"
        outcomes.update(("placed", "replayed"))
        results["2xx"] += 1
    for fault, outcome, result in FAULTS:
        world.sandbox.set_fault(fault)
        world.order()
        outcomes[outcome] += 1
        results[result] += 1
    world.sandbox.set_fault("slow", after_s=60)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(world.order, "slow", notes="same")
        wait_until(lambda: any(call.fault == "slow" for call in world.calls), "the slow one at the sandbox")
        assert world.order().status_code == 503
        assert total(series(world), "ordergate_upstream_in_flight") == 1
        world.sandbox.clear_faults()
        assert first.result().status_code == 201
    outcomes.update(("not_placed", "placed"))
    # Last, since it is a pause for whoever shares the key.
    world.sandbox.set_fault("status", code=429, retry_after=60)
    for answer in (world.order(), world.order(items=1), world.order(metadata={"gateway": 1}), world.order("m0")):
        outcomes["not_placed" if answer.status_code == 429 else "invalid"] += 1
    results["429"] += 1
    results["2xx"] += 1
    world.ask("POST", "/orders", token="")  # nobody's
    after = series(world)

    def grown(name: str, **labels: str) -> float:
        return total(after, name, **labels) - total(before, name, **labels)

    for outcome in ORDER_OUTCOMES:
        assert grown("ordergate_orders_total", team="team", tenant="shop", outcome=outcome) == outcomes[outcome], (
            outcome
        )
    assert grown("ordergate_order_duration_seconds_count", tenant="shop") == sum(outcomes.values())
    assert grown("ordergate_overhead_seconds_count") == sum(outcomes.values())
    for result in ("2xx", "4xx", "429", "5xx", "timeout", "broken", "connect_error"):
        name = "ordergate_upstream_attempt_duration_seconds_count"
        assert grown(name, operation="place", result=result) == results[result], result
    assert grown("ordergate_upstream_attempt_duration_seconds_count") == len(world.calls)
    for reason in ("timeout", "broken", "5xx", "connect_error"):
        assert grown("ordergate_upstream_errors_total", team="team", reason=reason) == results[reason], reason
    answered = Counter(str(answer.status_code) for answer in world.answers)
    for status, count in answered.items():
        assert grown("ordergate_http_requests_total", listener="tenant", method="POST", status=status) == count, (
            status
        )
    assert grown("ordergate_http_requests_total", listener="tenant", route="/orders") == len(world.answers)
    assert grown("ordergate_http_request_duration_seconds_count", listener="tenant") == len(world.answers)
    assert grown("ordergate_auth_failures_total", reason="missing") == 1
    assert total(after, "ordergate_upstream_in_flight") == 0
    unknown = sum(row.outcome == "unknown" for row in world.ledger())
    wait_until(
        lambda: total(series(world), "ordergate_orders_unsettled", outcome="unknown") == unknown, "unsettled"
    )


def test_series_are_there_at_nought_before_anything_happened() -> None:
    with a_world(budget__per_minute=100) as world:
        found = series(world)
        assert total(found, "ordergate_build_info") == 1
        for outcome in ORDER_OUTCOMES:
            place = (
                "ordergate_orders_total",
                frozenset({("team", "team"), ("tenant", "shop"), ("outcome", outcome)}),
            )
            assert found[place] == 0
        families = {name for name, _ in found}
        for metric in CATALOGUE:
            there = {metric.name, f"{metric.name}_count"} & families
            # Which statuses will be answered nobody knows before.
            assert there or metric.name.startswith("ordergate_http_request"), metric.name


def test_series_do_not_grow_with_what_is_asked(counted: World) -> None:
    """Paths, methods, hosts, tokens and queries that nobody knows add one series each at the most for all of them."""
    world, chance = counted, random.Random(7)  # noqa: S311  no secret: the same paths in each run
    letters = "abcdefghijklmnopqrstuvwxyz0123456789-_.~%/"
    for path in ("/nowhere", "/orders/x", "/problems/x", "/docs"):
        for method in ("GET", "PUT"):
            world.ask(method, path)
    exchange(world.stack.tenant_url, request(first="PROPFIND /x HTTP/1.1"))
    world.ask("GET", "/orders", token="nobody's")
    series(world)
    before = set(series(world))
    for _ in range(300):
        word = "".join(chance.choices(letters, k=chance.randint(1, 30)))
        method = chance.choice(("GET", "PUT", "PROPFIND", "MKCOL", "PURGE", "SEARCH"))
        path = chance.choice((f"/{word}", f"/orders/{word}", f"/orders?{word}={word}", f"/problems/{word}"))
        lines = [f"X-Api-Key: ogt_{word}", f"User-Agent: {word}", f"X-Request-Id: {word}"]
        exchange(
            world.stack.tenant_url, request(*lines, first=f"{method} {path} HTTP/1.1", host=f"Host: {word[:5]}")
        )
    new = set(series(world)) - before
    labels = {
        name: {value for _, of in new for key, value in of if key == name} for name in ("route", "method", "status")
    }
    assert len(new) < 60, new
    assert labels["method"] <= {"GET", "PUT", "_other"}
    assert labels["route"] <= {"_none", "/orders", "/orders/{orderId}", "/problems/{type}"}
    assert len(series(world)) < 1_500


def test_openmetrics_where_it_is_accepted(world: World) -> None:
    plain = world.admin("GET", "/metrics", accept="*/*")
    assert plain.headers["content-type"].startswith("text/plain; version=")
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    modern = world.admin("GET", "/metrics", accept=accept)
    assert modern.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert modern.text.endswith("# EOF\n")
    parse: Any = openmetrics
    assert {family.name for family in parse(modern.text)}


@pytest.mark.parametrize(
    "accept", ["application/openmetrics-text;version=abc", "text/plain;version=", ";;;", "\u00e9", ""]
)
def test_odd_accept_headers_get_metrics_all_the_same(world: World, accept: str) -> None:
    data = request(f"Accept: {accept}", first="GET /metrics HTTP/1.1", host="Host: localhost", kind=None, body=b"")
    assert exchange(world.stack.admin_url, data).status_code == 200
