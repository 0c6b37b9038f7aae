"""OfferGrid, as nice and as nasty as the seed says; it alone knows which orders it really took.

`Accounts` is all of it, whatever team asks. `Port` is what one process of the gateway talks to: the ports `place` and
`list_orders` of the gateway's flow, with evidence as the real transport gives it.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable
from typing import Final, Literal

import msgspec

from gateway.broker.vault import Secret
from gateway.clock import Clock
from gateway.core.evidence import Answered, Evidence, NotSent, NotSentReason, Sent
from tests.simulate.simulated_disk import Disk
from tests.simulate.virtual_loop import Host
from tests.simulate.world import World

Behaviour = Literal["takes", "never", "late"]
JSON_REFUSAL: Final = b'{"statusCode":%d,"message":"m"}'
HTML: Final = b"<html><body>no</body></html>"
UNSENT: Final[tuple[NotSentReason, ...]] = (
    "connect_refused",
    "connect_timeout",
    "unresolvable",
    "tls",
    "no_connection",
)
ODD_STATUSES: Final = (101, 301, 302, 404, 403, 401, 429, 408, 201, 200, 502)
LATEST: Final = 4
"""Where OfferGrid acts later than the promise assumes: times `settle_after_s`, at most."""

WITNESSED_S: Final = 1800.0
"""Of what went out so shortly before an order, the ledger is sure to look for all in a listing."""


class Post(msgspec.Struct, kw_only=True):
    """One order that went out: whose, which attempt, and when its first byte left."""

    team_id: int
    host: Host
    order_id: str
    attempt: int
    tenant: str
    ref: str
    metadata: str
    at: float
    ended: float | None = None
    acts_at: float | None = None
    late: bool = False


class Taken(msgspec.Struct, kw_only=True, frozen=True):
    """An order that OfferGrid has. It shows in listings from `shown_at` on. `doubled`: OfferGrid's own doing."""

    upstream_id: str
    post: Post
    at: float
    shown_at: float
    entry: bytes
    bare: bytes
    doubled: bool


class Scenario(msgspec.Struct, kw_only=True):
    """What OfferGrid does with one order: whether it acts and after how long, and what it answers after how long."""

    acts: Behaviour = "takes"
    acts_after_s: float = 0
    answer_after_s: float = 0
    answer: Callable[[Taken | None], Evidence] | None = None


