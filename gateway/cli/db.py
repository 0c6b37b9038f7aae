"""`ordergate db`: the ledger's file as a whole."""

from pathlib import Path

import click

from gateway.cli.output import answer, cell
from gateway.cli.program import FAILED, Group, read_settings


@click.group(cls=Group)
def db() -> None:
    """The ledger's file: look it through, copy it."""


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
