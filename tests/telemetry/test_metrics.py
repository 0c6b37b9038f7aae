"""Metrics: what is registered is the catalogue, labels are bounded, and series stand at 0 before anything happens."""

import re
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from gateway.core.directory import Tenant
from gateway.core.evidence import Answered, Evidence, NotSent, NotSentReason, Sent, SentReason
from gateway.telemetry import catalogue as known
from gateway.telemetry.catalogue import CATALOGUE, MAX_NAMES, OTHER
from gateway.telemetry.metrics import Metrics, OrderTimes, attempt_result
from tests.core.test_outcome import EVIDENCE

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def _metrics() -> Metrics:
    return Metrics(version="1.2.3", spec_digest="abc")


def _series(metrics: Metrics) -> Series:
    text = metrics.render("")[0].decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in prometheus(text)
        for sample in family.samples
        if family.name.startswith("ordergate_")
    }


def _value(metrics: Metrics, name: str, **labels: str) -> float:
    return _series(metrics)[name, frozenset(labels.items())]


def _tenant(at: int, *, team: str | None = None) -> Tenant:
    return Tenant(
        tenant_id=at, name=f"tenant-{at}", scope=f"tenant-{at}", team_id=at, team=team or f"team-{at}", state="active",
        require_idempotency_key=False, guaranteed_per_minute=None, implicit_window_s=None, defaults={}, enforced={},
        created_ms=0,
    )  # fmt: skip


def test_what_is_registered_is_the_catalogue() -> None:
    metrics = _metrics()
    found = {
        family.name + ("_total" if family.type == "counter" else ""): family
        for family in metrics.registry.collect()
        if family.name.startswith("ordergate_")
    }
    assert found.keys() == {metric.name for metric in CATALOGUE}
    for metric in CATALOGUE:
        assert found[metric.name].type == metric.kind
        assert found[metric.name].documentation == metric.help
        assert metric.question.endswith("?")
        assert bool(metric.buckets) == (metric.kind == "histogram")
        assert list(metric.buckets) == sorted(set(metric.buckets))
        assert re.fullmatch(r"ordergate_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")


def test_series_stand_at_0_before_anything_happens() -> None:
    metrics = _metrics()
    metrics.know((_tenant(1),))
    series = _series(metrics)
    for (name, labels), value in series.items():
        if name != "ordergate_build_info" and "bucket" not in name:
            assert value == 0, (name, labels)
    wanted: set[tuple[Any, ...]] = {
        ("ordergate_orders_total", ("outcome", outcome), ("team", "team-1"), ("tenant", "tenant-1"))
        for outcome in known.ORDER_OUTCOMES
    }
    wanted |= {
        ("ordergate_upstream_errors_total", ("reason", why), ("team", "team-1")) for why in known.ERROR_REASONS
    }
    wanted |= {("ordergate_auth_failures_total", ("reason", why)) for why in known.AUTH_REASONS}
    wanted |= {("ordergate_upstream_resends_total", ("reason", why)) for why in known.RESEND_REASONS}
    wanted |= {("ordergate_orders_unsettled", ("outcome", what)) for what in ("in_flight", "unknown", "queued")}
    wanted |= {("ordergate_order_duration_seconds_count", ("tenant", "tenant-1"))}
    wanted |= {("ordergate_ledger_errors_total",), ("ordergate_upstream_in_flight",)}
    assert {(name, frozenset(labels)) for name, *labels in wanted} <= series.keys()


def test_10_000_tenants_are_bounded() -> None:
    metrics = _metrics()
    assert len(_series(metrics)) < 1_500
    before = len(_series(metrics))
    metrics.know((_tenant(1),))
    assert len(_series(metrics)) - before <= 40, "each tenant adds at most 40"
    tenants = tuple(_tenant(at) for at in range(10_000))
    metrics.know(tenants)
    full = len(_series(metrics))
    for tenant in tenants:
        metrics.order(tenant, "placed", 0.1, OrderTimes())
        metrics.attempt(tenant.team, "place", Sent(reason="timeout"), 0.1)
    series = _series(metrics)
    assert len(series) - full <= len(known.ERROR_REASONS)
    for label in ("tenant", "team"):
        names = {value for _, labels in series for name, value in labels if name == label}
        assert len(names) == MAX_NAMES + 1 and OTHER in names
    counted = sum(
        value for (name, labels), value in series.items()
        if name == "ordergate_orders_total" and ("outcome", "placed") in labels
    )  # fmt: skip
    assert counted == 10_000, "what is bounded is the names, not the count"


@pytest.mark.parametrize("outcome", known.ORDER_OUTCOMES)
def test_each_order_is_counted_once_and_its_overhead_is_its_own_time(outcome: str) -> None:
    metrics = _metrics()
    metrics.order(_tenant(1), outcome, 1.0, OrderTimes(waited_s=0.25, upstream_s=0.5))
    metrics.order(_tenant(1), outcome, 1.0, OrderTimes(waited_s=5, upstream_s=5))
    assert _value(metrics, "ordergate_orders_total", team="team-1", tenant="tenant-1", outcome=outcome) == 2
    assert _value(metrics, "ordergate_order_duration_seconds_sum", tenant="tenant-1") == 2.0
    assert _value(metrics, "ordergate_overhead_seconds_sum") == 0.25, "never below 0"
    total = sum(value for (name, _), value in _series(metrics).items() if name == "ordergate_orders_total")
    assert total == 2