class Accounts:
    """The accounts of all teams. `taken` is the truth."""

    def __init__(self, world: World, disk: Disk) -> None:
        self.world = world
        self.disk = disk
        self.taken: list[Taken] = []
        self.posts: list[Post] = []
        self.open: list[Post] = []
        self.pending: list[Post] = []  # over for the gateway, and still to be acted on
        self.hiccups: defaultdict[int, bool] = defaultdict(bool)
        self.short_until: defaultdict[int, float] = defaultdict(float)
        self.short_kind: dict[int, tuple[str, float]] = {}
        self._numbers = 0
        teams = range(1, world.plan.teams + 1)
        self.others = [self._another(team) for team in teams for _ in range(world.plan.foreign)]

    def _another(self, team_id: int) -> Taken:
        """An order that stands in the team's account and is none of this ledger's: another gateway's, or by hand."""
        self._numbers += 1
        world, upstream_id = self.world, f"other-{self._numbers}"
        metadata = world.chance.choice(('{"gatewayOrderId":"o","gatewayLedger":"ledger-2"}', "{}"))
        post = Post(
            team_id=team_id, host=world, order_id="", attempt=0, tenant="", ref="", metadata=metadata, at=0
        )  # fmt: skip
        entry = f'{{"orderId":"{upstream_id}","metadata":{metadata}}}'.encode()
        return Taken(
            upstream_id=upstream_id, post=post, at=0, entry=entry, bare=entry, doubled=False,
            shown_at=world.chance.choice((0.0, world.between(0, world.plan.lasts_s))),
        )  # fmt: skip

    def first_byte(self, host: Host, team_id: int, body: bytes) -> Post:
        """A byte leaves: from now on the order may be taken. Looks whether the ledger knows that, durably."""
        content = json.loads(body)
        metadata = content["metadata"]
        order_id = metadata["gatewayOrderId"]
        row = self.disk.real.execute(
            "SELECT outcome, team_id, tenant,"
            " (SELECT max(number) FROM attempts WHERE order_id = ?1 AND ended_ms IS NULL),"
            " (SELECT max(at) FROM sim_history WHERE order_id = ?1 AND before IS NOT 'in_flight')"
            " FROM orders WHERE order_id = ?1",
            (order_id,),
        ).fetchone()
        post = Post(
            team_id=team_id, host=host, order_id=order_id, attempt=0, tenant=metadata["gatewayTenant"],
            ref=content["ref"], metadata=json.dumps(metadata), at=self.world.loop.time(),
        )  # fmt: skip
        if row is None or row[0] != "in_flight" or row[3] is None:
            self.world.wrong(f"order {order_id} goes out, and the ledger says {row}")
        else:
            post.attempt = row[3]
            if (row[1], row[2]) != (team_id, post.tenant):
                self.world.wrong(f"order {order_id} of {row[1:3]} goes out to team {team_id} for {post.tenant}")
            if post.at > row[4] + self.world.plan.settings.timeout_s / 2:
                self.world.wrong(f"order {order_id} goes out {post.at - row[4]:.1f} s after it was meant to")
        self.posts.append(post)
        self.open.append(post)
        self.world.note("first_byte", host, f"{order_id} {post.attempt}")
        return post

    def end(self, post: Post) -> None:
        """The attempt is over, as far as the gateway can tell; what acts late does so from now on."""
        if post.ended is None:
            post.ended = self.world.loop.time()
            self.open.remove(post)
            if post.late or (post.acts_at is not None and post.acts_at > post.ended + self._latest()):
                post.acts_at = post.ended + self.world.between(0, self._latest())
                self.world.later(post.acts_at - post.ended, self.act, post)
            if post.acts_at is not None:
                self.pending.append(post)

    def gone(self, host: Host) -> None:
        """The process died, and its connections with it."""
        for post in [post for post in self.open if post.host is host]:
            self.end(post)

    def act(self, post: Post) -> Taken | None:
        """Takes the order, if that is still what is to happen now: the attempt's end may have moved it."""
        if post.acts_at is None or self.world.loop.time() < post.acts_at - 1e-6:
            return None
        acts_at, post.acts_at = post.acts_at, None
        if post in self.pending:
            self.pending.remove(post)
        taken = self.take(post, acts_at)
        if self.world.happens(self.world.rates.doubles):
            self.take(post, acts_at, doubled=True)
        return taken

    def catch_up(self) -> None:
        """What was to be done by now is done: a slow machine of the gateway's makes OfferGrid no slower."""
        for post in [post for post in self.pending if (post.acts_at or 0) <= self.world.loop.time()]:
            self.act(post)

    def take(self, post: Post, now: float, *, doubled: bool = False) -> Taken:
        self._numbers += 1
        plan = self.world.plan
        upstream_id = f"og-{self._numbers}"
        common = f'"orderId":"{upstream_id}","status":"PENDING","ref":"{post.ref}"'
        shown = now if self.world.healed else now + self.world.between(0, self._stale_s())
        taken = Taken(
            upstream_id=upstream_id, post=post, at=now, shown_at=shown, doubled=doubled,
            entry=f'{{{common},"metadata":{post.metadata}}}'.encode(), bare=f"{{{common}}}".encode(),
        )  # fmt: skip
        self.taken.append(taken)
        self.world.note("taken", self.world, f"{post.order_id} {upstream_id}")
        if plan.mode == "sound" and post.ended is not None:
            assert now <= post.ended + plan.settings.settle_after_s, "the simulator broke what the promise assumes"
        return taken

    def _latest(self) -> float:
        """How long after an attempt's end OfferGrid may still act, so that its listings show it in time."""
        settle = self.world.plan.settings.settle_after_s
        if self.world.plan.mode == "late":
            return LATEST * settle
        return max(0.0, settle - self.world.plan.stale_s - 0.5)

    def _stale_s(self) -> float:
        """For a half of the staleness that a history has: the other half is listings that are behind."""
        return self.world.plan.stale_s / 2


