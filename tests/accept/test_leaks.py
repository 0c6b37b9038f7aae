"""A gateway that has carried some thousands of requests of every kind holds what it held before.

Descriptors, tasks and threads are counted by kind and must be the same after every round as after the first. Memory
is judged in two ways. *Blocks*, what Python's own allocator has given out, are exact: garbage is collected first, and
then one object left behind by each order would be seen among them, however small; they may grow by one for every
second request, which leaves room for tables and caches that still fill up. Resident memory, in which the libraries
written in C are seen as well, moves by whole pages, by what allocators keep for themselves and by caches of SQLite
that fill up as the ledger grows: of the later half of the rounds its median may be 5 % above that of the earlier half.

The first rounds are not judged: pools of threads, caches of pages and tables of counters fill up to their size then.
Each round has a team of its own, all of which are there from the start: a listing that grows from round to round would
take more memory each time, and rightly so.
"""

import os
import queue
import random
import signal
import statistics
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Final

from gateway.broker.administration import NewTenant
from gateway.broker.vault import Secret
from gateway.sandbox.control import show_order
from tests.accept.raw import BODY, RawConnection, exchange, request
from tests.accept.world import World, a_world, wait_until
from tests.support import promise
from tests.support.held import Held, ask, differences, least
from tests.support.promise import Records
from tests.support.records import rows_of, taken_of

SOAK: Final = os.environ.get("ORDERGATE_SOAK") == "1"
SEED: Final = int(os.environ.get("ORDERGATE_SEED", "20261123"))
WARM_UP: Final = 2
"""Rounds."""
ROUNDS: Final = 40 if SOAK else 4
REQUESTS: Final = 600
"""In a round."""
TENANTS: Final = 12

BLOCKS_A_REQUEST: Final = 0.5
RESIDENT: Final = 1.05

SETTINGS: Final[Mapping[str, Any]] = {
    "program": ("tests.support.held", "held", "serve"),
    "budget__per_minute": 0,
    "budget__per_hour": 0,
    "budget__reserved_per_minute": 1_000_000,
    # Fewer places than there are tenants, and little patience: some orders wait, and some of those in vain.
    "upstream__max_in_flight": TENANTS - 4,
    "admission__max_wait_s": 0.1,
    "upstream__timeout_s": 0.6,
    "upstream__connect_timeout_s": 0.3,
    "upstream__keepalive_idle_s": 0.2,
    "reconcile__interval_s": 0.2,
    "reconcile__settle_after_s": 0.4,
    # Orders that were not there are looked out for no longer than this; the memory of them is no leak.
    "reconcile__watch_s": 1,
}
NO_ORDER: Final = "01890000-0000-7000-8000-000000000000"

FAULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "refuse": {"after_s": 0.02},
    "reset_before_read": {},
    "reset_after_headers": {},
    "reset_after_read": {},
    "stop_reading": {},
    "slow": {"after_s": 0.2},
    "place_then_reset": {},
    "place_then_hang": {},
    "place_then_500": {},
    "truncate": {},
    "wrong_length": {},
    "garbage": {},
    "extra_bytes": {},
    "idle_close": {},
    "trickle": {"every_s": 0.01},
    "huge": {"size": 4_000_000},
    "gzip_bomb": {"size": 4_000_000},
    "1xx_flood": {"size": 50},
    "html_4xx": {},
    "echo_key": {},
    "status": {"code": 503},
    "redirect": {"location": "http://127.0.0.1:1/"},
    "list_page": {"size": 3},
    "list_drop_metadata": {},
}
REFUSED_UPSTREAM: Final = (400, 403, 404, 408, 422, 429, 500)

Deed = Callable[["Tenant"], None]


class Tenant:
    """One who asks, on a connection that is kept for as long as both sides keep it."""

    def __init__(self, world: World, token: str, seed: int) -> None:
        self.world = world
        self.token = token
        self.chance = random.Random(seed)  # noqa: S311  # no secret: what to ask next
        self.told: Counter[str] = Counter()
        self._connection: RawConnection | None = None
        self._last = self.order()

    def order(self, *, key: bool = True) -> bytes:
        key_line = [f"Idempotency-Key: {uuid.uuid4().hex}"] if key else []
        return request(*key_line, token=self.token)

    def place(self, data: bytes | None = None) -> None:
        self._last = self.order() if data is None else data
        self.say(self._last)

    def again(self) -> None:
        self.say(self._last)

    def say(self, data: bytes, *, body: bool = True, where: str | None = None) -> None:
        """Sends it and takes the answer; `where`: on a connection of its own, to that listener."""
        try:
            with self._on(where) as connection:
                connection.send(data)
                answer = connection.answer(body=body)
                self.told[str(answer.status_code)] += 1
                if answer.headers.get("connection") == "close" and where is None:
                    self.hang_up()
        except (
            EOFError,
            OSError,
        ):  # the gateway ended the connection: with the one before it, or without an answer
            self.told["no answer"] += 1
            self.hang_up()

    def hang_up_after(self, data: bytes, wait_s: float) -> None:
        """Says that much on a connection of its own, and goes."""
        with self._on(self.world.stack.tenant_url) as connection:
            connection.send(data)
            time.sleep(wait_s)
        self.told["hung up"] += 1

    def hang_up(self) -> None:
        if self._connection is not None:
            self._connection.__exit__(None, None, None)
            self._connection = None

    @contextmanager
    def _on(self, where: str | None) -> Iterator[RawConnection]:
        if where is not None:
            with RawConnection(where) as connection:
                yield connection
        else:
            if self._connection is None:
                self._connection = RawConnection(self.world.stack.tenant_url)
            yield self._connection


