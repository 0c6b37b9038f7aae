"""Teams, keys, tenants and tokens: every rule of administering them, for whatever face asks.

Synchronous and small; each face calls it on a connection of its own. Each change is one durable transaction with one
row of the audit log, and acts on every running instance within a second. `Refused` says what cannot be done, `BadUsage`
what makes no sense; nothing is half done. What changes nothing writes no row.

The parts: `teams`, `keys`, `tenants`, `tokens`, and `applying` for a whole file of teams and tenants.
"""

from collections.abc import Sequence

from gateway.broker.applying import Applied, Applying
from gateway.broker.keys import Keys
from gateway.broker.office import Noted
from gateway.broker.tokens import MAX_EXPIRY_S, IssuedToken, Tokens
from gateway.core.audit import AuditRow, Verified
from gateway.core.tenancy import NewTenant

__all__ = ["MAX_EXPIRY_S", "Administration", "Applied", "IssuedToken", "NewTenant", "Noted"]


class Administration(Applying, Keys, Tokens):
    """See `Office` for what it is made with."""

    def audited(self, *, before: int | None = None, limit: int) -> Sequence[AuditRow]:
        """Rows of the audit log, the newest first; `before` is the number of the last one of an earlier page."""
        return self._store.audited(before=before, limit=limit)

    def verify_audit(self) -> Verified:
        """Reads all of the audit log, and says where its chain is broken, if it is."""
        return self._store.verify_chain(self._vault)
