"""A machine's disk with one ledger on it: a real SQLite database in memory, and what can go wrong around it.

Each connection of a simulated process is a `Disk.connection()`: the real statements run, all of them on the one
database, each transaction in one piece. Broken into are only its edges: BEGIN, COMMIT and single statements fail as
they do on a real disk. A commit that fails may have been applied, may be lost, or may come back when the last process
is gone. A commit that the connection was not told to sync (PRAGMA synchronous) is lost when the power goes.
"""

from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import apsw

from gateway.ledger import sqlite_engine
from tests.simulate.world import World

SYNCED: Final = frozenset({"FULL", "EXTRA", "2", "3"})

_HISTORY: Final = """
CREATE TABLE sim_history (
  at REAL, order_id TEXT, seq INTEGER, tenant_id INTEGER, version INTEGER, before TEXT, after TEXT,
  upstream_order_id TEXT
);
CREATE TRIGGER sim_made AFTER INSERT ON orders BEGIN
  INSERT INTO sim_history VALUES
    (sim_now(), new.order_id, new.seq, new.tenant_id, new.version, NULL, new.outcome, new.upstream_order_id);
END;
CREATE TRIGGER sim_moved AFTER UPDATE ON orders BEGIN
  INSERT INTO sim_history VALUES
    (sim_now(), new.order_id, new.seq, new.tenant_id, new.version, old.outcome, new.outcome, new.upstream_order_id);
END;
CREATE TRIGGER sim_forgotten AFTER DELETE ON orders BEGIN
  INSERT INTO sim_history VALUES
    (sim_now(), old.order_id, old.seq, old.tenant_id, old.version, old.outcome, NULL, old.upstream_order_id);
END;
CREATE TABLE sim_attempts (order_id TEXT, number INTEGER, evidence TEXT, status INTEGER,
  PRIMARY KEY (order_id, number));
CREATE TRIGGER sim_begun AFTER INSERT ON attempts BEGIN
  INSERT INTO sim_attempts VALUES (new.order_id, new.number, NULL, NULL);
END;
CREATE TRIGGER sim_ended AFTER UPDATE ON attempts BEGIN
  UPDATE sim_attempts SET evidence = new.evidence, status = new.status
  WHERE order_id = new.order_id AND number = new.number;
END;
"""


@cache
def _fresh_image(directory: str) -> bytes:
    """An empty ledger with the triggers that write its history, and a directory: made once, copied for each history."""
    connection = apsw.Connection(":memory:")
    sqlite_engine._migrate(connection, Path("ledger"))
    connection.execute(_HISTORY)
    connection.execute(directory)
    image: bytes = connection.serialize("main")
    connection.close()
    return image


class Disk:
    """The database, and what the platters hold of it. An image is a whole database as bytes."""

    def __init__(self, world: World, directory: str) -> None:
        self.world = world
        self.real = apsw.Connection(":memory:")
        self.real.create_scalar_function("sim_now", lambda *_: world.loop.time(), 0)
        self.real.deserialize("main", _fresh_image(directory))
        self._durable: bytes | None = None  # where it differs from what processes see
        self._limbo: bytes | None = None  # a commit that failed, and may be there after all
        self._before: bytes = b""

    def connection(self) -> "SimulatedConnection":
        return SimulatedConnection(self)

    def takes_s(self) -> float:
        world = self.world
        return world.between(0, 6) if world.happens(world.rates.disk_slow) else world.soon(0.02)

    def begin(self, *, synced: bool, fails: bool) -> None:
        if fails or not synced:
            self._before = self._image()
        self.real.execute("BEGIN IMMEDIATE")

    def commit(self, *, synced: bool) -> None:
        self.real.execute("COMMIT")
        self._limbo = None
        if synced:
            self._durable = None
        elif self._durable is None:
            self._durable = self._before

    def fail_commit(self) -> None:
        """The sync fails. The commit is there, or it is not, or it will be there once nobody has the file open."""
        fate = self.world.chance.choice(("applied", "lost", "limbo"))
        self.world.seen[f"failed commit {fate}"] += 1
        if fate == "lost":
            self.real.execute("ROLLBACK")
            return
        self.real.execute("COMMIT")
        if fate == "limbo":
            self._limbo = self._image()
            self.real.deserialize("main", self._before)

    def all_gone(self, *, power_cut: bool) -> None:
        """No process has the file open any more."""
        if power_cut and self._durable is not None:
            self.real.deserialize("main", self._durable)
            self.world.seen["commits lost"] += 1
            self._limbo = None
        elif self._limbo is not None and self.world.chance.random() < 0.5:
            self.real.deserialize("main", self._limbo)
            self.world.seen["failed commit came back"] += 1
        self._durable = self._limbo = None

    def close(self) -> None:
        self.real.close(True)

    def _image(self) -> bytes:
        found: bytes = self.real.serialize("main")
        return found


class SimulatedConnection:
    """What one process sees of the database: an `apsw.Connection` as far as the gateway uses one."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._real = disk.real
        self._synced = False  # SQLite's own default in WAL mode survives no power cut
        self._poisoned = False
        self._fails_at_commit = False

    def execute(self, statements: str, bindings: Any = None) -> Any:
        world, rates = self._disk.world, self._disk.world.rates
        if self._poisoned:
            raise apsw.IOError("disk I/O error")
        if statements == "BEGIN IMMEDIATE":
            return self._begin()
        if statements == "COMMIT":
            return self._commit()
        if self._real.in_transaction:
            if statements != "ROLLBACK" and world.happens(rates.disk_broken / 20):
                self._poison()
                raise apsw.IOError("disk I/O error")
        elif world.happens(rates.read_fails / 4):
            raise apsw.BusyError("database is locked")
        return self._real.execute(statements, bindings)

    def _begin(self) -> Any:
        world = self._disk.world
        if world.happens(world.rates.disk_busy):
            raise apsw.BusyError("database is locked")
        self._fails_at_commit = world.happens(world.rates.disk_broken)
        self._disk.begin(synced=self._synced, fails=self._fails_at_commit)

    def _commit(self) -> Any:
        world = self._disk.world
        if world.happens(world.rates.disk_full):
            raise apsw.FullError("database or disk is full")
        if self._fails_at_commit:
            self._poisoned = True
            self._disk.fail_commit()
            raise apsw.IOError("disk I/O error")
        self._disk.commit(synced=self._synced)

    def _poison(self) -> None:
        """SQLite cannot go on with this connection; a crash would roll its transaction back."""
        self._poisoned = True
        self._real.execute("ROLLBACK")

    def pragma(self, name: str, value: Any = None, **more: Any) -> Any:
        if name == "journal_mode":
            return "wal"
        if name == "synchronous" and value is not None:
            self._synced = str(value).upper() in SYNCED
            return None
        return self._real.pragma(name) if value is None else self._real.pragma(name, value, **more)

    @property
    def in_transaction(self) -> bool:
        return not self._poisoned and self._real.in_transaction

    def changes(self) -> int:
        return self._real.changes()

    def set_busy_timeout(self, _milliseconds: int) -> None:
        """Busy is drawn."""

    def close(self, _force: bool = False) -> None:
        if self._real.in_transaction:
            self._real.execute("ROLLBACK")

    def __enter__(self) -> "SimulatedConnection":
        self._real.execute("SAVEPOINT sim")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._real.execute("ROLLBACK TO sim; RELEASE sim" if kind else "RELEASE sim")
