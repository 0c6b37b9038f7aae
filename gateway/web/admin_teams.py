"""Teams and upstream keys over HTTP. No answer shows a key."""

from typing import Any, Final

import msgspec

from gateway.broker.administration import Administration
from gateway.broker.vault import Secret
from gateway.core.directory import UpstreamKey
from gateway.core.tenancy import key_view, moment
from gateway.errors import Conflict, UpstreamUnavailable
from gateway.web.admin_bodies import Activation, NewKey, NewTeam, Nothing
from gateway.web.admin_operation import Asked, Desk, Operation, in_office
from gateway.web.described import listed, ref


def _teams(admin: Administration, _: Asked) -> Any:
    return [{"team": team.name, "createdAt": moment(team.created_ms)} for team in admin.teams()]


def _add_team(admin: Administration, asked: Asked) -> Any:
    body: NewTeam = asked.body
    return {"team": admin.add_team(body.team).name}


def _remove_team(admin: Administration, asked: Asked) -> Any:
    return {"team": admin.remove_team(asked.params["team"]).name}


def _keys(admin: Administration, asked: Asked) -> Any:
    team = asked.params["team"]
    return [key_view(team, key) for key in admin.keys(team)]


def _add_key(admin: Administration, asked: Asked) -> Any:
    body: NewKey = asked.body
    team = asked.params["team"]
    return _short(team, admin.add_key(team, Secret(body.key), per_minute=body.per_minute, per_hour=body.per_hour))


async def _verify_key(desk: Desk, asked: Asked) -> bytes:
    team, key_id = asked.params["team"], asked.params["keyId"]
    tried, verdict = await desk.verify_key(team, key_id)
    if verdict == "refused":
        raise Conflict(f"OfferGrid does not accept {key_id}; it is {tried.state}.")
    if verdict == "another_account":
        raise Conflict(
            f"OfferGrid accepts {key_id}, but its listing shows none of the orders that were placed for team {team}: "
            f"it looks like another account's key. It is {tried.state}."
        )
    return msgspec.json.encode(_short(team, tried))


async def _activate_key(desk: Desk, asked: Asked) -> bytes:
    body: Activation = asked.body
    team, key_id = asked.params["team"], asked.params["keyId"]
    return msgspec.json.encode(_short(team, await desk.activate_key(team, key_id, new_account=body.new_account)))


def _revoke_key(admin: Administration, asked: Asked) -> Any:
    team = asked.params["team"]
    return _short(team, admin.revoke_key(team, asked.params["keyId"]))


def _short(team: str, key: UpstreamKey) -> dict[str, Any]:
    return {"team": team, "keyId": key.key_id, "state": key.state}


_TEAM: Final = "/admin/teams/{team}"
_KEY: Final = "/admin/teams/{team}/keys/{keyId}"

TEAMS: Final = (
    Operation(
        method="GET", path="/admin/teams", name="listTeams", summary="The teams: OfferGrid accounts",
        run=in_office(_teams), answer=listed("Team"),
    ),
    Operation(
        method="POST", path="/admin/teams", name="addTeam", summary="Add a team",
        run=in_office(_add_team), body=NewTeam, status=201, answer=ref("TeamName"),
    ),
    Operation(
        method="DELETE", path=_TEAM, name="removeTeam",
        summary="Remove a team that has no tenants, no keys in use, and no order that nobody is sure of",
        run=in_office(_remove_team), body=Nothing, answer=ref("TeamName"),
    ),
    Operation(
        method="GET", path=f"{_TEAM}/keys", name="listKeys", summary="A team's upstream keys, by their ids",
        run=in_office(_keys), answer=listed("Key"),
    ),
    Operation(
        method="POST", path=f"{_TEAM}/keys", name="addKey",
        summary="Add an upstream key: a team's first one is active, later ones stand by",
        run=in_office(_add_key), body=NewKey, status=201, answer=ref("KeyState"),
    ),
    Operation(
        method="POST", path=f"{_KEY}/verify", name="verifyKey",
        summary="Try a key by a read; where OfferGrid accepts it, a refused one stands by again",
        run=_verify_key, body=Nothing, answer=ref("KeyState"), problems=(UpstreamUnavailable,),
    ),
    Operation(
        method="POST", path=f"{_KEY}/activate", name="activateKey",
        summary="Send the team's orders with this key from now on. It is tried first; the one before becomes retiring",
        run=_activate_key, body=Activation, answer=ref("KeyState"), problems=(UpstreamUnavailable,),
    ),
    Operation(
        method="POST", path=f"{_KEY}/revoke", name="revokeKey",
        summary="Use a key no more, for nothing. It is not revoked at OfferGrid by this",
        run=in_office(_revoke_key), body=Nothing, answer=ref("KeyState"),
    ),
)  # fmt: skip
"""Every operation on teams and their keys."""
