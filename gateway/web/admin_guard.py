"""Who is let in at the admin listener: whoever shows the token, and no page of another site.

The token is asked of everything but health, before anything else is looked at.
"""

import ipaddress
from typing import Any, Final

from gateway.broker.vault import Secret
from gateway.clock import Clock
from gateway.errors import Forbidden, Unauthorized
from gateway.telemetry.logs import Log
from gateway.telemetry.metrics import Metrics
from gateway.web.auth import CHALLENGE, bearer_token

_HEALTH: Final = frozenset({"/healthz", "/readyz"})
_SAID_EVERY_S: Final = 60.0


class Guard:
    """`host` is what the listener is bound to. Without `metrics_token` the metrics are open, for Prometheus.

    Nobody is locked out, whoever guesses: the token has too many bits for that to help. Guesses are counted, and logged
    once a minute.
    """

    def __init__(
        self, *, host: str, token: Secret, metrics_token: bool, clock: Clock, metrics: Metrics, log: Log
    ) -> None:
        self._host = host
        self._token = token
        self._open = _HEALTH if metrics_token else _HEALTH | {"/metrics"}
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._unsaid = 0
        self._said_at: float | None = None

    def admit(self, scope: Any) -> None:
        """Forbidden where it comes from elsewhere, Unauthorized where the token is missing or wrong."""
        _refuse_foreign(dict(scope["headers"]), self._host)
        if scope["path"] in self._open:
            return
        shown = bearer_token(scope)
        if shown is None or Secret(shown) != self._token:
            self._count("missing" if shown is None else "wrong_secret")
            raise Unauthorized("The admin token is needed: `authorization: Bearer …`.", headers=CHALLENGE)

    def _count(self, reason: str) -> None:
        self._metrics.auth_failure(reason)
        self._unsaid += 1
        now = self._clock.monotonic()
        if self._said_at is None or now >= self._said_at + _SAID_EVERY_S:
            self._log.warning(
                "refused", listener="admin", count=self._unsaid, reason="no admin token, or a wrong one"
            )
            self._unsaid, self._said_at = 0, now


def _refuse_foreign(headers: dict[bytes, bytes], bound: str) -> None:
    """A page of another site, or a name that was made to point here, must not reach the admin listener."""
    shown = headers.get(b"host", b"").decode("latin-1")
    asked = _host(shown)
    if not _is_own(asked, bound):
        raise Forbidden("This listener is not known by that host name.")
    origin = headers.get(b"origin")
    if origin is not None and origin.decode("latin-1").partition("://")[2] != shown:
        raise Forbidden("Requests from other sites are refused.")


def _host(header: str) -> str:
    """The host of a Host header, without its port and brackets."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0].lower()


def _is_own(host: str, bound: str) -> bool:
    """Addresses cannot be rebound by a foreign name server; of names only localhost and the bound one are ours."""
    if host in ("localhost", bound.lower()):
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
