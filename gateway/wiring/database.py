"""The ledger's file as a whole: looked through, copied, put back, and made to know again what was placed."""

import asyncio
from collections.abc import Callable, Collection
from pathlib import Path

import apsw
import msgspec

from gateway.broker.directory import Directory
from gateway.broker.key_file import KeyFile
from gateway.clock import Clock, SystemClock
from gateway.core.budget_terms import Limits
from gateway.errors import Refused, StorageUnreachable
from gateway.flow.rejoin import Looks, TeamOrders, TeamToRead
from gateway.ledger.ledger_time import LedgerTime
from gateway.ledger.mark import Mark, Quarantine, examine, keep_mark, last_beat, quarantine_of
from gateway.ledger.sqlite_backup import BackedUp, back_up
from gateway.ledger.sqlite_check import Finding, check_file, check_rows, count_orders
from gateway.ledger.sqlite_engine import connect, transaction
from gateway.ledger.sqlite_reads import SqliteReads
from gateway.ledger.sqlite_rejoin import Entered, Moment, rejoin, team_names, witnesses
from gateway.ledger.sqlite_restore import Restored, restore
from gateway.settings import Settings
from gateway.wiring.actor import actor
from gateway.wiring.sealing import unlock_backup
from gateway.wiring.storage import Storage, limits_of, open_storage
from gateway.wiring.upstream import open_upstream


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """`orders` None: the file could not be read so far as to count them."""

    path: Path
    orders: int | None
    findings: tuple[Finding, ...]


class Rejoined(msgspec.Struct, frozen=True, kw_only=True):
    """`entered` None: the ledger was in no quarantine, and nothing was looked at.

    `unread`: teams whose listing was not read, by an operator's word. What the ledger lost of them stays lost.
    """

    entered: Entered | None
    teams: tuple[TeamOrders, ...] = ()
    unread: tuple[str, ...] = ()


def check_ledger(settings: Settings) -> Checked:
    """Everything that can be found out from the ledger alone. Refused where there is none."""
    path = ledger_file(settings)
    findings = check_file(path)
    if findings:  # nothing that rests on a damaged file would be worth knowing
        return Checked(path=path, orders=None, findings=tuple(findings))
    with open_storage(settings, SystemClock()) as storage:
        connection = connect(path)
        try:
            findings = check_rows(connection, storage.vault)
            return Checked(path=path, orders=count_orders(connection), findings=tuple(findings))
        finally:
            connection.close()


def back_up_ledger(settings: Settings, file: Path) -> BackedUp:
    """See `sqlite_backup.back_up`. Refused where there is no ledger."""
    path = ledger_file(settings)
    with open_storage(settings, SystemClock()):  # a ledger whose master key is lost is worth no backup: say so now
        return back_up(path, file)


def restore_ledger(settings: Settings, backup: Path) -> Restored:
    """See `sqlite_restore.restore`. BadSettings where the master key is not there, or not the backup's."""
    path, clock, key_file = _path(settings), SystemClock(), Path(settings.secrets.master_key_file)
    KeyFile(key_file, clock).read()  # before anything is copied
    return restore(path, backup, lambda copy: unlock_backup(copy, key_file, clock), clock, who=actor())


def rejoin_ledger(settings: Settings, say: Callable[[str], None], without: Collection[str] = ()) -> Rejoined:
    """Ends a quarantine, when every team's listing was read and entered; see `flow.rejoin`.

    ListingsInDoubt where one could not be: nothing was changed. `without`: names of teams to leave unread; Refused
    where one is not there or has a key to read it with.
    """
    path, clock = ledger_file(settings), SystemClock()
    with open_storage(settings, clock) as storage:
        connection = connect(path)
        try:
            time, quarantine = look_at_mark(connection, storage, clock)
            if quarantine is None:
                return Rejoined(entered=None)
            teams = _teams(connection, storage, clock, without, limits_of(settings))
            unread = tuple(sorted(without))
            for name in unread:
                say(
                    f"team {name}: is not read. Orders that the ledger lost of it would be placed again when repeated"
                )
            found = asyncio.run(_read(settings, storage, clock, time, quarantine, teams, say))
            now = Moment(wall_ms=clock.wall_ms(), tick=time.tick(), ttl_ms=round(settings.idempotency.ttl_s * 1000))
            with transaction(connection):
                if quarantine_of(connection) not in (quarantine, None):  # None: another rejoin was faster
                    raise Refused("the ledger was put into quarantine again meanwhile: rejoin once more")
                orders = {team.team_id: team.own for team in found}
                if any(team_id not in orders and name not in unread for team_id, name in team_names(connection)):
                    raise Refused("a team was added meanwhile and not read: rejoin once more")
                entered = rejoin(connection, storage.vault, now, orders, who=actor(), unread=unread)
            return Rejoined(entered=entered, teams=tuple(found), unread=unread)
        finally:
            connection.close()


def look_at_mark(
    connection: apsw.Connection, storage: Storage, clock: Clock
) -> tuple[LedgerTime, Quarantine | None]:
    """The ledger's time, and its quarantine, into which it is put here where its mark says so; then the mark."""
    with transaction(connection):
        time = LedgerTime(connection, clock)
        found = examine(connection, storage.path, storage.ledger_id, time.tick())
    keep_mark(storage.path, Mark(ledger=storage.ledger_id, beat=last_beat(connection)))
    return time, found


def ledger_file(settings: Settings) -> Path:
    """The ledger's file, which must be there."""
    path = _path(settings)
    if not path.exists():
        raise Refused(f"there is no ledger at {path}: see storage.url")
    return path


def _path(settings: Settings) -> Path:
    path = settings.storage.sqlite_path
    if path is None:
        raise StorageUnreachable("storage.url: this version stores in SQLite only (sqlite:///…)")
    return path


def _teams(
    connection: apsw.Connection, storage: Storage, clock: Clock, without: Collection[str], limits: Limits
) -> list[TeamToRead]:
    """The teams whose listings count: all but those in `without`."""
    rows = storage.directory.rows()
    lent = Directory(rows, storage.vault, clock, limits)
    if absent := set(without) - {team.name for team in rows.teams}:
        raise Refused(f"there is no team {min(absent)}")
    for team in rows.teams:
        if team.name in without and lent.key_beside(team.team_id, ()) is not None:
            raise Refused(f"team {team.name} has a usable key: its listing is read")
    return [
        TeamToRead(
            team_id=team.team_id,
            name=team.name,
            key=lent.key_beside(team.team_id, ()) or lent.key_of(team.team_id),
            witnesses=tuple(witnesses(connection, team.team_id)),
        )
        for team in rows.teams
        if team.name not in without
    ]


async def _read(
    settings: Settings,
    storage: Storage,
    clock: Clock,
    time: LedgerTime,
    quarantine: Quarantine,
    teams: list[TeamToRead],
    say: Callable[[str], None],
) -> list[TeamOrders]:
    since = quarantine.since_tick
    assert since is not None, "what was looked at has begun"
    settle_after_ms = round(settings.reconcile.settle_after_s * 1000)
    async with open_upstream(settings, clock) as upstream:
        looks = Looks(
            upstream=upstream,
            reads=SqliteReads(storage.path, clock),
            ledger_id=storage.ledger_id,
            clock=clock,
            wait_ms=lambda: since + settle_after_ms - time.tick(),
            say=say,
        )
        return await looks.read(teams)