class Port:
    """One process's way to OfferGrid."""

    def __init__(self, grid: Accounts, host: Host, clock: Clock, teams: dict[str, int]) -> None:
        self._grid = grid
        self._clock = clock
        self._world = grid.world
        self._host = host
        self._teams = teams

    async def place(
        self,
        body: bytes,
        *,
        request_id: str,  # noqa: ARG002 - part of the port
        traceparent: str,  # noqa: ARG002 - part of the port
        key: Secret,
        deadline: float,
        may_send: Callable[[], bool],
    ) -> Evidence:
        world, loop = self._world, self._world.loop
        await asyncio.sleep(world.soon(0.3))
        if world.happens(world.rates.not_sent):
            await asyncio.sleep(world.soon(3))
            return NotSent(reason=world.chance.choice(UNSENT))
        if self._clock.monotonic() >= deadline:
            return NotSent(reason="connect_timeout")
        if not may_send():
            world.note("too_late", self._host)
            return NotSent(reason="too_late")
        post = self._grid.first_byte(self._host, self._teams[key.reveal()], body)
        answer: asyncio.Future[Evidence] = loop.create_future()
        self._play(post, _scenario(world), answer)
        try:
            async with asyncio.timeout(deadline - self._clock.monotonic()):
                evidence = await answer
        except TimeoutError:
            evidence = Sent(reason="timeout")
        finally:
            self._grid.end(post)
        world.note("attempt_ended", self._host, f"{post.order_id} {evidence}")
        return evidence

    def _play(self, post: Post, scenario: Scenario, answer: "asyncio.Future[Evidence]") -> None:
        """What OfferGrid does goes on in its own time, whether or not the process lives on."""
        world = self._world

        def act() -> None:
            taken = self._grid.act(post)
            if taken is not None:
                world.later(scenario.answer_after_s, say, taken)

        def say(taken: Taken | None) -> None:
            if scenario.answer is not None and post.ended is None and not answer.done():
                answer.set_result(scenario.answer(taken))

        world.seen[f"scenario {scenario.acts}"] += 1
        post.late = scenario.acts == "late"
        if scenario.acts == "takes":
            post.acts_at = world.loop.time() + scenario.acts_after_s
            world.later(scenario.acts_after_s, act)
        else:
            world.later(scenario.acts_after_s + scenario.answer_after_s, say, None)

    async def show_order(self, upstream_order_id: str, *, key: Secret, deadline: float) -> Evidence:  # noqa: ARG002 - part of the port
        """By which the breaker finds out whether OfferGrid is there."""
        world = self._world
        await asyncio.sleep(world.soon(0.5))
        if world.happens(world.rates.not_sent):
            return NotSent(reason="connect_refused")
        if world.happens(world.rates.hang):
            await asyncio.sleep(max(0.0, deadline - self._clock.monotonic()))
            return Sent(reason="timeout")
        status = 503 if world.happens(world.rates.server_error) else 404
        return Answered(status=status, body=JSON_REFUSAL % status)

    async def list_orders(
        self,
        *,
        key: Secret,
        deadline: float,
        page: str | None = None,
        spent_bytes: int = 0,  # noqa: ARG002 - part of the port
    ) -> Evidence:
        world = self._world
        grid, rates, team_id = self._grid, world.rates, self._teams[key.reveal()]
        known = {row[0] for row in grid.disk.real.execute(
            "SELECT upstream_order_id FROM orders WHERE team_id = ? AND outcome = 'placed'", (team_id,)
        )}  # fmt: skip
        await asyncio.sleep(world.soon(0.5))
        if world.happens(rates.listing_fails):
            return await self._failing(deadline)
        evidence = _listing(grid, team_id, known, page)
        await asyncio.sleep(world.soon(2))
        world.note("listed", self._host, f"{team_id} {len(evidence.body)}")
        return evidence

    async def _failing(self, deadline: float) -> Evidence:
        world = self._world
        kind = world.chance.choice(("unsent", "cut", "hang", "500", "429", "401", "html"))
        world.seen[f"listing {kind}"] += 1
        match kind:
            case "unsent":
                return NotSent(reason="connect_refused")
            case "cut":
                return Sent(reason="broken")
            case "hang":
                await asyncio.sleep(max(0.0, min(deadline - self._clock.monotonic(), world.between(1, 40))))
                return Sent(reason="timeout")
            case "html":
                return Answered(status=200, body=HTML)
            case _:
                return Answered(status=int(kind), body=JSON_REFUSAL % int(kind), retry_after="7")


