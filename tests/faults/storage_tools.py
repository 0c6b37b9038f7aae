"""The real program on a disk that fails when it is told to, and both sides of what it then says and does."""

import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import pytest

from gateway.sandbox.thread import SandboxThread
from tests.accept.world import wait_until
from tests.support import promise
from tests.support.disk import CHECKPOINT_PAGES, FAULTY_SERVE, SOCKET, TRACE, Remote
from tests.support.promise import Row, Told, told
from tests.support.records import records_of, rows_of, vault_of, watch_history
from tests.support.stack import Stack, an_order, running_stack

SOAK: Final = bool(os.environ.get("ORDERGATE_SOAK"))
"""Whether there is time for the long variants."""

PATIENTLY: Final = pytest.mark.timeout(3600 if SOAK else 240)
"""As `pytestmark`: restarts cost seconds on a busy machine, and the long variants minutes."""

LEDGER: Final = "var/ordergate.db"
TRACE_FILE: Final = "disk.trace"
START_FILE: Final = "start.db"
"""The ledger as it was before the program began."""


class Shop(msgspec.Struct, kw_only=True):
    """A tenant's view of a gateway whose disk is in the test's hand, and a record of everything that it was told."""

    sandbox: SandboxThread
    stack: Stack
    disk: Remote
    answers: list[Told]

    @property
    def ledger(self) -> Path:
        return self.stack.folder / LEDGER

    def order(self, mark: str) -> httpx.Response:
        """The order of that mark, under that key, once; httpx.TransportError where nobody answers."""
        asked = time.monotonic()
        with self.stack.client() as client:
            answer = client.post("/orders", json=an_order(notes=mark), headers={"idempotency-key": mark})
        self.answers.append(
            told(
                tenant="shop",
                key=mark,
                mark=mark,
                status=answer.status_code,
                headers=answer.headers,
                body=answer.content,
                asked_at=asked,
                told_at=time.monotonic(),
            )
        )
        return answer

    def place(self, mark: str) -> httpx.Response:
        """The same, repeated until it is placed."""
        found: list[httpx.Response] = []

        def placed() -> bool:
            found.append(self.order(mark))
            return found[-1].status_code == 201

        wait_until(placed, f"201 for {mark}")
        return found[-1]

    def get(self, path: str) -> httpx.Response:
        with self.stack.client() as client:
            return client.get(path)

    def rows(self) -> list[Row]:
        return rows_of(self.ledger)

    def outcome(self, mark: str) -> str | None:
        """What the ledger says of the order of that mark; None where it has none."""
        rows = rows_of(self.ledger, vault_of(self.stack.folder))
        return next((row.outcome for row in rows if row.idempotency_key == mark), None)

    def taken(self) -> list[str]:
        """The marks of the orders that OfferGrid holds."""
        return [order.data["notes"] for order in self.sandbox.orders]

    def nothing_unsettled(self) -> bool:
        return not promise.nothing_unsettled(self.rows())

    def settled(self) -> None:
        """Waits until nobody is unsure of any order."""
        wait_until(self.nothing_unsettled, "every order settled")

    def disk_failed(self) -> bool:
        """Whether a rule has hit; a process that has ended ended because of it."""
        try:
            return self.stack.process.ended or sum(self.disk.told().hit) > 0
        except ConnectionError:  # it ended while it was asked
            return True

    def promise_holds(self) -> None:
        found = promise.broken(
            records_of(
                told=self.answers,
                sandbox=self.sandbox,
                ledger=self.ledger,
                seals=vault_of(self.stack.folder),
            )
        )
        assert not found, found


@contextmanager
def a_shop(
    *, program: Sequence[str] = FAULTY_SERVE, trace: bool = False, checkpoint_pages: int = 0, **settings: Any
) -> Iterator[Shop]:
    """`settings` as for `running_stack`. Unknown orders are looked for all the time unless they say otherwise."""

    def beside(folder: Path) -> Mapping[str, str]:
        watch_history(folder / LEDGER)
        shutil.copyfile(folder / LEDGER, folder / START_FILE)
        found = {SOCKET: str(folder / "disk"), CHECKPOINT_PAGES: str(checkpoint_pages)}
        return {**found, TRACE: str(folder / TRACE_FILE)} if trace else found

    settings = {"reconcile__interval_s": 0.2, "reconcile__settle_after_s": 0.5, **settings}
    settings = {"budget__reserved_per_minute": 1000, "budget__per_minute": 0, "budget__per_hour": 0, **settings}
    with (
        SandboxThread(per_minute=0, per_hour=0) as sandbox,
        running_stack(upstream_base_url=sandbox.base_url, program=program, beside=beside, **settings) as stack,
    ):
        yield Shop(sandbox=sandbox, stack=stack, disk=Remote(stack.folder / "disk"), answers=[])
        defects = [line for line in stack.process.log if line["event"] == "defect"]
        assert not defects, defects


def problem(answer: httpx.Response) -> tuple[int, str, str, bool]:
    """What an answer says: status, type, outcome, retryable."""
    said = answer.json()
    return answer.status_code, said["type"].removeprefix("/problems/"), said["outcome"], said["retryable"]
