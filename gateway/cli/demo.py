"""`ordergate demo`: everything at once on this machine, for trying it out. What `make run` runs.

The sandbox runs in the same process and event loop as the gateway, so that neither can outlive the other.
"""

import asyncio
import http.client
from typing import Any, Final
from urllib.parse import urlsplit

import click
import msgspec

from gateway.cli.output import answer
from gateway.cli.program import Command, read_settings
from gateway.cli.sandbox import running_sandbox
from gateway.errors import OperatorError, Refused, StorageUnreachable
from gateway.settings import Log, Settings, Upstream
from gateway.settings.rules import is_loopback

NAME: Final = "demo"
SANDBOX_KEY: Final = "sandbox-key-demo"
SANDBOX_PORT: Final = 3000
_POLL_S: Final = 0.05
_PATIENCE_S: Final = 10.0
"""A change of the directory acts within a second; a busy machine gets ten."""

_ORDER: Final = (
    '{"items":[{"offerId":"test-offer-id"}],'
    '"serviceAddress":{"street":"123 Main St","city":"San Francisco","state":"CA","zipCode":"94102","country":"US"},'
    '"customerInfo":{"fullName":"Ada Example","email":"ada@example.com","phone":"+1-555-123-4567"},'
    '"metadata":{"test":true,"run":"@RUN@"}}'
)
"""`run` differs at each start: the sandbox begins empty, and yesterday's order must not be told again for today's."""

_TEXT: Final = """\
Ordergate is running, with a sandbox OfferGrid behind it: no order here reaches the real one. Place an order:

{curl}

The same line again tells the same order again: a repeat is never a second order.

  what tenants can ask   {tenant}/docs
  metrics                {admin}/metrics
  admin token            {admin_token}
  what the sandbox took  {sandbox}/sandbox/orders

Ctrl-C stops all of it."""


@click.command(cls=Command, example="ordergate demo")
@click.option(
    "--sandbox-port",
    type=click.IntRange(0, 65_535),
    help="0 takes any free one. Default: the one in upstream.base_url if that is on this machine, else 3000.",
)
@click.pass_context
def demo(ctx: click.Context, sandbox_port: int | None) -> None:
    """Try it out: the gateway and a sandbox OfferGrid.

    They run until Ctrl-C, with a team, a tenant and a key that are made once and called demo. Each start revokes
    that tenant's tokens and issues a new one. The gateway asks the sandbox alone, whatever upstream.base_url says.
    """
    settings = read_settings()
    ctx.exit(asyncio.run(_run(settings, _sandbox_port(settings) if sandbox_port is None else sandbox_port)))


async def _run(settings: Settings, sandbox_port: int) -> int:
    """Returns the exit status."""
    from gateway.clock import SystemClock
    from gateway.telemetry.logs import make_log
    from gateway.wiring.instance import (
        running,  # the web framework loads slowly; no other command should wait for it
    )
    from gateway.wiring.reloading import Live
    from gateway.wiring.stopping import Stopping

    _refuse_foreign(settings)
    async with running_sandbox("127.0.0.1", sandbox_port) as sandbox:
        settings = _for_demo(settings, sandbox.base_url)
        clock = SystemClock()
        log = make_log(level=settings.log.level, style=settings.log.format, clock=clock)
        stopping = Stopping(clock, settings.shutdown.drain_s)
        stopping.listen()
        async with running(Live(settings), clock, log, stopping) as instance:
            # Not before the ports are ours: the demo that has them must keep its token.
            token = await asyncio.to_thread(_prepare, settings)
            tenant, admin = _url(*instance.tenant_address), _url(*instance.admin_address)
            await _accepted(tenant, token)
            _welcome(settings, token=token, tenant=tenant, admin=admin, sandbox=sandbox.base_url)
            await instance.until_stopped()
        return StorageUnreachable.exit_code if instance.failed.is_set() else 0


def _sandbox_port(settings: Settings) -> int:
    url = urlsplit(settings.upstream.base_url)
    return url.port or SANDBOX_PORT if is_loopback(url.hostname or "") else SANDBOX_PORT


