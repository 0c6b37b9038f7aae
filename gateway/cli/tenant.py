"""`ordergate tenant`: the services that send orders."""

from collections.abc import Mapping, Sequence
from typing import Any

import click
import msgspec

from gateway.cli.output import answer, answer_rows, moment, print_table, wants_json
from gateway.cli.program import Group, administration
from gateway.core.directory import Tenant
from gateway.core.tenancy import MOST


@click.group(cls=Group)
def tenant() -> None:
    """Services that send orders. A tenant belongs to a team and shows a token."""


@tenant.command("add", example="ordergate tenant add shop --team sales --require-idempotency-key")
@click.argument("name")
@click.option("--team", required=True, metavar="TEAM", help="The team with whose key its orders are sent.")
@click.option("--require-idempotency-key", is_flag=True, help="Refuse its orders without an Idempotency-Key.")
@click.option(
    "--guaranteed-per-minute",
    type=click.IntRange(0, MOST["guaranteed_per_minute"]),
    help="Its part of the team's budget.",
)
@click.option(
    "--implicit-window-s",
    type=click.IntRange(0, MOST["implicit_window_s"]),
    help="How long the same body without a key is the same order, in seconds; 0 is off.",
)
def add(
    name: str,
    team: str,
    require_idempotency_key: bool,
    guaranteed_per_minute: int | None,
    implicit_window_s: int | None,
) -> None:
    """Add a tenant to a team."""
    from gateway.broker.administration import NewTenant  # what seals loads slowly, and `--help` needs none

    new = NewTenant(
        name=name,
        team=team,
        require_idempotency_key=require_idempotency_key,
        guaranteed_per_minute=guaranteed_per_minute,
        implicit_window_s=implicit_window_s,
    )
    with administration() as admin:
        added = admin.add_tenant(new)
    answer(_view(added), f"tenant {name} added to team {team}; it needs a token: ordergate token issue {name}")


@tenant.command("list", example="ordergate tenant list --json")
def list_tenants() -> None:
    """List the tenants."""
    with administration() as admin:
        tenants = admin.tenants()
    rows = ((found.name, found.team, found.state, moment(found.created_ms)) for found in tenants)
    answer_rows([_view(found) for found in tenants], ("tenant", "team", "state", "created"), rows)


@tenant.command("show", example="ordergate tenant show shop")
@click.argument("name")
def show(name: str) -> None:
    """Show everything about one tenant but its tokens."""
    with administration() as admin:
        _tell(admin.tenant(name))


@tenant.command("suspend", example="ordergate tenant suspend shop")
@click.argument("name")
def suspend(name: str) -> None:
    """Refuse a tenant's requests from now on. Orders in flight end as they would."""
    with administration() as admin:
        answer(_view(admin.set_tenant_state(name, "suspended")), f"tenant {name} is suspended")


@tenant.command("resume", example="ordergate tenant resume shop")
@click.argument("name")
def resume(name: str) -> None:
    """Take a suspended tenant's requests again."""
    with administration() as admin:
        answer(_view(admin.set_tenant_state(name, "active")), f"tenant {name} is active")


@tenant.command("remove", example="ordergate tenant remove shop")
@click.argument("name")
def remove(name: str) -> None:
    """Remove a tenant with its tokens. Its orders stay; none may be one that nobody is sure of."""
    with administration() as admin:
        answer(_view(admin.remove_tenant(name)), f"tenant {name} is removed, with its tokens")


@tenant.command("metadata", example="ordergate tenant metadata shop --default channel=1 --enforce test=true")
@click.argument("name")
@click.option("--default", "defaults", multiple=True, metavar="K=JSON", help="Filled in where an order has no K.")
@click.option("--enforce", "enforced", multiple=True, metavar="K=JSON", help="Put in place of an order's own K.")
@click.option("--clear", is_flag=True, help="Take all members away.")
def metadata(name: str, defaults: Sequence[str], enforced: Sequence[str], clear: bool) -> None:
    """Set the metadata members that a tenant's orders get, all at once; without options, show them."""
    if clear and (defaults or enforced):
        raise click.UsageError("--clear stands alone")
    wanted = {"defaults": _members(defaults, "--default"), "enforced": _members(enforced, "--enforce")}
    with administration() as admin:
        changes = bool(clear or defaults or enforced)
        _tell(admin.set_metadata(name, **wanted) if changes else admin.tenant(name))


def _members(given: Sequence[str], option: str) -> dict[str, str]:
    members: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"{text!r} is not K=JSON", param_hint=option)
        if name in members:
            raise click.BadParameter(f"{name!r} is given twice", param_hint=option)
        members[name] = value
    return members


def _view(found: Tenant) -> dict[str, Any]:
    """Named as in the file of tenants. Metadata values stand as they were spelled."""
    return {
        "tenant": found.name,
        "team": found.team,
        "state": found.state,
        "require_idempotency_key": found.require_idempotency_key,
        "guaranteed_per_minute": found.guaranteed_per_minute,
        "implicit_window_s": found.implicit_window_s,
        "metadata": {"defaults": _raw(found.defaults), "enforced": _raw(found.enforced)},
    }


def _raw(members: Mapping[str, str]) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(text.encode()) for name, text in members.items()}


def _tell(found: Tenant) -> None:
    if wants_json():
        answer(_view(found), "")
        return
    rows: list[tuple[str, object]] = [item for item in _view(found).items() if item[0] != "metadata"]
    rows += [(f"default {name}", text) for name, text in found.defaults.items()]
    rows += [(f"enforced {name}", text) for name, text in found.enforced.items()]
    print_table(("", ""), rows)
