"""`ordergate db`: the ledger's file as a whole. What to do with it when something went wrong: docs/restore.md."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from gateway.cli.output import answer, cell
from gateway.cli.program import FAILED, Group, read_settings

if TYPE_CHECKING:
    from gateway.flow.rejoin import TeamOrders
    from gateway.ledger.sqlite_rejoin import Entry
    from gateway.wiring.database import Rejoined

_WAYS: Final = ("known", "placed", "inserted", "forgotten", "duplicate", "contradicts")


@click.group(cls=Group)
def db() -> None:
    """The ledger's file: look it through, copy it, put a copy back."""


@db.command("check", example="ordergate db check")
@click.pass_context
def check(ctx: click.Context) -> None:
    """Read all of the ledger and say what is wrong. Its pages, every sealed record, and whether its rows agree."""
    settings = read_settings()
    from gateway.wiring.database import check_ledger  # what stores and seals loads slowly, and `--help` needs none

    found = check_ledger(settings)
    findings = [{"where": one.where, "what": one.what} for one in found.findings]
    view = {"ledger": str(found.path), "ok": not findings, "orders": found.orders, "findings": findings}
    lines = [f"{cell(one.where)}: {cell(one.what)}" for one in found.findings]
    said = "\n".join(lines) or f"{found.path} is whole; {found.orders} orders"
    answer(view, said)
    ctx.exit(FAILED if findings else 0)


@db.command("backup", example="ordergate db backup /backup/ordergate-2026-01-31.db")
@click.argument("file", type=click.Path(path_type=Path))
def backup(file: Path) -> None:
    """Copy the ledger to FILE while the gateway runs. FILE must not be there yet; the master key is not in it."""
    settings = read_settings()
    from gateway.wiring.database import back_up_ledger

    made = back_up_ledger(settings, file)
    view = {"file": str(made.file), "bytes": made.size, "orders": made.orders}
    answer(view, f"{made.file}: {made.size} bytes, {made.orders} orders")


@db.command("restore", example="ordergate db restore /backup/ordergate-2026-01-31.db")
@click.argument("file", type=click.Path(path_type=Path))
def restore(file: Path) -> None:
    """Put a backup in the ledger's place. The gateway must be stopped; it places nothing before `db rejoin`."""
    settings = read_settings()
    from gateway.wiring.database import restore_ledger

    made = restore_ledger(settings, file)
    kept = None if made.replaced is None else str(made.replaced)
    view = {"ledger": str(made.ledger), "orders": made.orders, "replaced": kept}
    lines = [f"{made.ledger}: restored from {file}, {made.orders} orders"]
    if kept is not None:
        lines.append(f"the ledger that stood there is kept as {kept}")
    lines.append("no order is placed before it knows again what was placed since: ordergate db rejoin")
    answer(view, "\n".join(lines))


@db.command("rejoin", example="ordergate db rejoin")
@click.option(
    "--without",
    multiple=True,
    metavar="TEAM",
    help="Leave this team unread, which has no usable key. What was placed for it since the backup stays unknown: "
    "repeated, it is placed a second time.",
)
def rejoin(without: tuple[str, ...]) -> None:
    """Enter what OfferGrid has, and end the quarantine. What a restored ledger must do before it places orders."""
    settings = read_settings()
    from gateway.wiring.database import rejoin_ledger

    done = rejoin_ledger(settings, lambda text: click.echo(text, err=True), frozenset(without))
    answer(_view(done), "\n".join(_lines(done)))


def _view(done: "Rejoined") -> dict[str, Any]:
    entries = () if done.entered is None else done.entered.entries
    return {
        "rejoined": done.entered is not None,
        "teams": [
            {"team": team.name, "listed": team.listed, "foreign": team.foreign, **_counts(entries, team)}
            for team in done.teams
        ],
        "orders": [
            {
                "orderId": entry.order_id,
                "tenant": entry.tenant,
                "upstreamOrderId": entry.upstream_order_id,
                "was": entry.was,
                "way": entry.way,
            }
            for entry in entries
            if entry.way != "known"
        ],
        "tenantsMade": [] if done.entered is None else list(done.entered.tenants_made),
        "unread": list(done.unread),
    }


def _lines(done: "Rejoined") -> list[str]:
    if done.entered is None:
        return ["the ledger is in no quarantine: nothing to do"]
    entries = done.entered.entries
    lines = [
        f"order {entry.order_id} of {entry.tenant}: was {entry.was or 'not there'}, {entry.way}"
        for entry in entries
        if entry.way != "known"
    ]
    for team in done.teams:
        counts = ", ".join(f"{count} {way}" for way, count in _counts(entries, team).items() if count)
        lines.append(f"team {team.name}: {team.listed} listed; {counts or 'none of this ledger'}")
        if team.foreign:
            lines.append(
                f"team {team.name}: {team.foreign} are another ledger's: one account must belong to one ledger"
            )
    made = done.entered.tenants_made
    lines += [f"tenant {name} was not there; it is made again, suspended" for name in made]
    lines += [
        f"team {name} was not read: what the ledger lost of it is placed again when repeated"
        for name in done.unread
    ]
    return [*lines, "the quarantine has ended: orders are placed again"]


def _counts(entries: "Iterable[Entry]", team: "TeamOrders") -> dict[str, int]:
    """How many of the team's orders went which way."""
    ways = [entry.way for entry in entries if entry.team_id == team.team_id]
    return {way: ways.count(way) for way in _WAYS}
