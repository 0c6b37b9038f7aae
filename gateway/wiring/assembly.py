"""What one instance is made of: the only place that puts the rooms' classes together."""

import asyncio
from pathlib import Path
from typing import Final

import msgspec
from msgspec import structs

from gateway.broker.admission import Admission
from gateway.broker.directory import Directory
from gateway.broker.secret_file import SecretFile
from gateway.broker.vault import Secret
from gateway.clock import Clock
from gateway.core.absence import Terms
from gateway.core.breaker import Breaker
from gateway.flow.describe import Describer
from gateway.flow.gate import Gate
from gateway.flow.intake import Intake
from gateway.flow.place_order import OrderFlow
from gateway.flow.reconcile import Reconciler
from gateway.flow.sending import Sender
from gateway.flow.upkeep import Readiness
from gateway.ledger.sqlite import SqliteLedger
from gateway.settings import Settings
from gateway.telemetry.logs import Log
from gateway.telemetry.metrics import Metrics
from gateway.upstream.operations import OfferGrid
from gateway.web.admin_app import admin_app
from gateway.web.admin_guard import Guard
from gateway.web.admin_operation import BodyLimits, Desk
from gateway.web.auth import Authenticator
from gateway.web.edge import AsgiApp
from gateway.web.orders import OrderEndpoint
from gateway.web.tenant_app import tenant_app
from gateway.wiring.reloading import Live
from gateway.wiring.stopping import Stopping
from gateway.wiring.storage import Storage

ADMIN_TOKEN_FILE: Final = Path("var/admin.token")


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What both listeners are made of."""

    settings: Settings
    clock: Clock
    log: Log
    metrics: Metrics
    storage: Storage
    ledger: SqliteLedger
    directory: Directory
    intake: Intake
    readiness: Readiness
    stopping: Stopping
    live: Live
    failed: asyncio.Event


def reconciler(parts: Parts, upstream: OfferGrid) -> Reconciler:
    reconcile = parts.settings.reconcile
    return Reconciler(
        ledger=parts.ledger,
        ledger_id=parts.storage.ledger_id,
        upstream=upstream,
        keys=parts.directory,
        intake=parts.intake,
        clock=parts.clock,
        metrics=parts.metrics,
        log=parts.log,
        terms=Terms(
            mode=reconcile.absence, settle_after_s=reconcile.settle_after_s, interval_s=reconcile.interval_s
        ),
        watch_s=reconcile.watch_s,
        per_minute=parts.settings.budget.reserved_per_minute,
    )


def order_flow(parts: Parts, upstream: OfferGrid) -> OrderFlow:
    """Stages 1 to 8, each with what it needs."""
    settings = parts.settings
    describer = Describer(
        marks=parts.storage.vault,
        ledger_id=parts.storage.ledger_id,
        clock=parts.clock,
        implicit_window_s=settings.idempotency.implicit_window_s,
        ttl_s=settings.idempotency.ttl_s,
    )
    admission = Admission(
        max_in_flight=settings.upstream.max_in_flight,
        max_waiting=settings.admission.max_waiting,
        max_wait_s=settings.admission.max_wait_s,
        now=parts.clock.monotonic,
    )

    def follow(new: Settings) -> None:
        describer.recognise(**structs.asdict(new.idempotency))
        admission.allow(max_waiting=new.admission.max_waiting)

    parts.live.follow(follow)
    breaker = Breaker(failures=settings.upstream.breaker_failures, open_s=settings.upstream.breaker_open_s)
    return OrderFlow(
        ledger=parts.ledger,
        describer=describer,
        gate=Gate(
            intake=parts.intake,
            keys=parts.directory,
            reads=parts.ledger,
            breaker=breaker,
            upstream=upstream,
            clock=parts.clock,
            metrics=parts.metrics,
            look_s=settings.upstream.connect_timeout_s,
        ),
        admission=admission,
        sender=Sender(
            ledger=parts.ledger,
            upstream=upstream,
            keys=parts.directory,
            breaker=breaker,
            intake=parts.intake,
            clock=parts.clock,
            metrics=parts.metrics,
            log=parts.log,
            timeout_s=settings.upstream.timeout_s,
        ),
        intake=parts.intake,
        clock=parts.clock,
        metrics=parts.metrics,
        log=parts.log,
    )


def tenant_listener(parts: Parts, upstream: OfferGrid) -> AsgiApp:
    settings = parts.settings
    authenticator = Authenticator(parts.directory, parts.metrics)
    orders = OrderEndpoint(
        flow=order_flow(parts, upstream),
        authenticator=authenticator,
        metrics=parts.metrics,
        clock=parts.clock,
        max_body_bytes=settings.tenant_api.max_body_bytes,
        body_timeout_s=settings.tenant_api.body_timeout_s,
    )
    return tenant_app(
        orders=orders,
        ledger=parts.ledger,
        intake=parts.intake,
        authenticator=authenticator,
        reasons=parts.readiness.reasons,
        log=parts.log,
    )


def admin_listener(parts: Parts, desk: Desk) -> AsgiApp:
    admin, api = parts.settings.admin_api, parts.settings.tenant_api
    return admin_app(
        guard=Guard(
            host=admin.host,
            token=admin_token(parts.settings, parts.clock),
            metrics_token=admin.metrics_token,
            clock=parts.clock,
            metrics=parts.metrics,
            log=parts.log,
        ),
        metrics_token=admin.metrics_token,
        metrics=parts.metrics,
        reasons=parts.readiness.reasons,
        desk=desk,
        limits=BodyLimits(max_bytes=api.max_body_bytes, timeout_s=api.body_timeout_s),
        log=parts.log,
    )


def admin_token(settings: Settings, clock: Clock) -> Secret:
    """The token that was set, or the one in `var/admin.token`, which is made where there is none."""
    if settings.admin_api.token is not None:
        return Secret(settings.admin_api.token)
    file = SecretFile(ADMIN_TOKEN_FILE, "admin_api.token", sizes=(32, 256), missing="is not there")
    text = file.load(lambda: clock.random_bytes(32).hex().encode("ascii"), clock)
    return Secret(text.decode("ascii", "replace").strip())
