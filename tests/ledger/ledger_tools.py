"""A real ledger on a real file, orders to put into it, and a disk that fails when it is told to."""

import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import apsw

from gateway.broker.vault import MasterKey, Vault
from gateway.clock import SystemClock, new_uuid7
from gateway.core.lifecycle import Outcome
from gateway.core.outcome import Cause
from gateway.errors import LedgerError
from gateway.ledger.interface import AttemptEnd, AttemptStart, Claimed, NewOrder, Settlement
from gateway.ledger.sqlite import SqliteLedger

CLOCK: Final = SystemClock()
VAULT: Final = Vault(MasterKey(bytes(range(32))), CLOCK)
START: Final = AttemptStart(key_id="key-1", started_ms=1_000)
ENDED: Final = AttemptEnd(ended_ms=2_000, evidence="answered", status=201)
CAUSES: Final[dict[Outcome, Cause]] = {
    "placed": "placed", "rejected": "rejected", "not_placed": "unreachable", "unknown": "broken",
}  # fmt: skip


class Commits(list[LedgerError | None]):
    """What a ledger said of each group commit: its fault, or None."""

    def seen(self, _seconds: float, fault: LedgerError | None) -> None:
        self.append(fault)


@asynccontextmanager
async def a_ledger(path: Path, commits: Commits | None = None) -> AsyncIterator[SqliteLedger]:
    ledger = SqliteLedger(path, VAULT, CLOCK, (commits if commits is not None else Commits()).seen)
    try:
        yield ledger
    finally:
        await ledger.close()


def new_order(
    key: str | None = "k",
    *,
    tenant_id: int = 1,
    body: bytes | None = None,
    team_id: int = 1,
    window_ms: int = 0,
    ttl_ms: int = 86_400_000,
) -> NewOrder:
    """Without a key, and unless a body is given, an order like no other."""
    if body is None:
        body = CLOCK.random_bytes(16) if key is None else b"fingerprint"
    return NewOrder(
        request_id="request",
        order_id=new_uuid7(CLOCK),
        tenant_id=tenant_id,
        tenant=f"tenant-{tenant_id}",
        team_id=team_id,
        fingerprint=body,
        key_digest=None if key is None else VAULT.mac("claim-key", f"{tenant_id}:{key}".encode()),
        idempotency_key=key,
        window_ms=window_ms,
        ttl_ms=ttl_ms,
        created_ms=500,
    )


def end(outcome: Outcome, upstream_order_id: str | None = None, **more: Any) -> Settlement:
    return Settlement(
        outcome=outcome,
        cause=CAUSES[outcome],
        http_status=201 if outcome == "placed" else 502,
        upstream_order_id=upstream_order_id,
        **more,
    )


async def claimed(ledger: SqliteLedger, order: NewOrder | None = None) -> Claimed:
    found = await ledger.claim(order or new_order(None), START)
    assert isinstance(found, Claimed)
    return found


def dump(path: Path, *tables: str) -> list[tuple[Any, ...]]:
    """Every row of the tables, as another connection sees them."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return [
            (table, *row)
            for table in tables or ("orders", "attempts")
            for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2")  # noqa: S608 - names of ours
        ]
    finally:
        connection.close()


def alter(path: Path, statement: str, *values: Any) -> None:
    """Another process's hand in the file."""
    connection = apsw.Connection(str(path))
    try:
        connection.execute(statement, values)
    finally:
        connection.close()


class Disk(apsw.VFS):
    """The operating system's files, with what is done to them noted, and refused where `refuses` says so.

    `refuses(what, file, number)` gets `write` or `sync`, the file's suffix (`""`, `-wal`), and how many of those that
    was since `arm`; it returns an SQLite result code to fail with, or 0.
    """

    _numbers = itertools.count()

    def __init__(self) -> None:
        self.done: list[tuple[str, str]] = []
        self._counts: Counter[str] = Counter()
        self._refuses: Callable[[str, str, int], int] | None = None
        self._name = f"disk-{next(self._numbers)}"
        super().__init__(self._name, base="unix", makedefault=True)

    def arm(self, refuses: Callable[[str, str, int], int] | None) -> None:
        self._counts.clear()
        self._refuses = refuses

    def counted(self, what: str) -> int:
        return self._counts[what]

    def does(self, what: str, file: str) -> None:
        self._counts[what] += 1
        code = self._refuses(what, file, self._counts[what]) if self._refuses else 0
        if code:
            raise apsw.exception_for(code)
        self.done.append((what, file))

    def xOpen(self, name: Any, flags: list[int]) -> "_DiskFile":  # noqa: N802 - apsw's name
        return _DiskFile(self, name, flags)


class _DiskFile(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        self._suffix = path[path.rfind(".db") + 3 :]
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - apsw's name
        self._disk.does("write", self._suffix)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802 - apsw's name
        self._disk.does("sync", self._suffix)
        super().xSync(flags)


@contextmanager
def a_disk() -> Iterator[Disk]:
    """The disk of every connection that is opened inside the block."""
    disk = Disk()
    try:
        yield disk
    finally:
        disk.arm(None)
        disk.unregister()