def _scenario(world: World) -> Scenario:
    """What OfferGrid does with the next order. One draw decides which kind of trouble it is, if any."""
    rates, chance = world.rates, world.chance
    quick = Scenario(acts_after_s=world.soon(0.5), answer_after_s=world.soon(0.5), answer=_is_placed)
    if world.happens(rates.slow):
        quick.answer_after_s = world.between(0, 1.5 * world.plan.settings.timeout_s)
    for name, trouble in _TROUBLES.items():
        if world.happens(getattr(rates, name)):
            world.seen[f"trouble {name}"] += 1
            trouble(world, quick)
            return quick
    if world.happens(rates.rejected):
        quick.acts, status = "never", chance.choice((400, 404, 409, 422))
        quick.answer = lambda _: Answered(status=status, body=JSON_REFUSAL % status)
    return quick


def _is_placed(taken: Taken | None) -> Evidence:
    assert taken is not None
    return Answered(status=201, body=taken.bare)


def _cut(world: World, scenario: Scenario) -> None:
    scenario.acts = "never"
    scenario.answer = lambda _: Sent(reason="broken")


def _lost_answer(world: World, scenario: Scenario) -> None:
    scenario.answer = lambda _: Sent(reason="broken")


def _hang(world: World, scenario: Scenario) -> None:
    scenario.acts = world.chance.choice(("takes", "never", "late"))
    scenario.acts_after_s = world.soon(world.plan.settings.timeout_s)
    scenario.answer = None


def _server_error(world: World, scenario: Scenario) -> None:
    scenario.acts = world.chance.choice(("takes", "never", "late"))
    status = world.chance.choice((500, 502, 503, 504))
    body = world.chance.choice((JSON_REFUSAL % status, HTML, b""))
    scenario.answer = lambda _: Answered(status=status, body=body)


def _throttled(world: World, scenario: Scenario) -> None:
    scenario.acts = "never"
    after = world.chance.choice(
        ("1", "1", "2", "3", "3600", None, "-1", "1" + "0" * 30, "soon", "Thu, 01 Jan 1970 00:00:00 GMT")
    )
    scenario.answer = lambda _: Answered(status=429, body=JSON_REFUSAL % 429, retry_after=after)


def _key_refused(world: World, scenario: Scenario) -> None:
    scenario.acts = "never"
    status, empty = world.chance.choice((401, 403)), world.chance.random() < 0.3
    scenario.answer = lambda _: Answered(status=status, body=b"" if empty else JSON_REFUSAL % status)


def _odd_answer(world: World, scenario: Scenario) -> None:
    """An answer that says nothing, whether or not it was acted on."""
    scenario.acts = world.chance.choice(("takes", "never", "late"))
    status = world.chance.choice(ODD_STATUSES)
    body = world.chance.choice(
        (HTML, b'{"orderId":5}', b'{"orderId":"a","orderId":"b"}', b'{"order', b"\xff", b"[NaN]")
    )
    if 400 <= status < 500 and status != 408:
        body = HTML  # with a JSON object it would say that the order was refused
    scenario.answer = lambda _: Answered(status=status, body=body)


def _acts_late(world: World, scenario: Scenario) -> None:
    scenario.acts = "late"
    scenario.answer = lambda _: Sent(reason="broken")


_TROUBLES: Final[dict[str, Callable[[World, Scenario], None]]] = {
    "cut": _cut,
    "lost_answer": _lost_answer,
    "hang": _hang,
    "server_error": _server_error,
    "throttled": _throttled,
    "key_refused": _key_refused,
    "odd_answer": _odd_answer,
    "acts_late": _acts_late,
}


