"""`ordergate doctor`: one line a check, with what to do where one failed. It makes and changes nothing."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.checks import FAILED, UNREACHABLE, Check, check_disk, check_filesystem, check_port, may_be_made
from gateway.cli.config import file_read
from gateway.cli.output import answer, cell
from gateway.cli.program import Command, read_settings
from gateway.clock import SystemClock
from gateway.errors import BadSettings, StorageUnreachable
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.broker.directory import KeyUnreadable, LentKey

    Keys = Mapping[str, LentKey | KeyUnreadable | None]


@click.command(cls=Command, example="ordergate doctor")
@click.pass_context
def doctor(ctx: click.Context) -> None:
    """Check all that the gateway needs. Settings, storage, disk, ports, OfferGrid, keys and clock: a line each."""
    found = _examine()
    lines = (f"{'ok' if one.ok else 'failed':<7} {cell(one.check)}: {cell(one.detail)}" for one in found)
    answer([{"check": one.check, "ok": one.ok, "detail": one.detail} for one in found], "\n".join(lines))
    statuses = {one.status for one in found}
    # Whoever must mend several things begins with the settings.
    order = (BadSettings.exit_code, UNREACHABLE, *statuses)
    ctx.exit(next((status for status in order if status and status in statuses), 0))


def _examine() -> list[Check]:
    try:
        settings = read_settings()
    except BadSettings as fault:
        return [Check(check="settings", detail=line, status=fault.exit_code) for line in fault.faults]
    from gateway.cli.upstream_checks import check_keys, check_reachable

    clock = SystemClock()
    found = [Check(check="settings", detail=file_read() or "defaults; no file was read")]
    keys, ledger_id = _check_storage(settings, found)
    found.append(check_port("tenant_api", settings.tenant_api.host, settings.tenant_api.port))
    found.append(check_port("admin_api", settings.admin_api.host, settings.admin_api.port))
    reached = check_reachable(settings, clock)
    found += reached
    if not reached[0].ok:
        return found
    return [*found, *asyncio.run(check_keys(settings, clock, keys, ledger_id))]


def _check_storage(settings: Settings, found: list[Check]) -> tuple["Keys", str]:
    """Adds what it finds; each team's active key and the ledger's id, as far as the ledger could be opened."""
    path = settings.storage.sqlite_path
    known = _open(settings, path, found)
    if path is not None:
        found += [check_disk(path, settings.storage.min_free_bytes), check_filesystem(path)]
    return known


def _open(settings: Settings, path: Path | None, found: list[Check]) -> tuple["Keys", str]:
    from gateway.broker.directory import Directory
    from gateway.wiring import open_storage
    from gateway.wiring.sealing import standing_under
    from gateway.wiring.storage import limits_of, mark_of, versions

    if path is not None and not path.exists():
        found.append(_absent(path))
        return {}, ""
    clock = SystemClock()
    try:
        with open_storage(settings, clock) as storage:
            rows = storage.directory.rows()
            lent = Directory(rows, storage.vault, clock, limits_of(settings))
            found.append(Check(check="ledger", detail=f"{storage.path} opens; {versions(storage)}"))
            fits, detail = standing_under(settings, rows.master_version)
            found.append(Check(check="master key", detail=detail, status=0 if fits else FAILED))
            good, detail = mark_of(storage)
            found.append(Check(check="mark", detail=detail, status=0 if good else FAILED))
            return {team.name: lent.key_of(team.team_id) for team in rows.teams}, storage.ledger_id
    except BadSettings as fault:
        found.append(Check(check="master key", detail=str(fault), status=fault.exit_code))
    except StorageUnreachable as fault:
        found.append(Check(check="ledger", detail=str(fault), status=fault.exit_code))
    return {}, ""


def _absent(path: Path) -> Check:
    if may_be_made(path):
        return Check(check="ledger", detail=f"{path} is not there yet: the first command that needs it makes it")
    detail = f"{path} is not there, and this user cannot make it: see storage.url and the folder's owner"
    return Check(check="ledger", detail=detail, status=UNREACHABLE)