def _for_demo(settings: Settings, sandbox_url: str) -> Settings:
    """The same settings, but OfferGrid is the sandbox, and the log is kept out of the way unless it was set."""
    upstream: Upstream = msgspec.structs.replace(settings.upstream, base_url=sandbox_url)
    usual, quiet = Log(), {"level": "warning", "format": "console"}
    sources = dict(settings.sources)
    # The settings file that comes with the program spells out every default; that sets nothing.
    kept = [
        name
        for name in quiet
        if getattr(settings.log, name) != getattr(usual, name) or sources.get(f"log.{name}", "").startswith("$")
    ]
    log: Log = msgspec.structs.replace(settings.log, **{name: quiet[name] for name in quiet if name not in kept})
    return msgspec.structs.replace(settings, upstream=upstream, log=log)


def _refuse_foreign(settings: Settings) -> None:
    """Real tenants' orders must not go to the sandbox because somebody tried the demo on their ledger, nor one demo's
    to another one's sandbox.
    """
    from gateway.wiring import open_administration
    from gateway.wiring.storage import is_served

    path = settings.storage.sqlite_path
    if path is not None and path.exists() and is_served(path):
        raise StorageUnreachable(f"{path}: another gateway is running on this ledger")
    with open_administration(settings) as admin:
        foreign = sorted(team.name for team in admin.teams() if team.name != NAME)
    if foreign:
        raise Refused(
            f"{settings.storage.url} has a team {foreign[0]}: the demo needs a ledger of its own"
            " (ORDERGATE_STORAGE__URL=sqlite:///var/demo.db)"
        )


def _prepare(settings: Settings) -> str:
    """Makes what is missing of the demo's team, key and tenant. A fresh token; those before it are revoked."""
    from gateway.broker.administration import NewTenant
    from gateway.broker.vault import Secret
    from gateway.wiring import open_administration

    with open_administration(settings) as admin:
        if NAME not in {team.name for team in admin.teams()}:
            admin.add_team(NAME)
        if not admin.keys(NAME):
            admin.add_key(NAME, Secret(SANDBOX_KEY))
        if NAME not in {tenant.name for tenant in admin.tenants()}:
            admin.add_tenant(NewTenant(name=NAME, team=NAME))
        if admin.tenant(NAME).state != "active":
            admin.set_tenant_state(NAME, "active")
        for token in admin.tokens(NAME):
            if token.revoked_ms is None:
                admin.revoke_token(token.token_id)
        return admin.issue_token(NAME).token.text()


async def _accepted(tenant: str, token: str) -> None:
    """Waits until the gateway has taken the token up: what is printed must work at once."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            while await asyncio.to_thread(_status, tenant, token) != 200:  # noqa: ASYNC110 - it asks over HTTP
                await asyncio.sleep(_POLL_S)
    except TimeoutError as fault:
        raise OperatorError(f"{tenant} does not accept the demo's token") from fault


def _status(tenant: str, token: str) -> int:
    connection = http.client.HTTPConnection(urlsplit(tenant).netloc, timeout=_PATIENCE_S)
    try:
        connection.request("GET", "/orders?limit=1", headers={"authorization": f"Bearer {token}"})
        return connection.getresponse().status
    finally:
        connection.close()


def _welcome(settings: Settings, *, token: str, tenant: str, admin: str, sandbox: str) -> None:
    from gateway.wiring.assembly import ADMIN_TOKEN_FILE

    curl = (
        f"curl -sS -X POST {tenant}/orders -H 'authorization: Bearer {token}' "
        f"-H 'content-type: application/json' -w '\\n' -d '{_ORDER.replace('@RUN@', token.split('_')[1])}'"
    )
    admin_token = f"in {ADMIN_TOKEN_FILE}" if settings.admin_api.token is None else "as admin_api.token was set"
    said = _TEXT.format(curl=curl, tenant=tenant, admin=admin, sandbox=sandbox, admin_token=admin_token)
    view: dict[str, Any] = {"tenantUrl": tenant, "adminUrl": admin, "sandboxUrl": sandbox, "token": token}
    answer({**view, "curl": curl}, said)


def _url(host: str, port: int) -> str:
    """Where this machine reaches what listens there."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read here, bound by the settings
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