RESULTS: list[tuple[Evidence, str]] = [
    *((NotSent(reason=reason), "connect_error") for reason in get_args(NotSentReason)),
    *((Sent(reason=reason), reason) for reason in get_args(SentReason)),
    (Answered(status=201, body=b""), "2xx"),
    (Answered(status=299, body=b""), "2xx"),
    (Answered(status=400, body=b""), "4xx"),
    (Answered(status=429, body=b""), "429"),
    (Answered(status=499, body=b""), "4xx"),
    (Answered(status=500, body=b""), "5xx"),
    (Answered(status=599, body=b""), "5xx"),
    (Answered(status=302, body=b""), "broken"),
    (Answered(status=101, body=b""), "broken"),
]


@pytest.mark.parametrize(("evidence", "result"), RESULTS, ids=str)
def test_an_attempt_is_counted_by_its_result(evidence: Evidence, result: str) -> None:
    metrics = _metrics()
    metrics.attempt("team-1", "place", evidence, 0.5)
    name = "ordergate_upstream_attempt_duration_seconds_count"
    assert _value(metrics, name, operation="place", result=result) == 1
    errors = sum(
        value for (name, _), value in _series(metrics).items() if name == "ordergate_upstream_errors_total"
    )
    assert errors == (result in known.ERROR_REASONS)


@given(EVIDENCE)
def test_every_evidence_has_a_result_of_the_catalogue(evidence: Evidence) -> None:
    assert attempt_result(evidence) in known.ATTEMPT_RESULTS


def test_what_goes_on_now_goes_up_and_down_even_when_it_fails() -> None:
    metrics = _metrics()
    with pytest.raises(RuntimeError), metrics.upstream_in_flight(), metrics.http_in_flight("tenant"):
        assert _value(metrics, "ordergate_upstream_in_flight") == 1
        assert _value(metrics, "ordergate_http_requests_in_flight", listener="tenant") == 1
        raise RuntimeError
    assert _value(metrics, "ordergate_upstream_in_flight") == 0
    assert _value(metrics, "ordergate_http_requests_in_flight", listener="tenant") == 0


def test_the_rest_of_what_happens_is_counted() -> None:
    metrics = _metrics()
    metrics.commit(0.1, failed=False)
    metrics.commit(0.1, failed=True)
    metrics.resent("throttled")
    metrics.auth_failure("expired")
    metrics.admission_wait(0.5)
    metrics.unsettled({"unknown": 3, "in_flight": 0, "queued": 0})
    for _again in range(2):
        metrics.http("tenant", "POST", "/orders", 201, 0.1)
    assert _value(metrics, "ordergate_ledger_commit_duration_seconds_count") == 2
    assert _value(metrics, "ordergate_ledger_errors_total") == 1
    assert _value(metrics, "ordergate_upstream_resends_total", reason="throttled") == 1
    assert _value(metrics, "ordergate_auth_failures_total", reason="expired") == 1
    assert _value(metrics, "ordergate_admission_wait_seconds_sum") == 0.5
    assert _value(metrics, "ordergate_orders_unsettled", outcome="unknown") == 3
    labels = {"listener": "tenant", "method": "POST", "route": "/orders", "status": "201"}
    assert _value(metrics, "ordergate_http_requests_total", **labels) == 2


def test_names_say_nothing_that_is_not_asked_for() -> None:
    text = _metrics().render("")[0].decode()
    assert "_created" not in text
    assert _value(_metrics(), "ordergate_build_info", version="1.2.3", spec_digest="abc") == 1


def test_openmetrics_is_given_when_it_is_asked_for() -> None:
    metrics = _metrics()
    body, kind = metrics.render("application/openmetrics-text;version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    families = list(openmetrics(body.decode()))  # type: ignore[no-untyped-call]  # the library declares no types there
    assert any(family.name == "ordergate_orders_unsettled" for family in families)
    assert metrics.render("text/html")[1].startswith("text/plain")


PARTS = st.sampled_from(
    [
        "application/openmetrics-text",
        "text/plain",
        ";",
        ",",
        "version=",
        "1.0.0",
        "abc",
        "escaping=",
        "q=",
        "=",
        " ",
        "2",
    ]
)


@given(st.one_of(st.text(max_size=30), st.lists(PARTS, max_size=8).map("".join)))
def test_any_accept_header_gets_an_answer(accept: str) -> None:
    body, kind = _metrics().render(accept)
    assert b"ordergate_build_info" in body and kind


def test_an_accept_header_with_a_version_that_is_no_number_gets_an_answer() -> None:
    for accept in ("application/openmetrics-text;version=abc", "text/plain;version=abc1.0"):
        assert _metrics().render(accept)[1].startswith("text/plain")
