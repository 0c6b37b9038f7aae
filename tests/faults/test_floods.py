"""Floods: what one key carries, by OfferGrid's own clock, whoever asks, however often, whatever dies meanwhile.

`make test` plays the first seconds of each; `make soak PARTS=budget` several minutes, and prints the figures.
"""

import http.client
import json
import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec
import pytest

from gateway.broker.administration import NewTenant
from gateway.core.budget import MINUTE_MS
from gateway.sandbox import SandboxThread
from tests.accept.world import wait_until
from tests.faults.matrix import row
from tests.support.stack import Process, Stack, an_order, running_stack

LONG: Final = os.environ.get("ORDERGATE_SOAK") == "1"
WINDOWS: Final = 3
LASTS_S: Final = WINDOWS * MINUTE_MS / 1000 if LONG else 6.0
KILL_EVERY_S: Final = 20.0 if LONG else 3.0
LIMIT, SHARE = 100, 95
THREADS: Final = 8
MINUTE_NS: Final = 60_000_000_000


class Place(msgspec.Struct, kw_only=True):
    """Two `serve` on one ledger before a sandbox that limits each key as OfferGrid does."""

    sandbox: SandboxThread
    stack: Stack
    processes: list[Process]

    @property
    def arrivals(self) -> list[int]:
        """When each call came, in nanoseconds of the sandbox's clock."""
        return sorted(call.counted.monotonic_ns for call in self.sandbox.calls)

    def tenants(self, count: int) -> list[str]:
        """Tokens of so many tenants of the team, the first one's among them."""
        with self.stack.administration() as admin:
            names = [f"tenant-{number}" for number in range(1, count)]
            for name in names:
                admin.add_tenant(NewTenant(name=name, team="team"))
            return [self.stack.token, *(admin.issue_token(name).token.text() for name in names)]

    def kill(self, at: int) -> None:
        """One process dies, and another takes its place."""
        self.processes[at].kill()
        self.processes[at] = Process(self.stack.environ, self.stack.folder)
        self.processes[at].wait_for("ready")


@contextmanager
def a_place(**settings: object) -> Iterator[Place]:
    limits = {"budget__per_minute": LIMIT, "budget__per_hour": 10_000, "budget__reserved_per_minute": LIMIT - SHARE}
    with (
        SandboxThread(per_minute=LIMIT, per_hour=10_000) as sandbox,
        running_stack(upstream_base_url=sandbox.base_url, **limits, **settings) as stack,
    ):
        place = Place(sandbox=sandbox, stack=stack, processes=[stack.process])
        place.processes.append(Process(stack.environ, stack.folder))
        place.processes[1].wait_for("ready")
        try:
            yield place
        finally:
            stack.process, other = place.processes
            other.stop()


class Flood:
    """Threads that ask for new orders, each one after the other, for as long as `going`."""

    def __init__(self, place: Place, tokens: Sequence[str]) -> None:
        self.told: Counter[tuple[str, int]] = Counter()
        self._place = place
        self._enough = threading.Event()
        self._lock = threading.Lock()
        count = max(len(tokens), THREADS)
        self._threads = [
            threading.Thread(target=self._ask_on, args=(tokens[at % len(tokens)], at)) for at in range(count)
        ]

    def __enter__(self) -> "Flood":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self._threads)

    def count(self, status: int) -> int:
        with self._lock:
            return sum(times for (_, told), times in self.told.items() if told == status)

    def _ask_on(self, token: str, at: int) -> None:
        while not self._enough.is_set():
            status = ask(self._place.processes[at % 2], token)
            if status is None:  # it died; another one comes
                threading.Event().wait(0.05)
            with self._lock:
                self.told[token, status or 0] += 1


def ask(process: Process, token: str) -> int | None:
    """One new order's status; None where nobody answers."""
    try:
        _, _, address = process.address("tenant").rpartition("/")
        connection = http.client.HTTPConnection(address, timeout=30)
        try:
            headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
            connection.request("POST", "/orders", json.dumps(an_order(notes=uuid.uuid4().hex)), headers)
            return connection.getresponse().status
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, StopIteration):
        return None


def most_in_a_minute(arrivals: Sequence[int]) -> int:
    """The most that any 60 s hold, however they are cut."""
    most = first = 0
    for last, at in enumerate(arrivals):
        while arrivals[first] <= at - MINUTE_NS:
            first += 1
        most = max(most, last - first + 1)
    return most


def holds(place: Place) -> None:
    """OfferGrid never saw more than its limit, and had to refuse nothing."""
    assert most_in_a_minute(place.arrivals) <= LIMIT
    assert all(call.allowed for call in place.sandbox.calls)


@pytest.mark.parametrize("count", [1, 5, 50])
@pytest.mark.timeout(600)
def test_a_flood_with_kills_never_exceeds_the_limit_and_uses_it(count: int) -> None:
    with a_place() as place, Flood(place, place.tenants(count)) as flood:
        began = time.monotonic()
        kills = 0
        while (passed := time.monotonic() - began) < LASTS_S:
            threading.Event().wait(min(KILL_EVERY_S, LASTS_S - passed))
            place.kill(kills % 2)
            kills += 1
        wait_until(lambda: flood.count(429) > 0, "more to be wanted than there is")
        holds(place)
        first, *_ = arrivals = place.arrivals
        orders = sum(at < first + LASTS_S * 1e9 for at in arrivals)
        most, windows = most_in_a_minute(arrivals), WINDOWS if LONG else 1
        used = orders / (SHARE * (LASTS_S / 60 if LONG else 1))
        print(  # noqa: T201 - the soak's figures
            f"\nflood {count} tenants, kills {kills}, asked {sum(flood.told.values())}, calls {len(arrivals)},"
            f" most in 60 s {most}, used {used:.1%} of what is not reserved"
        )
        # A process that is killed takes with it what it had counted and not sent yet.
        assert used >= (0.95 if LONG else 0.7), (orders, windows)


def within(seconds: float, done: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while not done() and time.monotonic() < until:
        threading.Event().wait(0.05)
    return done()


@row(
    77,
    fault="one tenant asks for twenty times its part, at two processes, of which one is killed meanwhile",
    answer="it is told 429 budget-exhausted; the modest tenant gets 201 for every order within its guaranteed part",
    holds="OfferGrid's own sliding log never has more than 100 calls in any 60 s, and refuses none",
)
def test_row_77_a_flood_takes_nothing_of_a_modest_tenants_part() -> None:
    with a_place(admission__max_wait_s=0.05) as place:
        greedy, modest = place.tenants(2)
        part = SHARE // 2 // 2
        wait_until(lambda: ask(place.processes[0], modest) == 201, "the second tenant to be known")
        with Flood(place, [greedy]) as flood:
            wait_until(lambda: flood.count(429) > 0, "the first tenant to have used up what it may")
            place.kill(1)
            got = [ask(place.processes[number % 2], modest) for number in range(part - 1)]
            assert within(30, lambda: sum(flood.told.values()) >= 20 * part), flood.told
        assert got == [201] * (part - 1)
        assert ask(place.processes[0], modest) == 429, "its part is used up, and there is nothing else"
        holds(place)
