"""`ordergate secrets`: the master key. What rests on it, and what to do step by step: docs/secrets.md."""

from typing import TYPE_CHECKING, Any

import click

from gateway.cli.output import answer
from gateway.cli.program import Group, read_settings

if TYPE_CHECKING:
    from gateway.broker.rotation import Rotated


@click.group(cls=Group)
def secrets() -> None:
    """The master key, and its rotation."""


@secrets.command("rotate", example="ordergate secrets rotate")
@click.option(
    "--drop-old",
    is_flag=True,
    help="Take older versions out of the key file: backups from before cannot be restored then.",
)
def rotate(drop_old: bool) -> None:
    """Put the ledger under a new master key, while gateways run. Again, it ends what was cut off."""
    settings = read_settings()
    from gateway.wiring.sealing import rotate_master_key

    done = rotate_master_key(settings, drop_old=drop_old)
    answer(_view(done), "\n".join(_lines(done, settings.secrets.master_key_file)))


def _view(done: "Rotated") -> dict[str, Any]:
    return {
        "from": done.before,
        "version": done.version,
        "keys": done.keys,
        "unreadable": list(done.unreadable),
        "versionsInFile": list(done.held),
        "wiped": done.wiped,
        "restsOnVersion1": done.from_master,
    }


def _lines(done: "Rotated", file: str) -> list[str]:
    count = f"{done.keys} upstream key{'' if done.keys == 1 else 's'}"
    lines = [
        f"the ledger stands under version {done.version} of the master key: {count} and the ledger key were sealed anew"
    ]
    lines += [
        f"{key_id} could not be opened before, and cannot now: add that key again" for key_id in done.unreadable
    ]
    if done.from_master:
        lines.append(
            "the ledger is older than ledger keys: orders' contents and digests still rest on a key made from version 1"
        )
    else:
        lines.append(f"version {done.before} opens nothing in it any more")
    if not done.wiped:
        lines.append("others read the ledger all the time: old records stay in its log until that is written over")
    older = [str(version) for version in done.held if version != done.version]
    if older:
        lines.append(
            f"{file} holds version {', '.join(older)} still, for backups from before: --drop-old takes it out"
        )
    return [*lines, f"back {file} up now: without it neither this ledger nor a backup of it can be read"]
