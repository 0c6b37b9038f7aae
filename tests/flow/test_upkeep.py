"""What goes on beside the orders: the directory is followed, the ledger proven, and no fault ends a loop."""

import asyncio
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.broker.administration import Administration, NewTenant
from gateway.broker.directory import Directory
from gateway.broker.vault import Secret
from gateway.errors import LedgerBusy
from gateway.flow import upkeep
from gateway.flow.intake import Intake
from gateway.flow.upkeep import Readiness, Upkeep
from gateway.ledger.sqlite import SqliteLedger
from gateway.ledger.sqlite_directory import SqliteDirectory
from gateway.ledger.sqlite_engine import connect
from gateway.telemetry.logs import make_log
from gateway.telemetry.metrics import Metrics
from tests.flow.flow_tools import CLOCK, VAULT, until


class Moved:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def wall_ms(self) -> int:
        return 0

    def monotonic(self) -> float:
        return self.now

    def random_bytes(self, count: int) -> bytes:
        return bytes(count)


def test_ready_after_a_write_until_it_is_5_s_old_or_draining_or_the_disk_fills(tmp_path: Path) -> None:
    clock, intake = Moved(), Intake()

    def readiness(**changed: Any) -> Readiness:
        return Readiness(**{"clock": clock, "intake": intake, "folder": tmp_path, "min_free_bytes": 1, **changed})

    ready = readiness()
    assert ready.reasons() == ["no ledger write has succeeded for 5 s"]
    ready.wrote()
    assert ready.reasons() == []
    clock.now += 5
    assert ready.reasons() == []
    clock.now += 0.001
    assert len(ready.reasons()) == 1
    ready.wrote()
    full, gone = readiness(min_free_bytes=2**80), readiness(folder=tmp_path / "gone")
    for other, says in ((full, "bytes free"), (gone, "cannot be read")):
        other.wrote()
        (reason,) = other.reasons()
        assert says in reason
    intake.quarantined = True
    assert ready.reasons() == ["rejoin needed"]
    intake.begin_draining()
    assert ready.reasons() == ["draining", "rejoin needed"]


def test_upkeep_follows_the_directory_and_outlives_every_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loops = ("FOLLOW", "BEAT", "COUNT", "RECOVER", "REAP", "NOTE")
    for name in (f"{loop}_EVERY_S" for loop in loops):
        monkeypatch.setattr(upkeep, name, 0.01)
    path = tmp_path / "o.db"

    class Moody(SqliteLedger):
        faults: list[Exception]

        async def beat(self) -> None:
            if self.faults:
                raise self.faults.pop()
            await super().beat()

    async def play() -> None:
        ledger = Moody(path, VAULT, CLOCK, lambda *_: None)
        ledger.faults = [RuntimeError("canary"), LedgerBusy("busy")]
        store = SqliteDirectory(connect(path))
        administration = Administration(store, VAULT, CLOCK, who="ops")
        directory = Directory(await ledger.directory_rows(), VAULT, CLOCK)
        readiness = Readiness(clock=CLOCK, intake=Intake(), folder=tmp_path, min_free_bytes=1)
        metrics, stream = Metrics(version="0", spec_digest="0"), io.StringIO()
        log = make_log(level="info", style="json", clock=CLOCK, stream=stream)
        running = asyncio.ensure_future(
            Upkeep(
                ledger=ledger,
                directory=directory,
                intake=Intake(),
                readiness=readiness,
                metrics=metrics,
                log=log,
                ttl_s=60,
                implicit_window_s=0,
            ).run()
        )
        administration.add_team("team")
        administration.add_key("team", Secret("sandbox-key-1"))
        administration.add_tenant(NewTenant(name="shop", team="team"))
        token = administration.issue_token("shop").token.text()

        async def follows() -> bool:
            return (
                not isinstance(directory.authenticate(token), str) and not ledger.faults and not readiness.reasons()
            )

        await until(follows)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        events = [json.loads(line) for line in stream.getvalue().splitlines()]
        assert {event["event"] for event in events} == {"ledger", "defect"}
        assert "canary" not in stream.getvalue()
        assert b'tenant="shop"' in metrics.render("")[0]
        store.close()
        await ledger.close()

    asyncio.run(play())