def _listing(grid: Accounts, team_id: int, known: set[str], page: str | None) -> Answered:
    """What OfferGrid lists of a team now. `known`: the upstream ids that the ledger held when it was asked."""
    world = grid.world
    grid.catch_up()
    now = world.loop.time() - (0 if world.healed else world.between(0, world.plan.stale_s / 2))
    everything = [*grid.others, *grid.taken]
    there = [taken for taken in everything if taken.post.team_id == team_id and taken.shown_at <= now]
    if page is not None:
        return Answered(status=200, body=_array([taken.entry for taken in there[int(page.partition("=")[2]) :]]))
    if world.happens(world.rates.listing_odd):
        return _odd_listing(world, there)
    shown = _shortened(grid, team_id, there)
    if shown is not there and (world.plan.mode == "short" or _can_be_noticed(there, shown, known)):
        world.seen["listing short"] += 1
        return Answered(status=200, body=_array([taken.entry for taken in shown]))
    grid.hiccups[team_id] = not grid.hiccups[team_id] and world.happens(world.rates.listing_hiccup)
    if grid.hiccups[team_id]:  # one listing alone may leave anything out, and nobody can tell
        world.seen["listing hiccup"] += 1
        there = [taken for taken in there if taken.upstream_id in known or world.chance.random() < 0.3]
    return Answered(status=200, body=_array([taken.entry for taken in there]))


def _odd_listing(world: World, there: list[Taken]) -> Answered:
    """One whose oddness shows."""
    kind = world.chance.choice(("marked", "linked", "object", "cut off", "bare", "twice", "unordered"))
    world.seen[f"listing {kind}"] += 1
    entries = [taken.entry for taken in there]
    some = len(entries) // 2
    half = entries[:some]
    match kind:
        case "marked":
            return Answered(status=200, body=b'{"data":%s,"hasMore":true}' % _array(half))
        case "linked":
            return Answered(status=200, body=_array(half), link=f'<?from={some}>; rel="next"')
        case "object":
            return Answered(status=200, body=b'{"orders":%s,"total":%d}' % (_array(entries), len(entries)))
        case "cut off":
            return Answered(status=200, body=_array(entries)[:-1])
        case "bare" if there:
            return Answered(status=200, body=_array([taken.bare for taken in there]))
        case "twice":
            return Answered(status=200, body=_array(entries + entries))
        case _:
            return Answered(status=200, body=_array(entries[::-1]))


def _shortened(grid: Accounts, team_id: int, there: list[Taken]) -> list[Taken]:
    """Without a word that anything is missing: a page of it, another account's, or with some left out; for a while."""
    world = grid.world
    if grid.short_until[team_id] < world.loop.time() and world.happens(world.rates.listing_short):
        grid.short_until[team_id] = world.loop.time() + world.between(0, 8) * world.plan.settings.interval_s
        grid.short_kind[team_id] = (
            world.chance.choice(("oldest", "newest", "none", "some", "account")),
            world.chance.random(),
        )
    if world.healed or grid.short_until[team_id] < world.loop.time():
        return there
    kind, part = grid.short_kind[team_id]
    some = int(part * (len(there) + 1))
    match kind:
        case "oldest":
            return there[:some]
        case "newest":
            return there[some:]
        case "none":
            return []
        case "account":  # another one than the ledger believes
            return [taken for taken in [*grid.others, *grid.taken] if taken.post.team_id != team_id]
        case _:
            return [taken for taken in there if (taken.post.at * 1000) % 10 < 7]


def _can_be_noticed(there: list[Taken], shown: list[Taken], known: set[str]) -> bool:
    """Whether the gateway can tell that it was shown less: an order is missing that it knows, made shortly before."""
    hidden = [taken for taken in there if taken not in shown and taken.post.order_id]
    unknown = [taken for taken in hidden if taken.upstream_id not in known]
    witnesses = [taken.post.at for taken in hidden if taken.upstream_id in known]
    newest = max((taken.post.at for taken in unknown), default=0.0)
    return not unknown or any(at > newest - WITNESSED_S for at in witnesses)


def _array(entries: list[bytes]) -> bytes:
    return b"[" + b",".join(entries) + b"]"
