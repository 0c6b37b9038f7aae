"""A gateway to which something happens, and the three records by which the promise is checked afterwards.

with a_run(upstream__timeout_s=4) as run:
    run.order("key")            # None where no whole answer came
    run.stack.process.kill()
    ...                         # at the end of the block everything that was told, taken and written must agree
"""

import signal
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
from msgspec import structs

from gateway.sandbox import SandboxThread
from gateway.sandbox.records import Request
from tests.accept.world import wait_until
from tests.support import promise
from tests.support.promise import Row, Told, told
from tests.support.records import records_of, rows_of, vault_of, watch_history
from tests.support.stack import Process, Stack, an_order, running_stack

WAIT_S: Final = 30
"""Longer than any answer may take. Nothing depends on its being short."""


class Run(msgspec.Struct, kw_only=True):
    """`told`: every whole answer to an order, from whichever thread it was asked. `strangers`: ids of orders that a
    gateway with another ledger placed, and has to answer for.
    """

    sandbox: SandboxThread
    stack: Stack
    told: list[Told] = []
    checks_times: bool = True
    strangers: set[str] = set()

    @property
    def ledger(self) -> Path:
        return self.stack.folder / "var/ordergate.db"

    def order(self, key: str | None, *, at: Process | None = None, **members: Any) -> httpx.Response | None:
        """The answer to an order whose notes are its key, from `at` or the stack's own process; None for none."""
        mark = members.get("notes") or key or uuid.uuid4().hex
        process = self.stack.process if at is None else at
        asked_at = time.monotonic()
        try:
            answer = httpx.post(
                process.address("tenant") + "/orders",
                json=an_order(**{"notes": mark, **members}),
                headers={**self.stack.bearer, **({} if key is None else {"idempotency-key": key})},
                timeout=WAIT_S,
                trust_env=False,
            )
        except httpx.TransportError:
            return None
        self.told.append(
            told(
                tenant="shop", key=key, mark=mark, status=answer.status_code, headers=answer.headers,
                body=answer.content, asked_at=asked_at, told_at=time.monotonic(),
            )
        )  # fmt: skip
        return answer

    def placed(self, key: str, **members: Any) -> httpx.Response:
        """Asks until there is a 201; for an order that can only end so."""
        seen: list[httpx.Response | None] = []

        def there() -> bool:
            seen.append(self.order(key, **members))
            if seen[-1] is None or seen[-1].status_code != 201:
                time.sleep(0.05)  # it asks again, and not as fast as it can
            return seen[-1] is not None and seen[-1].status_code == 201

        wait_until(there, f"201 for {key}")
        assert seen[-1] is not None
        return seen[-1]

    def heals(self, key: str, **members: Any) -> None:
        """Asks until the order is placed, whatever was in doubt; then it is there once."""
        self.placed(key, **members)
        assert len(self.taken(key)) == 1

    def asking(self, key: str | None, **members: Any) -> "Asking":
        """The same in a thread of its own."""
        return Asking(self, key, members)

    def another(self) -> Process:
        """A further process on the same ledger, which may not be ready yet. Whoever starts it stops it."""
        return Process(self.stack.environ, self.stack.folder, self.stack.program)

    @contextmanager
    def beside(self) -> Iterator[Process]:
        """A further `serve` on the same ledger, ready; gone at the end of the block."""
        process = Process(self.stack.environ, self.stack.folder)
        try:
            process.wait_for("ready")
            yield process
        finally:
            status = process.stop()
        assert status in (0, -signal.SIGKILL), f"exit {status}: {process.log[-20:]}"

    @property
    def posts(self) -> list[Request]:
        return [call for call in self.sandbox.calls if call.method == "POST"]

    def taken(self, key: str) -> list[str]:
        """The upstream ids of the orders with this key as notes that the sandbox holds."""
        return [order.order_id for order in self.sandbox.orders if order.data["notes"] == key]

    def rows(self) -> dict[str, Row]:
        """The ledger's rows by idempotency key, read from its file."""
        found = rows_of(self.ledger, vault_of(self.stack.folder))
        return {row.idempotency_key: row for row in found if row.idempotency_key is not None}

    def agrees(self) -> None:
        """The promise, from the three records of this run."""
        records = records_of(
            told=self.told, sandbox=self.sandbox, ledger=self.ledger, seals=vault_of(self.stack.folder)
        )
        records = structs.replace(
            records,
            taken=[order for order in records.taken if order.order_id not in self.strangers],
            posts=[post for post in records.posts if post.order_id not in self.strangers],
        )
        wrong = promise.broken(records)
        if not self.checks_times:
            # The gateway's wall clock was another than the sandbox's: "written down before it was sent" cannot be read.
            timed = set(promise.every_post_was_written_down(records))
            wrong = [line for line in wrong if line not in timed]
        assert not wrong, "\n".join(wrong)


class Asking:
    """One order, asked for in a thread. `answer()` waits for it."""

    def __init__(self, run: Run, key: str | None, members: dict[str, Any]) -> None:
        self._answer: httpx.Response | None = None
        self._fault: BaseException | None = None

        def ask() -> None:
            try:
                self._answer = run.order(key, **members)
            except BaseException as fault:  # noqa: BLE001 - raised again where the answer is asked for
                self._fault = fault

        self._thread = threading.Thread(target=ask)
        self._thread.start()

    def answer(self) -> httpx.Response | None:
        self._thread.join()
        if self._fault is not None:
            raise self._fault
        return self._answer


@contextmanager
def a_run(*, checks_times: bool = True, host: str = "127.0.0.1", **settings: Any) -> Iterator[Run]:
    """`settings` as for `running_stack`. The upstream is called by the name `host`."""
    settings.setdefault("budget__per_minute", 0)
    settings.setdefault("budget__per_hour", 0)
    settings.setdefault("budget__reserved_per_minute", 1000)
    with (
        SandboxThread(per_minute=0, per_hour=0) as sandbox,
        running_stack(upstream_base_url=f"http://{host}:{sandbox.port}", **settings) as stack,
    ):
        run = Run(sandbox=sandbox, stack=stack, checks_times=checks_times)
        watch_history(run.ledger)
        yield run
        run.agrees()