def test_the_day_of_a_token_is_written_once_whatever_fails_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "FOLLOW_EVERY_S", 0.01)
    monkeypatch.setattr(upkeep, "NOTE_EVERY_S", 0.01)
    path = tmp_path / "o.db"

    class Moody(SqliteLedger):
        writes = 0

        async def note_used(self, days: Mapping[str, int]) -> None:
            self.writes += 1
            if self.writes == 1:
                raise LedgerBusy("busy")
            await super().note_used(days)

    async def play() -> None:
        ledger = Moody(path, VAULT, CLOCK, lambda *_: None)
        store = SqliteDirectory(connect(path))
        administration = Administration(store, VAULT, CLOCK, who="ops")
        administration.add_team("team")
        administration.add_tenant(NewTenant(name="shop", team="team"))
        issued = administration.issue_token("shop")
        token, never_shown = issued.token.text(), administration.issue_token("shop").record.token_id
        directory = Directory(await ledger.directory_rows(), VAULT, CLOCK)
        version = store.version()
        keeping = asyncio.ensure_future(
            Upkeep(
                ledger=ledger,
                directory=directory,
                intake=Intake(),
                readiness=Readiness(clock=CLOCK, intake=Intake(), folder=tmp_path, min_free_bytes=1),
                metrics=Metrics(version="0", spec_digest="0"),
                log=make_log(level="info", style="json", clock=CLOCK, stream=io.StringIO()),
                ttl_s=60,
                implicit_window_s=0,
            ).run()
        )

        async def is_written() -> bool:
            directory.authenticate(token)  # again and again, all on one day
            return any(record.last_used_day is not None for record in store.rows().tokens)

        await until(is_written)
        for _ in range(100):
            directory.authenticate(token)
            await asyncio.sleep(0.001)
        keeping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await keeping
        days = {record.token_id: record.last_used_day for record in store.rows().tokens}
        assert days == {issued.record.token_id: CLOCK.wall_ms() // 86_400_000, never_shown: None}
        assert ledger.writes == 2, "the one that failed, and one"
        assert store.version() == version, "nobody has to read the directory again for it"
        store.close()
        await ledger.close()

    asyncio.run(play())


def test_an_order_is_kept_for_as_long_as_its_key_or_anybodys_body_may_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "FOLLOW_EVERY_S", 0.01)
    monkeypatch.setattr(upkeep, "REAP_EVERY_S", 0.01)
    path, asked = tmp_path / "o.db", set[float]()

    class Asked(SqliteLedger):
        async def reap(self, ttl_s: float) -> int:
            asked.add(ttl_s)
            return await super().reap(ttl_s)

    async def play() -> None:
        ledger = Asked(path, VAULT, CLOCK, lambda *_: None)
        store = SqliteDirectory(connect(path))
        keeping = asyncio.ensure_future(
            Upkeep(
                ledger=ledger,
                directory=Directory(await ledger.directory_rows(), VAULT, CLOCK),
                intake=Intake(),
                readiness=Readiness(clock=CLOCK, intake=Intake(), folder=tmp_path, min_free_bytes=1),
                metrics=Metrics(version="0", spec_digest="0"),
                log=make_log(level="error", style="json", clock=CLOCK, stream=io.StringIO()),
                ttl_s=60,
                implicit_window_s=300,
            ).run()
        )
        await until(lambda: _is(300 in asked))
        administration = Administration(store, VAULT, CLOCK, who="ops")
        administration.add_team("team")
        administration.add_tenant(NewTenant(name="patient", team="team", implicit_window_s=900))
        await until(lambda: _is(900 in asked))
        keeping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await keeping
        assert asked == {300, 900}
        store.close()
        await ledger.close()

    asyncio.run(play())


async def _is(holds: bool) -> bool:
    return holds
