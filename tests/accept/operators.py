"""Asking the admin listener: what stands ready for it, and one good request for each route that it has."""

import json
from collections.abc import Mapping
from typing import Any, Final

import httpx
import msgspec
from click.testing import CliRunner
from msgspec import structs

from gateway.broker.administration import NewTenant
from gateway.broker.vault import Secret
from gateway.cli.main import ordergate
from tests.accept.world import World

KEY: Final = "sandbox-key-canary-of-the-operators-0123456789"
JSON: Final = "application/json"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is good, and does something, for one who may. `query` and the texts of `body` may hold names of
    `Ground.names` in braces. `body` None: it is no change.
    """

    query: str = ""
    body: Mapping[str, Any] | None = None


_DOCUMENT: Final = {"teams": [{"name": "applied"}], "tenants": [{"name": "applied", "team": "applied"}]}
TABLE: Final[Mapping[tuple[str, str], Row]] = {
    ("GET", "/admin/teams"): Row(),
    ("POST", "/admin/teams"): Row(body={"team": "made-over-http"}),
    ("DELETE", "/admin/teams/{team}"): Row(body={}),
    ("GET", "/admin/teams/{team}/keys"): Row(),
    ("POST", "/admin/teams/{team}/keys"): Row(body={"key": KEY + "-3", "perMinute": 50}),
    ("POST", "/admin/teams/{team}/keys/{keyId}/verify"): Row(body={}),
    ("POST", "/admin/teams/{team}/keys/{keyId}/activate"): Row(body={"newAccount": False}),
    ("POST", "/admin/teams/{team}/keys/{keyId}/revoke"): Row(body={}),
    ("GET", "/admin/tenants"): Row(),
    ("POST", "/admin/tenants"): Row(body={"tenant": "made-over-http", "team": "{team}"}),
    ("GET", "/admin/tenants/{tenant}"): Row(),
    ("DELETE", "/admin/tenants/{tenant}"): Row(body={}),
    ("POST", "/admin/tenants/{tenant}/suspend"): Row(body={}),
    ("POST", "/admin/tenants/{tenant}/resume"): Row(body={}),
    ("PUT", "/admin/tenants/{tenant}/metadata"): Row(body={"defaults": {"channel": 1}, "enforced": {}}),
    ("GET", "/admin/tokens"): Row(query="tenant={tenant}"),
    ("POST", "/admin/tokens"): Row(body={"tenant": "{tenant}", "expiresIn": "90d"}),
    ("DELETE", "/admin/tokens/{tokenId}"): Row(body={}),
    ("POST", "/admin/apply"): Row(query="dryRun=false&prune=false", body=_DOCUMENT),
    ("GET", "/admin/orders"): Row(query="outcome=placed&limit=5&tenant={tenant}"),
    ("GET", "/admin/orders/{orderId}"): Row(),
    ("POST", "/admin/orders/{orderId}/resolve"): Row(body={"notPlaced": True, "reason": "a word of OfferGrid's"}),
    ("POST", "/admin/orders/reconcile"): Row(body={}),
    ("GET", "/admin/audit"): Row(query="limit=5"),
    ("GET", "/admin/audit/verify"): Row(),
    ("GET", "/metrics"): Row(),
    ("GET", "/healthz"): Row(),
    ("GET", "/readyz"): Row(),
    ("GET", "/openapi.json"): Row(),
    ("GET", "/docs"): Row(),
    ("GET", "/problems/{type}"): Row(),
}


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """A team with two keys, a tenant of it, a token of that tenant, and an order that nobody is sure of.

    `other_key` is a key of another team. `token` is the tenant's whole token.
    """

    names: Mapping[str, str]
    other_key: str
    token: str

    def path(self, template: str, **instead: str) -> str:
        return template.format(**{**self.names, **instead})

    def body(self, row: Row) -> Any:
        """As it is sent; None where there is none."""
        text = json.dumps(row.body)
        for name, value in self.names.items():
            text = text.replace("{" + name + "}", value)
        return json.loads(text)

    @property
    def canaries(self) -> list[str]:
        """What no one may learn who is not let in."""
        return [KEY, self.token, *(value for name, value in self.names.items() if name != "type")]


def grounds(world: World, name: str = "canary") -> Ground:
    """Everything that a request can be about, made without the admin listener."""
    with world.stack.administration() as admin:
        admin.add_team(f"team-of-{name}")
        admin.add_key(f"team-of-{name}", Secret(KEY + "-1"))
        key = admin.add_key(f"team-of-{name}", Secret(KEY + "-2"))
        admin.add_tenant(NewTenant(name=f"tenant-of-{name}", team=f"team-of-{name}"))
        issued = admin.issue_token(f"tenant-of-{name}")
        (other,) = (found for found in admin.keys("team") if found.state == "active")
    token = issued.token.text()
    world.wait_for_token(token)
    world.sandbox.set_fault("place_then_reset")
    answer = world.order(token=token)
    assert answer.json()["outcome"] == "unknown", answer.text
    names = {
        "team": f"team-of-{name}",
        "keyId": key.key_id,
        "tenant": f"tenant-of-{name}",
        "tokenId": issued.token.token_id,
        "orderId": answer.json()["orderId"],
        "type": "not-found",
    }
    return Ground(names=names, other_key=other.key_id, token=token)


def ask(
    world: World,
    method: str,
    path: str,
    body: Any = None,
    *,
    token: str | None = None,
    kind: str | None = JSON,
    content: bytes | None = None,
    **headers: str,
) -> httpx.Response:
    """One request with the admin token, unless another one (or "" for none) is given. A change is JSON unless `kind`
    says something else, or None for nothing.
    """
    shown = world.stack.admin_token if token is None else token
    given = {"authorization": f"Bearer {shown}"} if shown else {}
    if method != "GET":
        given |= {"content-type": kind} if kind else {}
        content = json.dumps({} if body is None else body).encode() if content is None else content
    return world.operator.request(method, path, headers={**given, **headers}, content=content)


def state(world: World) -> Any:
    """Everything that a change could change, and how many changes there were. Not the day on which a token was shown:
    it is noted a little later.
    """
    with world.stack.administration() as admin:
        teams, tenants = admin.teams(), admin.tenants()
        return (
            admin.audited(limit=1)[0].number,
            teams,
            [admin.keys(team.name) for team in teams],
            tenants,
            [[structs.replace(token, last_used_day=None) for token in admin.tokens(one.name)] for one in tenants],
        )


def said(world: World, *arguments: str, typed: str = "") -> Any:
    """What the same program says at the command line, on the same ledger, with `--json`."""
    done = CliRunner(env=world.stack.environ).invoke(
        ordergate, [*arguments, "--json"], input=typed, catch_exceptions=False
    )
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)