def in_trouble(tenant: Tenant) -> None:
    """OfferGrid does to some order, this one or another, what it should not; sometimes it is asked for once more."""
    kind = tenant.chance.choice(list(FAULTS))
    tenant.world.sandbox.set_fault(kind, **FAULTS[kind])
    tenant.place(tenant.order(key=tenant.chance.random() < 0.5))
    if tenant.chance.random() < 0.5:
        tenant.again()


def refused_upstream(tenant: Tenant) -> None:
    tenant.world.sandbox.set_fault("status", code=tenant.chance.choice(REFUSED_UPSTREAM))
    tenant.place()


def hung_up(tenant: Tenant) -> None:
    """In the middle of the header, of the body, or while the order is placed."""
    whole = tenant.order()
    if tenant.chance.random() < 0.5:
        tenant.world.sandbox.set_fault("slow", after_s=0.2)
    upto = tenant.chance.choice((20, len(whole) - len(BODY) // 2, len(whole)))
    tenant.hang_up_after(whole[:upto], tenant.chance.choice((0.0, 0.05)))


def looked(tenant: Tenant) -> None:
    """Always at the same paths: the web framework remembers the last thousand."""
    path = tenant.chance.choice(("/orders?limit=5", f"/orders/{NO_ORDER}", "/orders?limit=x", "/nothing"))
    tenant.say(request(first=f"GET {path} HTTP/1.1", token=tenant.token, body=b"", kind=None))


def asked_the_operators_side(tenant: Tenant) -> None:
    path = tenant.chance.choice(("/metrics", "/healthz", "/readyz", "/admin/nothing"))
    token = tenant.chance.choice((tenant.world.stack.admin_token, "wrong"))
    asked = request(first=f"GET {path} HTTP/1.1", host="Host: localhost", token=token, body=b"", kind=None)
    tenant.say(asked, where=tenant.world.stack.admin_url)


def not_understood(tenant: Tenant) -> None:
    """Bodies that are no orders, headers that are none, and requests that can be read in two ways."""
    token = tenant.token
    tenant.say(
        tenant.chance.choice(
            (
                request(token=token, body=b'{"items": ['),
                request(token=token, body=b'{"items": 5}'),
                request(token=token, body=b"[" * 5_000),
                request(token=token, body=b" " * 300_000),
                request("Content-Encoding: gzip", token=token),
                request("Transfer-Encoding: chunked", token=token),
                request("Idempotency-Key: two words", token=token),
                request("X-Long: " + "x" * 20_000, token=token),
                request(token=token, kind="text/plain"),
                request(first="POST /orders?" + "x" * 9_000 + " HTTP/1.1", token=token),
                request(first="DELETE /orders HTTP/1.1", token=token),
                b"\x16\x03\x01 this is no HTTP\r\n\r\n",
            )
        )
    )


def not_let_in(tenant: Tenant) -> None:
    token = tenant.chance.choice(
        ("wrong", tenant.token[:-1] + "x", f"ogt_{uuid.uuid4().hex[:12]}_{'s' * 43}", None)
    )
    tenant.say(request(token=token))


def another_body(tenant: Tenant) -> None:
    """Under a key that is taken."""
    key = f"Idempotency-Key: {uuid.uuid4().hex}"
    for _ in range(2):
        tenant.say(request(key, token=tenant.token))


DEEDS: Final[Mapping[Deed, int]] = {
    Tenant.place: 30,
    lambda tenant: tenant.place(tenant.order(key=False)): 10,
    Tenant.again: 12,
    in_trouble: 18,
    refused_upstream: 5,
    hung_up: 5,
    not_understood: 8,
    not_let_in: 5,
    another_body: 2,
    looked: 4,
    asked_the_operators_side: 1,
}


def register(world: World) -> None:
    """A team, its key and a tenant for each round. What is asked for it leaves no connection behind."""
    with world.stack.administration() as admin:
        for number in range(WARM_UP + ROUNDS):
            team, tenant = f"team-{number}", f"tenant-{number}"
            admin.add_team(team)
            admin.add_key(team, Secret(f"sandbox-key-{number}"))
            admin.add_tenant(NewTenant(name=tenant, team=team))
            world.tokens[tenant] = admin.issue_token(tenant).token.text()
    asked = request(first="GET /orders HTTP/1.1", token=world.tokens[tenant], body=b"", kind=None)
    wait_until(lambda: exchange(world.stack.tenant_url, asked).status_code == 200, "the last of them to be known")


def a_round(world: World, number: int) -> Counter[str]:
    """Requests of all kinds from several tenants at once, until every order is settled and everybody has gone."""
    chance = random.Random(f"{SEED} {number}")  # noqa: S311  # no secret: what is asked
    waiting: queue.SimpleQueue[Deed] = queue.SimpleQueue()
    for deed in chance.choices(list(DEEDS), list(DEEDS.values()), k=REQUESTS):
        waiting.put(deed)
    token, told = world.tokens[f"tenant-{number}"], Counter[str]()

    def ask_on(seed: int) -> Counter[str]:
        tenant = Tenant(world, token, seed)
        with suppress(queue.Empty):
            while True:
                waiting.get_nowait()(tenant)
        tenant.hang_up()
        return tenant.told

    with ThreadPoolExecutor(TENANTS) as tenants:
        for done in tenants.map(ask_on, [chance.randrange(1 << 30) for _ in range(TENANTS)]):
            told += done
    world.sandbox.clear_faults()
    ledger = world.stack.folder / "var/ordergate.db"
    wait_until(lambda: not promise.nothing_unsettled(rows_of(ledger)), "an end of every doubt")
    return told


def keys_astray(world: World) -> list[str]:
    """So many teams are seldom together: each one's orders went out with its own key."""
    orders = world.sandbox.call(lambda box: [show_order(order) for order in box.orders])
    keys = {f"tenant-{number}": [f"sandbox-key-{number}"] for number in range(WARM_UP + ROUNDS)}
    return promise.keys_stay_with_their_team(Records(told=(), taken=taken_of(orders), rows=()), keys)


class Watcher:
    """Knows what the gateway's process holds."""

    def __init__(self, world: World) -> None:
        self._process = world.stack.process
        self._file = world.stack.folder / "held"

    def look(self) -> Held:
        return ask(lambda: self._process.signal(signal.SIGUSR1), self._file)

    def at_rest(self) -> tuple[Counter[str], Held]:
        """Once no connection is left: what is there all the time, and memory."""
        wait_until(lambda: not self.look().all()["descriptor connection"], "an end of every connection")
        looks = []
        for _ in range(20):
            looks.append(self.look())
            time.sleep(0.01)
        return least([look.all() for look in looks]), min(looks, key=lambda look: look.blocks)


def grown(rounds: Sequence[Held]) -> list[str]:
    """Where memory is more than it may be after so many rounds, the first of which was not judged."""
    blocks = (rounds[-1].blocks - rounds[0].blocks) / ((len(rounds) - 1) * REQUESTS)
    halves = rounds[: len(rounds) // 2], rounds[len(rounds) // 2 :]
    earlier, later = (statistics.median(look.resident_kib for look in half) for half in halves)
    resident = later / earlier
    wrong = [f"{blocks:.2f} blocks more with each request"] if blocks > BLOCKS_A_REQUEST else []
    return wrong + ([f"resident memory {resident:.3f} times what it was"] if resident > RESIDENT else [])


def test_nothing_is_held_on_to_after_thousands_of_requests_of_every_kind() -> None:
    with a_world(**SETTINGS) as world:
        watcher, told = Watcher(world), Counter[str]()
        register(world)
        for number in range(WARM_UP):
            told += a_round(world, number)
        before, first = watcher.at_rest()
        rounds, wrong = [first], []
        for number in range(WARM_UP, WARM_UP + ROUNDS):
            told += a_round(world, number)
            after, memory = watcher.at_rest()
            rounds.append(memory)
            wrong += [f"after round {number}: {sentence}" for sentence in differences(after, before)]
        wrong += keys_astray(world)
        print(  # noqa: T201  # the figures
            f"held: {ROUNDS} rounds of {REQUESTS} requests, "
            f"blocks {[look.blocks - first.blocks for look in rounds[1:]]}, "
            f"KiB {first.resident_kib} {[look.resident_kib - first.resident_kib for look in rounds[1:]]}, "
            f"{dict(sorted(told.items()))}"
        )
        assert not [*wrong, *grown(rounds)], "\n".join([*wrong, *grown(rounds)])
        missing = {"201", "400", "401", "404", "413", "415", "422", "431", "502", "503", "504", "hung up"} - set(
            told
        )
        assert not missing
