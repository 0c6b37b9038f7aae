"""Every setting: its default, range, unit, reason, and whether a reload can change it, in this one place.

A `Settings` is a value: frozen, compared by its sections, and its repr shows no secret. Sections' names, field
names and defaults are what operators see; change them only with the documents.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

HIDDEN: Final = "***"
_DAY_S: Final = 86_400
_YEARS_10_S: Final = 3_650 * _DAY_S
_SQLITE: Final = "sqlite:///"


def _about(
    reason: str,
    *,
    unit: str = "",
    expect: str = "",
    reload: bool = False,
    secret: bool = False,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    pattern: str | None = None,
) -> msgspec.Meta:
    """What is known of one setting. `expect` says in words what a `pattern` says in signs."""
    extra = {"unit": unit, "expect": expect, "reload": reload, "secret": secret}
    bounds = {"ge": ge, "gt": gt, "le": le, "pattern": pattern}
    given: dict[str, Any] = {name: bound for name, bound in bounds.items() if bound is not None}
    return msgspec.Meta(description=reason, extra=extra, **given)


def _host(reason: str) -> msgspec.Meta:
    return _about(reason, expect="a host name or an IP address", pattern=r"^[0-9A-Za-z._:%-]+$")


def _port(reason: str) -> msgspec.Meta:
    return _about(reason, unit="port", ge=0, le=65_535)


def _bytes(reason: str, *, least: int, most: int = 1 << 30) -> msgspec.Meta:
    return _about(reason, unit="bytes", ge=least, le=most)


def _seconds(reason: str, *, most: float = _DAY_S, zero: bool = False, reload: bool = False) -> msgspec.Meta:
    """A duration. `zero`: nought has a meaning here; everywhere else it would wait for nothing."""
    least = 0 if zero else None
    return _about(reason, unit="seconds", ge=least, gt=None if zero else 0, le=most, reload=reload)


def _count(reason: str, *, unit: str, least: int = 0, most: int = 1_000_000, reload: bool = False) -> msgspec.Meta:
    return _about(reason, unit=unit, ge=least, le=most, reload=reload)


def about(annotated: Any) -> dict[str, Any]:
    """What the annotation of a field says of it: `reason`, `unit`, `expect`, `reload`, `secret`."""
    meta: msgspec.Meta = annotated.__metadata__[0]
    return {**(meta.extra or {}), "reason": meta.description}


def _harmless(value: str) -> bool:
    """An SQLite URL is a path; only a database server's URL can hold a password."""
    return value.startswith(_SQLITE)


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """What every section shares: a repr that hides secrets."""

    def shown(self) -> Iterator[tuple[str, object]]:
        """Every field with its value, secrets replaced by `***`."""
        for field in msgspec.structs.fields(self):
            value = getattr(self, field.name)
            hidden = value is not None and about(field.type)["secret"] and not _harmless(value)
            yield field.name, HIDDEN if hidden else value

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.shown())})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return list(self.shown())


class TenantApi(Section, frozen=True, kw_only=True):
    """The listener that tenants talk to."""

    host: Annotated[str, _host("Where tenants connect. Only this machine unless said otherwise.")] = "127.0.0.1"
    port: Annotated[int, _port("0 takes any free port. Worker n of N listens on the same port.")] = 8080
    max_body_bytes: Annotated[int, _bytes("A longer body is 413. An order is a few KiB.", least=1)] = 262_144
    max_header_bytes: Annotated[int, _bytes("A longer header section is 431.", least=256)] = 16_384
    header_timeout_s: Annotated[float, _seconds("From a request's first byte to the end of its header.")] = 5.0
    body_timeout_s: Annotated[float, _seconds("From the header's end to the body's end; then 408.")] = 10.0
    idle_timeout_s: Annotated[float, _seconds("How long a connection may stay open without a request.")] = 60.0
    max_connections: Annotated[
        int, _count("Past it the idlest is closed; where none is idle, 503.", unit="connections", least=1)
    ] = 2_000


class AdminApi(Section, frozen=True, kw_only=True):
    """The listener that operators and Prometheus talk to."""

    host: Annotated[str, _host("Anything but this machine needs a token that is set here.")] = "127.0.0.1"
    port: Annotated[int, _port("0 takes any free port. Worker n of N listens on port + n.")] = 8081
    token: Annotated[
        str | None,
        _about("Asked of everything but health. None: one is made in var/admin.token.", unit="text", secret=True),
    ] = None
    metrics_token: Annotated[bool, _about("Whether /metrics asks for the token too.")] = False


class Upstream(Section, frozen=True, kw_only=True):
    """OfferGrid, and how long and how often it is asked."""

    base_url: Annotated[
        str, _about("Where OfferGrid is; the team's key goes to this origin only.", unit="URL", pattern="^.")
    ] = "http://localhost:3000"
    allow_plain_http: Annotated[
        bool, _about("Lets keys travel in the clear to another machine: for a private network only.")
    ] = False
    connect_timeout_s: Annotated[float, _seconds("Past it nothing was sent, so it is tried again.")] = 2.0
    timeout_s: Annotated[float, _seconds("Bounds all attempts of one request together.")] = 10.0
    max_in_flight: Annotated[
        int, _count("Orders on their way at once, a connection each.", unit="orders", least=1, most=10_000)
    ] = 100
    keepalive_idle_s: Annotated[
        float, _seconds("An idler connection carries no order: OfferGrid may just be closing it.", zero=True)
    ] = 3.0
    max_response_bytes: Annotated[int, _bytes("A longer answer to an order is unreadable.", least=1)] = 1_048_576
    max_listing_bytes: Annotated[int, _bytes("A longer list of orders is not complete.", least=1)] = 67_108_864
    breaker_failures: Annotated[
        int, _count("So many attempts in a row without an answer open the breaker.", unit="attempts", least=1)
    ] = 5
    breaker_open_s: Annotated[float, _seconds("How long an open breaker sends nothing.")] = 5.0


