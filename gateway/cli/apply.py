"""`ordergate apply`: teams and tenants as a file says."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

from gateway.cli.output import answer, cell, print_table, wants_json
from gateway.cli.program import Command, administration
from gateway.errors import BadUsage, LedgerError, OperatorError, Refused

if TYPE_CHECKING:
    from gateway.broker.administration import Administration, Applied, Noted
    from gateway.core.tenants_file import ReadFile
    from gateway.core.tenants_plan import TenantsFile

_WORDS: Final[Mapping[str, str]] = {
    "add": "create",
    "change": "change",
    "suspend": "suspend",
    "resume": "resume",
    "remove": "remove",
}


@click.command("apply", cls=Command, example="ordergate apply config/tenants.yaml --dry-run")
@click.argument("file", type=click.File("rb"))
@click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
@click.option("--prune", is_flag=True, help="Remove the teams and tenants that the file's lists lack.")
def apply(file: BinaryIO, dry_run: bool, prune: bool) -> None:
    """Make teams and tenants as FILE says: all of it or nothing. "-" reads standard input."""
    from gateway.core.tenants_file import LIMITS, read_tenants_file  # reading YAML loads slowly

    found = read_tenants_file(file.read(LIMITS.bytes + 1), getattr(file, "name", "<stdin>"))
    _require_good(found)
    with administration() as admin:
        shown = _apply(admin, found.wanted, dry_run, prune)
    view = {
        "changes": shown.changes,
        "kept": shown.kept,
        "unchanged": shown.unchanged,
        "notes": shown.notes,
        "dryRun": dry_run,
    }
    for note in () if wants_json() else shown.notes:
        click.echo(f"note: {note}", err=True)
    answer(view, _summary(shown, dry_run))


def _require_good(found: "ReadFile") -> None:
    """BadUsage with every fault of the file, and with what the ledger, if it can be asked, says against the rest."""
    if not found.faults:
        return
    others: tuple[str, ...] = ()
    with suppress(OperatorError, LedgerError), administration() as admin:
        others = admin.prepare(found.wanted, prune=False).shown.faults
    raise BadUsage("\n".join([*map(str, found.faults), *others]))


def _apply(admin: "Administration", wanted: "TenantsFile", dry_run: bool, prune: bool) -> "Applied":
    """Shows the plan, then does exactly that; again where somebody else was faster."""
    while True:
        prepared = admin.prepare(wanted, prune=prune)
        if prepared.shown.faults:
            raise Refused("\n".join(prepared.shown.faults))
        if not wants_json():
            with suppress(
                BrokenPipeError
            ):  # whoever reads has seen enough of it, and has asked for it all the same
                _print(prepared.shown)
        if dry_run or admin.carry_out(prepared):
            return prepared.shown
        if not wants_json():
            click.echo("teams or tenants were changed meanwhile; now the plan is:", err=True)


def _print(shown: "Applied") -> None:
    rows = [(_WORDS[change.action.partition(" ")[2]], _which(change), _what(change)) for change in shown.changes]
    rows += [("keep", name, "not in the file; --prune removes it") for name in shown.kept]
    if rows:
        print_table(("do", "to", "from → to"), rows)


def _which(change: "Noted") -> str:
    return f"{change.action.partition(' ')[0]} {change.subject}"


def _what(change: "Noted") -> str:
    before, after = change.change["from"], change.change["to"]
    if before is None or after is None:
        facts = _flat(before or after or {})
        return ", ".join(f"{name} {value}" for name, value in facts.items() if value not in ("-", "no"))
    was, will = _flat(before), _flat(after)
    names = dict.fromkeys([*was, *will])
    return ", ".join(
        f"{name} {was.get(name, '-')} → {will.get(name, '-')}" for name in names if was.get(name) != will.get(name)
    )


def _flat(facts: Mapping[str, Any]) -> dict[str, str]:
    """Facts by name, metadata member by member."""
    return dict(_pairs(facts))


def _pairs(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        if name == "metadata":
            for kind, members in value.items():
                yield from ((f"{kind[:-1]} {member}", bytes(raw).decode()) for member, raw in members.items())
        elif name in ("tokens", "keys"):
            if value:
                yield name, " ".join(value)
        else:
            yield name, cell(value)


def _summary(shown: "Applied", dry_run: bool) -> str:
    unchanged = f"{shown.unchanged} unchanged"
    if not shown.changes:
        return f"nothing to do: {unchanged}"
    counts: dict[str, int] = {}
    for change in shown.changes:
        word = _WORDS[change.action.partition(" ")[2]].removesuffix("e")
        counts[word] = counts.get(word, 0) + 1
    done = ", ".join(f"{count} {word}ed" for word, count in counts.items())
    return f"{'nothing was done; it would be' if dry_run else 'done'}: {done}, {unchanged}"
