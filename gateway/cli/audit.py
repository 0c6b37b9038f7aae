"""`ordergate audit`: what was changed, when and by whom, and whether anybody touched that log."""

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from gateway.cli.output import answer, print_array, print_table, wants_json
from gateway.cli.program import FAILED, Group, administration
from gateway.core.audit import written_at

if TYPE_CHECKING:
    from gateway.broker.administration import Administration
    from gateway.core.audit import AuditRow

_PAGE: Final = 500  # rows read at once
_FOR_PEOPLE: Final = 100


@click.group(cls=Group)
def audit() -> None:
    """What was changed, when and by whom."""


@audit.command("list", example="ordergate audit list --limit 20")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help=f"So many at most; without it {_FOR_PEOPLE}, or all with --json.",
)
def list_rows(limit: int | None) -> None:
    """List what was changed, the newest first."""
    with administration() as admin:
        found = _all(admin)
        if wants_json():
            print_array(map(_view, itertools.islice(found, limit)))
            return
        limit = limit or _FOR_PEOPLE
        columns = ("number", "at", "who", "action", "subject", "change")
        print_table(columns, map(_row, itertools.islice(found, limit)))
        if next(found, None) is not None:
            click.echo(f"the newest {limit}; there are more: --limit", err=True)


@audit.command("verify", example="ordergate audit verify")
@click.pass_context
def verify(ctx: click.Context) -> None:
    """Read all of the log and say whether each row is as it was written, and none is missing or was put in.

    Where one is not: exit 1, and the first such row's number. What is wrong with the rows behind it cannot be told.
    """
    with administration() as admin:
        found = admin.verify_audit()
    from gateway.web.views import verified_view  # what seals loads slowly, and `--help` needs none

    said = f"{found.rows} rows, each as it was written"
    if found.begins is not None:
        said += (
            f"; those before row {found.begins} are older than the chain, which can tell of them since then only"
        )
    if found.broken is not None:
        said = f"row {found.broken.number} {found.broken.what}"
    answer(verified_view(found), said)
    ctx.exit(FAILED if found.broken is not None else 0)


def _all(admin: "Administration") -> "Iterator[AuditRow]":
    """Every row, the newest first, page by page."""
    before: int | None = None
    while page := admin.audited(before=before, limit=_PAGE):
        yield from page
        before = page[-1].number


def _view(row: "AuditRow") -> dict[str, Any]:
    from gateway.web.views import audit_view

    return audit_view(row)


def _row(row: "AuditRow") -> tuple[object, ...]:
    texts = (text.decode("utf-8", "replace") for text in (row.who, row.action, row.subject, row.change))
    return (row.number, written_at(row), *texts)