class Storage(Section, frozen=True, kw_only=True):
    """The ledger's database."""

    url: Annotated[
        str,
        _about(
            "Three slashes: relative to the working directory; four: absolute. SQLite needs a local disk.",
            unit="URL",
            secret=True,
            pattern="^.",
        ),
    ] = "sqlite:///var/ordergate.db"
    min_free_bytes: Annotated[
        int, _bytes("With less space on the disk the gateway is not ready.", least=0, most=1 << 50)
    ] = 67_108_864

    @property
    def sqlite_path(self) -> Path | None:
        """The database file, relative to the working directory unless absolute; None where it is not SQLite."""
        return Path(self.url.removeprefix(_SQLITE)) if self.url.startswith(_SQLITE) else None


class Secrets(Section, frozen=True, kw_only=True):
    """Where the key lies that everything secret in the ledger is sealed under."""

    master_key_file: Annotated[
        str,
        _about("32 random bytes, mode 0600, made at the first start. Back it up apart.", unit="path", pattern="^."),
    ] = "var/master.key"


class Budget(Section, frozen=True, kw_only=True):
    """How many calls an upstream key may carry, and how its tenants share them. A key may have its own."""

    per_minute: Annotated[int, _count("In any 60 s; 0 is no limit.", unit="calls")] = 100
    per_hour: Annotated[int, _count("In any 3,600 s; 0 is no limit.", unit="calls", most=100_000_000)] = 10_000
    reserved_per_minute: Annotated[
        int, _count("Kept from orders: for reconciling, checking keys and cancelling.", unit="calls")
    ] = 5
    guaranteed_fraction: Annotated[
        float,
        _about("Split evenly among a team's tenants; the rest is first come.", unit="share", ge=0, le=1),
    ] = 0.5


class Admission(Section, frozen=True, kw_only=True):
    """How long and how many orders may wait for budget or a free connection."""

    max_wait_s: Annotated[float, _seconds("Past it the order is not sent. 0: never waits.", zero=True)] = 1.0
    max_waiting: Annotated[
        int, _count("Past that many further orders are not sent.", unit="orders", reload=True)
    ] = 1_000


class Idempotency(Section, frozen=True, kw_only=True):
    """How long the gateway remembers what was asked."""

    ttl_s: Annotated[
        float, _seconds("How long a key lives after its order settled.", most=_YEARS_10_S, reload=True)
    ] = 86_400.0
    implicit_window_s: Annotated[
        float,
        _seconds("Without a key, how long the same body is the same order. 0: off.", zero=True, reload=True),
    ] = 300.0


class Reconcile(Section, frozen=True, kw_only=True):
    """How the truth about unknown orders is found: by looking, never by sending."""

    interval_s: Annotated[float, _seconds("Between two listings of a team's orders.")] = 5.0
    settle_after_s: Annotated[float, _seconds("OfferGrid acts within this after an attempt's end, or never.")] = (
        60.0
    )
    absence: Annotated[
        Literal["witnessed", "trusted", "never"],
        _about("Which listings prove that OfferGrid does not have an order.", unit="choice"),
    ] = "witnessed"
    watch_s: Annotated[
        float,
        _seconds("How long an order settled by absence is still looked for.", most=_YEARS_10_S, zero=True),
    ] = 86_400.0


class Shutdown(Section, frozen=True, kw_only=True):
    """What a SIGTERM allows."""

    drain_s: Annotated[float, _seconds("To finish what is in flight: timeout_s + max_wait_s + 2 or more.")] = 25.0


class Log(Section, frozen=True, kw_only=True):
    """What is written on standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        _about("The least that is written.", unit="choice", reload=True),
    ] = "info"
    format: Annotated[Literal["json", "console"], _about("json for machines, console for eyes.", unit="choice")] = (
        "json"
    )


class Settings(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Everything the process was told. `sources`: where each setting that is not a default was read, by name."""

    tenant_api: TenantApi = TenantApi()
    admin_api: AdminApi = AdminApi()
    upstream: Upstream = Upstream()
    storage: Storage = Storage()
    secrets: Secrets = Secrets()
    budget: Budget = Budget()
    admission: Admission = Admission()
    idempotency: Idempotency = Idempotency()
    reconcile: Reconcile = Reconcile()
    shutdown: Shutdown = Shutdown()
    log: Log = Log()
    sources: tuple[tuple[str, str], ...] = ()

    def value(self, name: str) -> Any:
        """The value of `section.field`."""
        section, field = name.split(".")
        return getattr(getattr(self, section), field)

    def __eq__(self, other: object) -> bool:
        """The same values, wherever they were read."""
        if not isinstance(other, Settings):
            return NotImplemented
        return all(section == theirs for section, theirs in zip(self._sections(), other._sections(), strict=True))

    def __hash__(self) -> int:
        return hash(self._sections())

    def _sections(self) -> tuple[Section, ...]:
        return tuple(getattr(self, name) for name, _ in section_types())


def section_types() -> tuple[tuple[str, type[Section]], ...]:
    """Every section's name and type, in the order of the documents."""
    return tuple((field.name, field.type) for field in msgspec.structs.fields(Settings) if field.name != "sources")
