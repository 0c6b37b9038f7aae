"""Stages 1 and 4: what is asked, and the bytes that are sent. Pure but for the order's id."""

from typing import Final

from gateway.clock import Clock, new_uuid7, rfc3339
from gateway.core.enrich import enriched
from gateway.flow.ports import Marks, OrderRequest
from gateway.ledger.interface import Claimed, NewOrder


class Describer:
    """Knows by which digests an order is recognised, and what is added to it.

    The two digests are what the ledger finds an order by, and what `gatewayClaim` says at OfferGrid: from its
    listing a restored ledger learns which keys and bodies are placed already.
    """

    def __init__(
        self, *, marks: Marks, ledger_id: str, clock: Clock, implicit_window_s: float, ttl_s: float
    ) -> None:
        self._marks = marks
        self._ledger_id: Final = ledger_id
        self._clock = clock
        self._implicit_window_s = implicit_window_s
        self._ttl_s = ttl_s

    def recognise(self, *, implicit_window_s: float, ttl_s: float) -> None:
        """From the next order on."""
        self._implicit_window_s = implicit_window_s
        self._ttl_s = ttl_s

    def order(self, request: OrderRequest) -> NewOrder:
        tenant = request.tenant
        scope = tenant.scope.encode() + b":"  # not the id: a restored ledger may have lost it
        window_s = self._implicit_window_s if tenant.implicit_window_s is None else tenant.implicit_window_s
        key = request.idempotency_key
        return NewOrder(
            request_id=request.request_id,
            order_id=new_uuid7(self._clock),
            tenant_id=tenant.tenant_id,
            tenant=tenant.name,
            team_id=tenant.team_id,
            fingerprint=self._marks.mac("claim-body", scope + request.content),
            key_digest=None if key is None else self._marks.mac("claim-key", scope + key.encode()),
            idempotency_key=key,
            window_ms=round(window_s * 1000),
            ttl_ms=round(self._ttl_s * 1000),
            created_ms=request.received_ms,
        )

    def body(self, request: OrderRequest, order: NewOrder, claim: Claimed) -> bytes:
        """The tenant's body with metadata. Id and key are the ledger's: those of an earlier try where there was one."""
        tenant = request.tenant
        claim_key = "" if claim.key_digest is None else claim.key_digest.hex()
        own = {
            "gatewayOrderId": claim.order_id,
            "gatewayTenant": tenant.name,
            **({} if tenant.scope == tenant.name else {"gatewayScope": tenant.scope}),
            "gatewayRequestId": request.request_id,
            "gatewayReceivedAt": rfc3339(request.received_ms),
            "gatewayClaim": f"{claim_key}.{order.fingerprint.hex()}",
            "gatewayLedger": self._ledger_id,
        }
        return enriched(request.body, own=own, defaults=tenant.defaults, enforced=tenant.enforced)
