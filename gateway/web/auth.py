"""Whose request this is: the token in `authorization: Bearer` or `x-api-key`.

A client made for OfferGrid sends its key as `x-api-key`; with a token in its place it works unchanged.
"""

from typing import Any, Final

from gateway.broker.directory import Directory
from gateway.core.directory import Tenant
from gateway.errors import BadRequest, TenantSuspended, Unauthorized
from gateway.telemetry.metrics import Metrics
from gateway.web.context import context_of

CHALLENGE: Final = (("www-authenticate", "Bearer"),)


def bearer_token(scope: Any) -> str | None:
    """The token that the request shows, None where it shows none; BadRequest where it shows two."""
    shown: list[str] = []
    carriers: set[bytes] = set()
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").partition(" ")
            shown.append(token.strip() if scheme.lower() == "bearer" else "")
        elif name == b"x-api-key":
            shown.append(value.decode("latin-1").strip())
        else:
            continue
        if name in carriers:
            raise BadRequest(f"The header {name.decode('ascii')} stands twice.")
        carriers.add(name)
    if len(set(shown)) > 1:
        raise BadRequest("The request shows two different tokens.")
    return shown[0] if shown else None


class Authenticator:
    """Turns a request into its tenant. Every refusal is the same 401; the metric alone knows the reason."""

    def __init__(self, directory: Directory, metrics: Metrics) -> None:
        self._directory = directory
        self._metrics = metrics

    def tenant(self, scope: Any) -> Tenant:
        """The tenant, suspended or not; Unauthorized where the token is not valid."""
        token = bearer_token(scope)
        found = "missing" if token is None else self._directory.authenticate(token)
        if not isinstance(found, Tenant):
            self._metrics.auth_failure(found)
            raise Unauthorized("A valid token is needed: `authorization: Bearer ogt_…`.", headers=CHALLENGE)
        context_of(scope).tenant = found.name
        return found

    def active_tenant(self, scope: Any) -> Tenant:
        return require_active(self.tenant(scope))


def require_active(tenant: Tenant) -> Tenant:
    if tenant.state == "suspended":
        raise TenantSuspended("An operator has suspended this tenant.")
    return tenant
