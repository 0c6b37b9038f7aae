"""Tenants and their clients: what they ask for, how often, and what they are told."""

import asyncio
import hashlib
import json

import msgspec

from gateway.core.directory import Tenant
from gateway.core.json_text import canonical_json, read_object
from gateway.errors import IdempotencyKeyReused
from gateway.flow.answer import Answer
from gateway.flow.ports import OrderRequest
from tests.simulate.simulated_gateway import GatewayProcess
from tests.simulate.world import World

MAX_KEPT_S = 120.0
"""Nobody waits for longer than that to ask once more."""

BROKEN = "broken"
"""The connection ended without an answer, or the client had no more patience."""


class Wish(msgspec.Struct, kw_only=True):
    """One order that a tenant wants once. `ref` is in its body; `key` None: it sends no idempotency key."""

    number: int
    tenant: Tenant
    ref: str
    key: str | None
    request: OrderRequest
    told: list["Told"] = []


class Told(msgspec.Struct, kw_only=True, frozen=True):
    """What came of one request. `kind`: the problem's type, `placed` for a 201, `broken` for no answer."""

    wish: Wish
    asked: float
    at: float
    kind: str
    status: int = 0
    outcome: str = ""
    retryable: bool = False
    order_id: str | None = None
    upstream_id: str | None = None
    ref: str | None = None
    digest: str = ""

    @property
    def final(self) -> bool:
        return self.kind in ("placed", "order-rejected", "idempotency-key-reused")


class Tenants:
    """All of them. `processes` are those that may be asked at the moment, alive or not."""

    def __init__(self, world: World, tenants: list[Tenant], processes: list[GatewayProcess]) -> None:
        self._world = world
        self._processes = processes
        self.wishes: list[Wish] = []
        for number in range(world.plan.orders):
            self.wishes.append(self._wish(number, tenants))
        self.told: list[Told] = []
        self.busy = 0

    def _wish(self, number: int, tenants: list[Tenant]) -> Wish:
        """Every fourth one is another tenant's too, with the same key and the same body."""
        chance = self._world.chance
        same = number % 4 == 3 and len(tenants) > 1
        ref = f"r{number - 1 if same else number}"
        tenant = tenants[(number if same else number // 2) % len(tenants)]
        clashes = number % 8 == 5
        key = None if chance.random() < 0.25 and not same else f"key-r{number - 1 if clashes else number}"
        if same:
            key = self.wishes[-1].key
        body = read_object(json.dumps({"items": [], "ref": ref}).encode())
        request = OrderRequest(
            tenant=tenant, body=body, content=canonical_json(body.values()), idempotency_key=key,
            request_id=f"q{number}", traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01", received_ms=0,
            hung_up=_never,
        )  # fmt: skip
        return Wish(number=number, tenant=tenant, ref=ref, key=key, request=request)

    async def want(self, wish: Wish) -> None:
        """A client that sends its order until it knows, or loses patience."""
        world = self._world
        self.busy += 1
        await asyncio.sleep(world.between(0, world.plan.lasts_s))
        clients = world.chance.choice((1, 1, 1, 2, 5))
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(self._persist(wish, world.chance.choice((1, 3, 8))))
        self.busy -= 1

    async def _persist(self, wish: Wish, times: int) -> None:
        world = self._world
        for _ in range(times):
            told = await self.ask(wish)
            if told.final and world.chance.random() < 0.7:
                kept_s = self._kept_s(wish)
                if world.healed or kept_s > MAX_KEPT_S or not world.happens(world.plan.repeats / 10):
                    return
                await asyncio.sleep(world.between(0.5, 2) * kept_s)
            await asyncio.sleep(world.soon(40) if told.kind != "order-in-flight" else world.between(0.1, 2))
            if world.healed:
                return

    def _kept_s(self, wish: Wish) -> float:
        """About as long as the gateway knows the wish again: asked then, it may be known or new."""
        settings = self._world.plan.settings
        return settings.ttl_s if wish.key else settings.implicit_window_s

    async def ask(self, wish: Wish) -> Told:
        """One request to one process, and what its client makes of it."""
        world, asked = self._world, self._world.loop.time()
        told = await self._asked(wish)
        found = self._understood(wish, asked, told)
        wish.told = [*wish.told, found]
        self.told.append(found)
        world.note(f"told {found.kind}", world, f"{wish.ref} {wish.tenant.name} {found.order_id} {found.digest}")
        return found

    async def _asked(self, wish: Wish) -> Answer | Exception | None:
        world = self._world
        await asyncio.sleep(world.soon(0.2))
        there = [process for process in self._processes if process.accepts]
        if not there:
            await asyncio.sleep(world.between(0.1, 3))
            return None
        process = world.chance.choice(there)
        answer: asyncio.Future[Answer | Exception | None] = world.loop.create_future()
        process.callers.append(answer)

        def tell(told: Answer | Exception) -> None:
            world.note("answering", process)
            world.later(world.soon(0.2), arrive, told)

        def arrive(told: Answer | Exception) -> None:
            if not answer.done() and not process.dead:
                answer.set_result(told)

        world.note("asking", process, wish.ref)
        gone = asyncio.Event()
        request = msgspec.structs.replace(
            wish.request,
            request_id=f"q{wish.number}-{len(self.told)}-{world.seen['asking']}",
            received_ms=round(world.loop.time() * 1000),
            hung_up=gone.wait,
        )
        process.take(request, tell)
        patience = 90.0
        hangs_up = world.happens(world.rates.hang_up)
        if hangs_up:
            patience = world.between(0, 2 * world.plan.settings.timeout_s)
        try:
            async with asyncio.timeout(patience):
                return await answer
        except TimeoutError:
            gone.set()
            return None
        finally:
            process.callers.remove(answer)

    @staticmethod
    def _understood(wish: Wish, asked: float, told: Answer | Exception | None) -> Told:
        at = asyncio.get_running_loop().time()
        if told is None:
            return Told(wish=wish, asked=asked, at=at, kind=BROKEN)
        if isinstance(told, IdempotencyKeyReused):
            return Told(wish=wish, asked=asked, at=at, kind=told.type, status=told.status)
        if isinstance(told, Exception):
            raise AssertionError(f"the gateway raised {told!r}") from told
        content = json.loads(told.body)
        placed = told.status == 201
        return Told(
            wish=wish,
            asked=asked,
            at=at,
            kind="placed" if placed else content["type"].rpartition("/")[2],
            status=told.status,
            outcome="placed" if placed else content["outcome"],
            retryable=not placed and content["retryable"],
            order_id=told.order_id,
            upstream_id=content["orderId"] if placed else None,
            ref=content.get("ref"),
            digest=hashlib.sha256(told.body).hexdigest(),
        )


async def _never() -> None:
    await asyncio.Event().wait()
