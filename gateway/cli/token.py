"""`ordergate token`: what tenants show. A token is seen once, when it is issued."""

from typing import Any

import click

from gateway.cli.output import answer, answer_rows, moment, wants_json
from gateway.cli.program import Group, administration
from gateway.core.directory import TokenRecord
from gateway.core.tenancy import day
from gateway.core.tokens import parse, seconds_of
from gateway.errors import BadUsage


class Duration(click.ParamType[int]):
    """`90d`, `12h`, `30m` or `45s`, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = seconds_of(str(value))
        if found is None:
            self.fail(f"{value!r} is not a number of s, m, h or d, as in 90d", param, ctx)
        return found


@click.group(cls=Group)
def token() -> None:
    """Tokens: what a tenant shows with every request."""


@token.command("issue", example="TOKEN=$(ordergate token issue shop --expires-in 90d)")
@click.argument("tenant")
@click.option("--expires-in", type=Duration(), metavar="90d", help="s, m, h or d; without it, it does not expire.")
def issue(tenant: str, expires_in: int | None) -> None:
    """Issue a token and print it, this once."""
    with administration() as admin:
        issued = admin.issue_token(tenant, expires_in_s=expires_in)
    expires = moment(issued.record.expires_ms)
    if not wants_json():
        until = f"valid until {expires}" if expires else "valid until it is revoked"
        click.echo(f"token {issued.token.token_id} of tenant {tenant}, {until}; it is not shown again:", err=True)
    view = {
        "tokenId": issued.token.token_id,
        "token": issued.token.text(),
        "tenant": issued.tenant,
        "expiresAt": expires,
    }
    answer(view, issued.token.text())


@token.command("list", example="ordergate token list shop")
@click.argument("tenant")
def list_tokens(tenant: str) -> None:
    """List a tenant's tokens by their ids, with the day on which each was last used."""
    with administration() as admin:
        views = [{"tokenId": found.token_id, "tenant": tenant, **_times(found)} for found in admin.tokens(tenant)]
    columns = ("token", "tenant", "created", "expires", "revoked", "last used")
    answer_rows(views, columns, (view.values() for view in views))


@token.command("revoke", example="ordergate token revoke q3m5x7aaaa")
@click.argument("token_id", metavar="TOKENID")
def revoke(token_id: str) -> None:
    """Revoke a token. It is refused within a second."""
    if whole := parse(token_id):
        raise BadUsage(f"this is a whole token, which a command line shows to others; its id is {whole.token_id}")
    with administration() as admin:
        revoked = admin.revoke_token(token_id)
    answer({"tokenId": token_id, **_times(revoked)}, f"token {token_id} is revoked")


def _times(found: TokenRecord) -> dict[str, str | None]:
    return {
        "createdAt": moment(found.created_ms),
        "expiresAt": moment(found.expires_ms),
        "revokedAt": moment(found.revoked_ms),
        "lastUsedDay": day(found.last_used_day),
    }
