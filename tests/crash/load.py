"""Tenants under whose load processes are killed: each wants one order after the other, and asks until it knows."""

import itertools
import random
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from tests.crash.nursery_client import WITHIN_S, Run
from tests.crash.points import KEY_CANARY, Life
from tests.support import promise
from tests.support.records import rows_of

TENANT_THREADS: Final = 6
AGAIN_S: Final = 0.02


def _series(lines: Iterable[str], metric: str) -> Iterator[tuple[str, float]]:
    """Each series' `outcome` and its value."""
    for line in lines:
        if line.startswith(metric + "{"):
            labels, _, value = line.rpartition(" ")
            yield labels.partition('outcome="')[2].partition('"')[0], float(value)


class Load:
    """Asks whichever of `runs` there are at the time. Every second order has an idempotency key."""

    def __init__(self, life: Life, runs: Sequence[Run]) -> None:
        self._life = life
        self._runs = runs
        self._enough = threading.Event()
        self._numbers = itertools.count()
        self._answered: Counter[Run] = Counter()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._tenant, args=(at,)) for at in range(TENANT_THREADS)]
        for thread in self._threads:
            thread.start()

    def end(self) -> list[str]:
        """Lets every tenant find out about the order that it is at; those that never did."""
        self._enough.set()
        for thread in self._threads:
            thread.join(WITHIN_S)
        return [f"a tenant never got to know: {thread.name}" for thread in self._threads if thread.is_alive()]

    def miscounted(self, run: Run) -> list[str]:
        """After `end`: what a process that still runs counted otherwise than its tenants did, and than the ledger."""
        until = time.monotonic() + WITHIN_S / 2
        while (wrong := self._compared(run)) and time.monotonic() < until:  # its gauge follows every few seconds
            time.sleep(0.1)
        return wrong

    def _compared(self, run: Run) -> list[str]:
        with urllib.request.urlopen(f"http://127.0.0.1:{run.port('admin')}/metrics", timeout=WITHIN_S) as answer:
            lines = answer.read().decode().splitlines()
        return promise.counters_conserve(
            answered=self._answered[run],
            orders_total=sum(value for _, value in _series(lines, "ordergate_orders_total")),
            unsettled=dict(_series(lines, "ordergate_orders_unsettled")),
            rows=rows_of(self._life.ledger),
        )

    def _tenant(self, seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311  # no secret: which process to ask
        while not self._enough.is_set():
            number = next(self._numbers)
            mark = f"order {number}"
            threading.current_thread().name = mark
            self._until_known(mark, f"{KEY_CANARY}{number}" if number % 2 else None, chance)

    def _until_known(self, mark: str, key: str | None, chance: random.Random) -> None:
        while True:
            run = chance.choice(self._runs)
            answer = self._life.ask(mark, key, port=run.port()) if run.ready_now() else None
            if answer is not None:
                with self._lock:
                    self._answered[run] += 1
            if answer is not None and answer.final:
                return
            threading.Event().wait(AGAIN_S)
