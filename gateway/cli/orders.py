"""`ordergate orders`: looking at the ledger's orders, and settling those that nobody is sure of."""

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, cast

import click
import msgspec

from gateway.cli.output import answer, moment, print_array, print_table, wants_json
from gateway.cli.program import FAILED, Group, read_settings
from gateway.core.lifecycle import OUTCOMES, Outcome
from gateway.errors import BadUsage, Refused
from gateway.ledger.interface import OrderFilter, StoredOrder

if TYPE_CHECKING:
    from gateway.ledger.sqlite_reader import SqliteReader

_PAGE: Final = 500  # orders read at once: the ledger is free for others between two pages
_FOR_PEOPLE: Final = 100
_MAX_TEXT: Final = 500


@click.group(cls=Group)
def orders() -> None:
    """The ledger's orders."""


@orders.command("list", example="ordergate orders list --outcome unknown --tenant shop")
@click.option("--outcome", type=click.Choice(OUTCOMES), help="Only those with this outcome.")
@click.option("--tenant", metavar="TENANT", help="Only this tenant's.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help=f"So many at most; without it {_FOR_PEOPLE}, or all with --json.",
)
def list_orders(outcome: str | None, tenant: str | None, limit: int | None) -> None:
    """List orders, the newest first."""
    wanted = OrderFilter(outcome=cast("Outcome | None", outcome), tenant=tenant, limit=_PAGE)
    with _reader() as reader:
        found = _all(reader, wanted)
        if wants_json():
            print_array(map(_view, itertools.islice(found, limit)))
            return
        limit = limit or _FOR_PEOPLE
        columns = ("order", "tenant", "outcome", "status", "upstream order", "created", "settled")
        print_table(columns, map(_row, itertools.islice(found, limit)))
        if next(found, None) is not None:
            click.echo(f"the newest {limit}; there are more: --limit", err=True)


@orders.command("show", example="ordergate orders show 01890a5d-ac96-774b-bcce-b302099a8057")
@click.argument("order_id", metavar="ID")
def show(order_id: str) -> None:
    """Show one order with its attempts and OfferGrid's answer."""
    with _reader() as reader:
        found = reader.find(order_id, tenant_id=None)
    if found is None:
        raise Refused(f"there is no order {order_id!r}")
    encoded = msgspec.json.encode(_view(found))
    click.echo(encoded if wants_json() else msgspec.json.format(encoded, indent=2))


@orders.command("reconcile", example="ordergate orders reconcile")
@click.option("--once", is_flag=True, help="Look once: what OfferGrid lists is settled, absence is not waited for.")
@click.pass_context
def reconcile(ctx: click.Context, once: bool) -> None:
    """Look for unknown orders at OfferGrid, and stay until each is found or proven absent.

    Nothing is ever sent. To prove that OfferGrid does not have an order takes two looks, a little more than
    reconcile.settle_after_s from now. Beside a running gateway this asks for a look at once and waits for its proof.
    """
    settings = read_settings()
    from gateway.wiring.reconciling import reconcile as look

    done = asyncio.run(look(settings, stay=not once))
    looked = done.looked
    view = {
        "unknown": looked.unknown_before, "looks": looked.looks, "failedLooks": looked.failed, "found": looked.found,
        "late": looked.late, "duplicates": looked.duplicates, "stillUnknown": done.still_unknown,
    }  # fmt: skip
    said = (
        f"{looked.unknown_before} unknown; {looked.looks} listings read, {looked.failed} of them failed; "
        f"{looked.found} found, {looked.late} late, {looked.duplicates} duplicates; {done.still_unknown} still unknown"
    )
    answer(view, said)
    ctx.exit(FAILED if looked.failed else 0)


@orders.command(
    "resolve", example="ordergate orders resolve ID --not-placed --reason 'OfferGrid support, case 4711'"
)
@click.argument("order_id", metavar="ID")
@click.option("--placed", "placed_as", metavar="UPSTREAM_ORDER_ID", help="OfferGrid has it, under this id.")
@click.option("--not-placed", is_flag=True, help="OfferGrid does not have it: its tenant may send it again.")
@click.option("--reason", required=True, help="How you know. It stands in the audit log.")
def resolve(order_id: str, placed_as: str | None, not_placed: bool, reason: str) -> None:
    """Settle an unknown order by hand. Only where reconciling cannot: a wrong word places it twice or never."""
    if (placed_as is None) != not_placed:
        raise BadUsage("say either --placed UPSTREAM_ORDER_ID or --not-placed")
    _check_text("--reason", reason)
    if placed_as is not None:
        _check_text("--placed", placed_as)
    settings = read_settings()
    from gateway.wiring.reconciling import resolve_by_hand

    order = resolve_by_hand(settings, order_id, placed_as, reason.strip())
    answer(_view(order), f"order {order.order_id} is {order.outcome}")


def _check_text(name: str, text: str) -> None:
    if not text.strip() or len(text) > _MAX_TEXT or not text.isprintable():
        raise BadUsage(f"{name} is 1 to {_MAX_TEXT} printable characters, on one line")


def _reader() -> AbstractContextManager["SqliteReader"]:
    settings = read_settings()
    from gateway.wiring import open_orders  # what stores and seals loads slowly, and `--help` needs none

    return open_orders(settings)


def _all(reader: "SqliteReader", wanted: OrderFilter) -> Iterator[StoredOrder]:
    """Every order that the filter lets through, page by page."""
    while page := reader.page(wanted):
        yield from page
        wanted = msgspec.structs.replace(wanted, before_seq=page[-1].seq)


def _view(order: StoredOrder) -> dict[str, Any]:
    from gateway.web.views import order_view

    return order_view(order)


def _row(order: StoredOrder) -> tuple[object, ...]:
    return (
        order.order_id,
        order.tenant,
        order.outcome,
        order.http_status,
        order.upstream_order_id,
        moment(order.created_ms),
        moment(order.settled_ms),
    )
