"""An order's life on a real ledger, with an OfferGrid that says what the test wrote for it."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Container
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import apsw
import msgspec

from gateway.broker.admission import Admission, Lane
from gateway.broker.directory import KeyUnreadable, LentKey
from gateway.broker.vault import MasterKey, Secret, Vault
from gateway.clock import SystemClock
from gateway.core.breaker import Breaker
from gateway.core.directory import Tenant
from gateway.core.evidence import Answered, Evidence, NotSent, Sent
from gateway.core.json_text import canonical_json, read_object
from gateway.flow.answer import Answer
from gateway.flow.describe import Describer
from gateway.flow.gate import Gate
from gateway.flow.intake import Intake
from gateway.flow.place_order import OrderFlow
from gateway.flow.ports import OrderRequest
from gateway.flow.sending import Sender
from gateway.ledger.interface import (
    AttemptEnd,
    AttemptStart,
    Claim,
    Claimed,
    NewOrder,
    Patience,
    Settlement,
    StoredOrder,
)
from gateway.ledger.sqlite import AT_ONCE, SqliteLedger
from gateway.telemetry.logs import make_log
from gateway.telemetry.metrics import Metrics, OrderTimes

CLOCK = SystemClock()
VAULT = Vault(MasterKey(bytes(range(32))), CLOCK)
KEY = LentKey(key_id="key-1", secret=Secret("canary-upstream-key"))
TENANT = Tenant(
    tenant_id=7, name="shop", scope="shop", team_id=3, team="team", state="active",
    require_idempotency_key=False,
    guaranteed_per_minute=None, implicit_window_s=None, defaults={"channel": '"web"'}, enforced={"test": "true"},
    created_ms=0,
)  # fmt: skip
OTHER_LANE = Lane(99, 99)
"""Whoever is in the way."""

BODY = b'{"items":[],"n":1.50}'


def placed(order_id: str = "up-1", **more: Any) -> Answered:
    return Answered(status=201, body=json.dumps({"orderId": order_id, **more}).encode())


def answered(
    status: int, body: bytes = b'{"statusCode":0,"message":"m"}', retry_after: str | None = None
) -> Answered:
    return Answered(status=status, body=body, retry_after=retry_after)


Line = Evidence | Exception | Callable[[], Awaitable[Evidence]]


class Upstream:
    """Says its lines one after the other, the last one for ever. Notes what it was sent, and when."""

    def __init__(self, story: list[str], *lines: Line) -> None:
        self._story = story
        self._lines = list(lines)
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[Secret] = []
        self.looks: list[Evidence] = []

    async def show_order(self, upstream_order_id: str, *, key: Secret, deadline: float) -> Evidence:
        self._story.append("look")
        assert upstream_order_id and deadline > CLOCK.monotonic()
        self.keys.append(key)
        return self.looks.pop(0)

    async def place(
        self,
        body: bytes,
        *,
        request_id: str,
        traceparent: str,
        key: Secret,
        deadline: float,
        may_send: Callable[[], bool],
    ) -> Evidence:
        self._story.append("send")
        assert request_id and traceparent and may_send() and deadline > CLOCK.monotonic()
        self.bodies.append(json.loads(body))
        self.keys.append(key)
        line = self._lines.pop(0) if len(self._lines) > 1 else self._lines[0]
        if isinstance(line, Exception):
            raise line
        if isinstance(line, NotSent | Sent | Answered):
            return line
        return await line()


class Told(SqliteLedger):
    """The real ledger, whose writes are noted when they are durable, and held or refused where a test says so."""

    story: list[str]
    refuses: dict[str, list[Exception]]
    gate: asyncio.Event

    async def _noted(self, what: str, write: Awaitable[Any]) -> Any:
        if self.refuses.get(what):
            write.close()  # type: ignore[attr-defined]  # a coroutine that shall not run
            raise self.refuses[what].pop(0)
        found = await write
        self.story.append(what)
        return found

    async def claim(self, order: NewOrder, attempt: AttemptStart | None, patience: Patience = AT_ONCE) -> Claim:
        found: Claim = await self._noted("claim", super().claim(order, attempt, patience))
        return found

    async def start(self, claimed: Claimed, attempt: AttemptStart) -> Claimed:
        found: Claimed = await self._noted("start", super().start(claimed, attempt))
        return found

    async def next_attempt(self, claimed: Claimed, ended: AttemptEnd, attempt: AttemptStart) -> Claimed:
        found: Claimed = await self._noted("next", super().next_attempt(claimed, ended, attempt))
        return found

    async def settle(self, claimed: Claimed, ended: AttemptEnd | None, settlement: Settlement) -> None:
        await self.gate.wait()
        await self._noted("settle", super().settle(claimed, ended, settlement))


class Gateway(msgspec.Struct, kw_only=True):
    """One flow with all that it needs, and its story: what was durable and what was sent, in order."""

    flow: OrderFlow
    ledger: Told
    upstream: Upstream
    story: list[str]
    metrics: Metrics
    admission: Admission
    intake: Intake
    keys: dict[int, LentKey | KeyUnreadable]
    log: io.StringIO
    path: Path
    gone: asyncio.Event = msgspec.field(default_factory=asyncio.Event)

    async def place(
        self, key: str | None = "k", *, body: bytes = BODY, request_id: str = "r-1", tenant: Tenant = TENANT
    ) -> Answer:
        return await self.flow.place(self.request(key, body, request_id, tenant), OrderTimes())

    def request(self, key: str | None, body: bytes, request_id: str, tenant: Tenant = TENANT) -> OrderRequest:
        read = read_object(body)
        return OrderRequest(
            tenant=tenant, body=read, content=canonical_json(read.values()), idempotency_key=key, request_id=request_id,
            traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01", received_ms=1_767_323_045_678,
            hung_up=self._until_gone,
        )  # fmt: skip

    async def _until_gone(self) -> None:
        await self.gone.wait()

    async def stored(self, order_id: str | None) -> StoredOrder:
        assert order_id is not None
        found = await self.ledger.find(order_id, tenant_id=None)
        assert found is not None
        return found

    async def only(self) -> StoredOrder:
        connection = apsw.Connection(str(self.path))
        order_id: str = connection.execute("SELECT order_id FROM orders").get
        connection.close()
        return await self.stored(order_id)


class _Keys(dict[int, LentKey | KeyUnreadable]):
    """Also lends what is beside a team's key, under the team's id below zero."""

    def key_of(self, team_id: int) -> LentKey | KeyUnreadable | None:
        return self.get(team_id)

    def key_beside(self, team_id: int, tried: Container[str]) -> LentKey | None:
        beside = self.get(-team_id)
        return beside if isinstance(beside, LentKey) and beside.key_id not in tried else None


@asynccontextmanager
async def a_gateway(
    path: Path,
    *lines: Line,
    timeout_s: float = 10,
    max_in_flight: int = 10,
    max_waiting: int = 10,
    wait_s: float = 30,
    implicit_window_s: float = 0,
    breaker: Breaker | None = None,
) -> AsyncIterator[Gateway]:
    story: list[str] = []
    breaker = breaker or Breaker(failures=1000, open_s=1000)
    ledger = Told(path, VAULT, CLOCK, lambda *_: None)
    ledger.story, ledger.refuses, ledger.gate = story, {}, asyncio.Event()
    ledger.gate.set()
    stream = io.StringIO()
    metrics = Metrics(version="0", spec_digest="0")
    upstream = Upstream(story, *lines)
    admission = Admission(
        max_in_flight=max_in_flight, max_waiting=max_waiting, max_wait_s=wait_s, now=CLOCK.monotonic
    )
    intake = Intake()
    keys = _Keys({TENANT.team_id: KEY})
    log = make_log(level="info", style="json", clock=CLOCK, stream=stream)
    flow = OrderFlow(
        ledger=ledger,
        describer=Describer(
            marks=VAULT, ledger_id="ledger-1", clock=CLOCK, implicit_window_s=implicit_window_s, ttl_s=86400
        ),
        gate=Gate(
            intake=intake, keys=keys, reads=ledger, breaker=breaker, upstream=upstream, clock=CLOCK,
            metrics=metrics, look_s=60,
        ),
        admission=admission,
        sender=Sender(
            ledger=ledger, upstream=upstream, keys=keys, breaker=breaker, intake=intake, clock=CLOCK, metrics=metrics,
            log=log, timeout_s=timeout_s,
        ),
        clock=CLOCK, metrics=metrics, log=log,
        intake=intake,
    )  # fmt: skip
    gateway = Gateway(
        flow=flow, ledger=ledger, upstream=upstream, story=story, metrics=metrics, admission=admission,
        intake=intake, keys=keys, log=stream, path=path,
    )  # fmt: skip
    try:
        yield gateway
    finally:
        ledger.gate.set()
        await gateway.intake.drain(30)
        await ledger.close()


def said(answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answer.body)
    return found


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Waits for a condition; the test's own timeout ends what never comes."""
    while not await holds():  # noqa: ASYNC110 - what is waited for may stand in a file
        await asyncio.sleep(0.005)
