"""`ordergate key`: a team's upstream keys. No command shows one again."""

import sys
from typing import Any, BinaryIO, Final

import click

from gateway.cli.output import answer, answer_rows
from gateway.cli.program import Group, administration, read_settings
from gateway.core.directory import UpstreamKey
from gateway.core.tenancy import MOST, key_view
from gateway.errors import BadUsage, OperatorError, Refused

_MAX_BYTES: Final = 4_096  # no key is as long; whatever is sent here by mistake is not read to its end


@click.group(cls=Group)
def key() -> None:
    """Upstream keys: what a team's orders are sent to OfferGrid with."""


@key.command("add", example="ordergate key add sales < offergrid.key")
@click.argument("team")
@click.option("--key-file", type=click.File("rb"), help="Read the key from this file instead of standard input.")
@click.option(
    "--per-minute",
    type=click.IntRange(0, MOST["per_minute"]),
    help="This key's own limit; 0 is none.",
)
@click.option(
    "--per-hour",
    type=click.IntRange(0, MOST["per_hour"]),
    help="This key's own limit; 0 is none.",
)
def add(team: str, key_file: BinaryIO | None, per_minute: int | None, per_hour: int | None) -> None:
    """Add a key that is read from standard input; a team's first one is active, later ones stand by."""
    from gateway.broker.vault import Secret

    secret = Secret(_typed() if key_file is None else _line(key_file))
    with administration() as admin:
        added = admin.add_key(team, secret, per_minute=per_minute, per_hour=per_hour)
    answer(_short(team, added), f"key {added.key_id} added to team {team}; it is {added.state}")


@key.command("list", example="ordergate key list sales")
@click.argument("team")
def list_keys(team: str) -> None:
    """List a team's keys by their ids."""
    with administration() as admin:
        views = [key_view(team, key) for key in admin.keys(team)]
    columns = ("team", "key", "state", "verified", "same account", "per minute", "per hour", "created")
    answer_rows(views, columns, (view.values() for view in views))


@key.command("verify", example="ordergate key verify sales key-0a1b2c3d4e5f")
@click.argument("team")
@click.argument("key_id", metavar="KEYID")
def verify(team: str, key_id: str) -> None:
    """Try a key by a read; where OfferGrid accepts it, a refused one stands by again."""
    settings = read_settings()
    from gateway.wiring.keys import verify_key  # what stores and seals loads slowly, and `--help` needs none

    tried, verdict = verify_key(settings, team, key_id)
    if verdict == "refused":
        raise OperatorError(f"OfferGrid does not accept {key_id}; it is {tried.state}")
    if verdict == "another_account":
        raise Refused(
            f"OfferGrid accepts {key_id}, but its listing shows none of the orders that were placed for team {team}: "
            f"it looks like another account's key. It is {tried.state}"
        )
    seen = "" if verdict == "same_account" else "; no order was placed yet by which its account could be told"
    answer(_short(team, tried), f"OfferGrid accepts {key_id}; it is {tried.state}{seen}")


@key.command("activate", example="ordergate key activate sales key-0a1b2c3d4e5f")
@click.argument("team")
@click.argument("key_id", metavar="KEYID")
@click.option(
    "--new-account",
    is_flag=True,
    help="The key may be of another OfferGrid account: the team turns to it, and no earlier key is used any more. "
    "Refused while orders are unsettled.",
)
def activate(team: str, key_id: str, new_account: bool) -> None:
    """Send the team's orders with this key from now on. It is tried first; the one before becomes retiring."""
    settings = read_settings()
    from gateway.wiring.keys import activate_key

    active = activate_key(settings, team, key_id, new_account=new_account)
    answer(_short(team, active), f"{key_id} is active: orders of team {team} are sent with it")


@key.command("revoke", example="ordergate key revoke sales key-0a1b2c3d4e5f")
@click.argument("team")
@click.argument("key_id", metavar="KEYID")
def revoke(team: str, key_id: str) -> None:
    """Use a key no more, for nothing. It is not revoked at OfferGrid by this."""
    with administration() as admin:
        revoked, following = admin.revoke_key(team, key_id), admin.next_key(team)
    if following is None:
        then = f"team {team} has no usable key: its orders are refused until one is activated"
    else:
        then = f"orders of team {team} are sent with {following.key_id}, which is {following.state}"
    answer(_short(team, revoked), f"{key_id} is revoked; {then}")


def _short(team: str, key: UpstreamKey) -> dict[str, Any]:
    return {"team": team, "keyId": key.key_id, "state": key.state}


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
