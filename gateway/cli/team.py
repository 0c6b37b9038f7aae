"""`ordergate team`: OfferGrid accounts."""

import click

from gateway.cli.output import answer, answer_rows, moment
from gateway.cli.program import Group, administration


@click.group(cls=Group)
def team() -> None:
    """OfferGrid accounts. A team owns upstream keys and has tenants."""


@team.command("add", example="ordergate team add sales")
@click.argument("name")
def add(name: str) -> None:
    """Add a team."""
    with administration() as admin:
        added = admin.add_team(name)
    answer({"team": added.name}, f"team {added.name} added; it needs a key: ordergate key add {added.name}")


@team.command("list", example="ordergate team list")
def list_teams() -> None:
    """List the teams."""
    with administration() as admin:
        teams = admin.teams()
    views = [{"team": team.name, "createdAt": moment(team.created_ms)} for team in teams]
    answer_rows(views, ("team", "created"), (view.values() for view in views))


@team.command("remove", example="ordergate team remove sales")
@click.argument("name")
def remove(name: str) -> None:
    """Remove a team. It must have no tenants, no keys but revoked ones, and no order that nobody is sure of."""
    with administration() as admin:
        removed = admin.remove_team(name)
    answer({"team": removed.name}, f"team {name} is removed")
