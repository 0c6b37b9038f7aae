"""What a setting asks beyond its type and range, and what settings ask of each other.

A rule is data: the setting it speaks of, the others it looks at, and a function from `Settings` to what is wrong,
or None. No message repeats a secret, or a URL that may hold one.
"""

import ipaddress
import re
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import msgspec

from gateway.settings.model import Settings
from gateway.settings.table import plain

# What drain needs beyond the longest an order can take: writing down what came of it, and telling the tenant.
_DRAIN_MARGIN_S: Final = 2
_MIN_TOKEN_CHARS: Final = 16
_MIN_TOKEN_ALPHABET: Final = 5
# A token made of these words alone was copied from an example.
_EXAMPLE_WORDS: Final = re.compile(
    r"change|replace|me|admin|secret|ordergate|offergrid|password|passwd|default|example|token|your|my|the|here"
    r"|letmein|123(4(5(6(7(89?)?)?)?)?)?|[-_.]"
)


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """`wrong` looks at `name` and `others`; it is not asked where one of them has a fault already."""

    name: str
    others: tuple[str, ...] = ()
    wrong: Callable[[Settings], str | None]


def is_loopback(host: str) -> bool:
    """Whether nothing but this machine answers to, or can reach, `host`. A name other than localhost is not."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _base_url(settings: Settings) -> str | None:
    url = settings.upstream.base_url
    if not url.isascii() or not url.isprintable() or re.search(r"[\s\\<>\"^`{|}]", url):
        return "holds a character that a URL cannot have"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "is not a URL: its host or port cannot be read"
    if parts.scheme not in {"http", "https"}:
        return "must begin with http:// or https://"
    if not parts.hostname or port == 0:
        return "must name a host, and a port other than 0 if any"
    if "@" in parts.netloc:
        return "must not hold a user name or password: OfferGrid is asked with the team's key only"
    if "?" in url or "#" in url:
        return "must not have a query or a fragment"
    return None


def _plain_http(settings: Settings) -> str | None:
    upstream = settings.upstream
    if upstream.allow_plain_http or _base_url(settings):
        return None
    parts = urlsplit(upstream.base_url)
    if parts.scheme == "https" or is_loopback(parts.hostname or ""):
        return None
    return (
        "would send upstream keys in the clear to another machine: "
        "use https, or set upstream.allow_plain_http: true on a network you trust"
    )


def _storage_url(settings: Settings) -> str | None:
    url = settings.storage.url
    if not url.isprintable():
        return "holds a character that is not printable"
    if url.startswith("postgresql://"):
        return None if len(url) > len("postgresql://") else "must say where the database is"
    path = url.removeprefix("sqlite:///")
    if path == url:
        return "must begin with sqlite:/// (three slashes: relative path, four: absolute) or postgresql://"
    if "?" in path or "#" in path:
        return "must be a path without a query or a fragment after sqlite:///"
    if path == ":memory:" or not path.strip("/") or path.endswith("/"):
        return "must name a file: a ledger in memory, or a directory, keeps nothing"
    return None


def _token(settings: Settings) -> str | None:
    token = settings.admin_api.token
    if token is None:
        return None
    if not re.fullmatch(r"[!-~]*", token):
        return "must be visible ASCII characters without spaces"
    if len(token) < _MIN_TOKEN_CHARS:
        return f"is too short: {_MIN_TOKEN_CHARS} characters or more, as `openssl rand -hex 32` makes them"
    if len(set(token)) < _MIN_TOKEN_ALPHABET or not _EXAMPLE_WORDS.sub("", token.lower()):
        return "is a well-known or example token: make one with `openssl rand -hex 32`"
    return None


def _admin_host(settings: Settings) -> str | None:
    admin = settings.admin_api
    if admin.token is not None or is_loopback(admin.host):
        return None
    return "is open to other machines, so admin_api.token must be set"


def _same_port(settings: Settings) -> str | None:
    tenant, admin = settings.tenant_api, settings.admin_api
    if admin.port == 0 or admin.port != tenant.port or admin.host != tenant.host:
        return None
    return f"is {admin.port}, the same as tenant_api.port on the same host"


def _drain(settings: Settings) -> str | None:
    drain, timeout, wait = settings.shutdown.drain_s, settings.upstream.timeout_s, settings.admission.max_wait_s
    least = timeout + wait + _DRAIN_MARGIN_S
    if drain >= least - 1e-9:  # sums of decimal fractions are not exact
        return None
    return (
        f"is {plain(drain)}, but must be at least upstream.timeout_s ({plain(timeout)}) + "
        f"admission.max_wait_s ({plain(wait)}) + {_DRAIN_MARGIN_S} = {plain(least)}"
    )


RULES: Final[tuple[Rule, ...]] = (
    Rule(name="upstream.base_url", wrong=_base_url),
    Rule(name="upstream.base_url", others=("upstream.allow_plain_http",), wrong=_plain_http),
    Rule(name="storage.url", wrong=_storage_url),
    Rule(name="admin_api.token", wrong=_token),
    Rule(name="admin_api.host", others=("admin_api.token",), wrong=_admin_host),
    Rule(name="admin_api.port", others=("tenant_api.port", "tenant_api.host", "admin_api.host"), wrong=_same_port),
    Rule(name="shutdown.drain_s", others=("upstream.timeout_s", "admission.max_wait_s"), wrong=_drain),
)
