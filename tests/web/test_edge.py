"""The edge around an application that fails: what is told then, and what is not."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from prometheus_client import generate_latest

from gateway.clock import SystemClock
from gateway.telemetry.logs import make_log
from gateway.telemetry.metrics import Metrics
from gateway.web.edge import AsgiApp, Edge, send_whole


def _ask(app: AsgiApp, metrics: Metrics | None = None, **options: Any) -> httpx.Response:
    """One request through the edge, without a socket."""
    clock = SystemClock()
    edge: Any = Edge(  # httpx spells an ASGI application's type in its own way
        app,
        listener="tenant",
        max_header_bytes=16_384,
        clock=clock,
        metrics=metrics or Metrics(version="0", spec_digest="0"),
        log=make_log(level="error", style="json", clock=clock),
    )

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(edge)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return await client.get("/x", **options)

    return asyncio.run(ask())


async def _broken(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("a secret of the inside")


async def _broken_halfway(scope: Any, receive: Any, send: Any) -> None:
    await send_whole(200, b"{}", "application/json", [], send)
    raise RuntimeError("after the answer")


def test_500_internal_error(capsys: pytest.CaptureFixture[str]) -> None:
    answer = _ask(_broken, headers={"x-request-id": "mine"})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert (found["type"], found["status"], found["requestId"]) == ("/problems/internal-error", 500, "mine")
    assert answer.headers["x-request-id"] == "mine"
    assert {"traceparent", "server-timing"} <= set(answer.headers)
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["request_id"]) for line in lines] == [("defect", "mine")]


def test_a_defect_behind_a_whole_answer_changes_nothing_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    answer = _ask(_broken_halfway)
    assert (answer.status_code, answer.content) == (200, b"{}")
    assert "defect" in capsys.readouterr().err


def test_what_is_counted_are_answers() -> None:
    metrics = Metrics(version="0", spec_digest="0")
    for _ in range(3):
        _ask(_broken, metrics)
    text = generate_latest(metrics.registry).decode()
    counted = 'ordergate_http_requests_total{listener="tenant",method="GET",route="_none",status="500"} 3.0'
    assert counted in text
    assert 'ordergate_http_requests_in_flight{listener="tenant"} 0.0' in text
