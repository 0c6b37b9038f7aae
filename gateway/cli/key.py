"""`ordergate key`: a team's upstream keys. No command shows one again."""

import sys
from typing import Any, BinaryIO, Final

import click

from gateway.cli.output import answer, answer_rows, moment
from gateway.cli.program import Group, administration
from gateway.core.directory import UpstreamKey
from gateway.errors import BadUsage, OperatorError

_MAX_BYTES: Final = 4_096  # no key is as long; whatever is sent here by mistake is not read to its end


@click.group(cls=Group)
def key() -> None:
    """Upstream keys: what a team's orders are sent to OfferGrid with."""


@key.command("add", example="ordergate key add sales < offergrid.key")
@click.argument("team")
@click.option("--key-file", type=click.File("rb"), help="Read the key from this file instead of standard input.")
@click.option(
    "--per-minute", type=click.IntRange(0, 1_000_000), help="This key's own limit; 0 is none. Not acted on yet."
)
@click.option(
    "--per-hour", type=click.IntRange(0, 100_000_000), help="This key's own limit; 0 is none. Not acted on yet."
)
def add(team: str, key_file: BinaryIO | None, per_minute: int | None, per_hour: int | None) -> None:
    """Add a key that is read from standard input; a team's first one is active, later ones stand by."""
    from gateway.broker.vault import Secret

    secret = Secret(_typed() if key_file is None else _line(key_file))
    with administration() as admin:
        added = admin.add_key(team, secret, per_minute=per_minute, per_hour=per_hour)
    view = {"team": team, "keyId": added.key_id, "state": added.state}
    answer(view, f"key {added.key_id} added to team {team}; it is {added.state}")


@key.command("list", example="ordergate key list sales")
@click.argument("team")
def list_keys(team: str) -> None:
    """List a team's keys by their ids."""
    with administration() as admin:
        views = [_view(team, key) for key in admin.keys(team)]
    columns = ("team", "key", "state", "created", "per minute", "per hour")
    answer_rows(views, columns, (view.values() for view in views))


@key.command("verify", example="ordergate key verify sales key-0a1b2c3d4e5f")
@click.argument("team")
@click.argument("key_id", metavar="KEYID")
def verify(team: str, key_id: str) -> None:
    """Try a key by a read; where OfferGrid accepts it, a refused one stands by again."""
    import asyncio

    from gateway.cli.program import read_settings
    from gateway.cli.upstream_checks import accepts
    from gateway.wiring import lent_key

    settings = read_settings()
    lent = lent_key(settings, team, key_id)
    accepted = asyncio.run(accepts(settings, lent))
    with administration() as admin:
        tried = admin.key_was_tried(team, key_id, accepted=accepted)
    if not accepted:
        raise OperatorError(f"OfferGrid does not accept {key_id}; it is {tried.state}")
    view = {"team": team, "keyId": key_id, "state": tried.state}
    answer(view, f"OfferGrid accepts {key_id}; it is {tried.state}")


def _view(team: str, key: UpstreamKey) -> dict[str, Any]:
    return {
        "team": team,
        "keyId": key.key_id,
        "state": key.state,
        "createdAt": moment(key.created_ms),
        "perMinute": key.per_minute,
        "perHour": key.per_hour,
    }


def _typed() -> str:
    """What stands on standard input; a person at a terminal is asked, and nothing that is typed is shown."""
    if sys.stdin.isatty():
        typed: str = click.prompt("Upstream key", hide_input=True, err=True)
        return typed
    return _line(sys.stdin.buffer)


def _line(file: BinaryIO) -> str:
    """The file's text without the line's end that an editor or `echo` puts behind it."""
    try:
        text = file.read(_MAX_BYTES).decode("ascii")
    except UnicodeDecodeError:
        # Not chained and not said: the text in it may be the key.
        raise BadUsage("an upstream key is 8 to 512 visible ASCII characters, on one line") from None
    return text.removesuffix("\n").removesuffix("\r")
