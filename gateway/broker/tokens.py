"""Administering tokens: what tenants show."""

from collections.abc import Sequence
from typing import Final

import msgspec

from gateway.broker.directory import TOKEN_PURPOSE
from gateway.broker.office import Office, named
from gateway.core.directory import TokenRecord
from gateway.core.tenancy import token_view
from gateway.core.tokens import ID_BYTES, SECRET_BYTES, Token, mint
from gateway.errors import BadUsage, NoSuch

MAX_EXPIRY_S: Final = 10 * 365 * 86_400


class IssuedToken(msgspec.Struct, frozen=True, kw_only=True):
    """The only moment at which a token's secret exists outside the tenant."""

    record: TokenRecord
    token: Token
    tenant: str


class Tokens(Office):
    def issue_token(self, tenant: str, *, expires_in_s: int | None = None) -> IssuedToken:
        if expires_in_s is not None and not 0 < expires_in_s <= MAX_EXPIRY_S:
            raise BadUsage("a token expires in more than nothing and in 10 years at most")
        token = mint(self._clock.random_bytes(ID_BYTES), self._clock.random_bytes(SECRET_BYTES))
        now_ms = self._clock.wall_ms()
        with self._store.change():
            record = TokenRecord(
                token_id=token.token_id,
                tenant_id=named(self._store.rows().tenants, "tenant", tenant).tenant_id,
                digest=self._vault.mac(TOKEN_PURPOSE, token.secret.encode("ascii")),
                created_ms=now_ms,
                expires_ms=None if expires_in_s is None else now_ms + 1000 * expires_in_s,
                revoked_ms=None,
            )
            self._store.insert_token(record)
            self._note("token issue", token.token_id, after=token_view(tenant, record))
        return IssuedToken(record=record, token=token, tenant=tenant)

    def tokens(self, tenant: str) -> Sequence[TokenRecord]:
        rows = self._store.rows()
        owner = named(rows.tenants, "tenant", tenant)
        return [token for token in rows.tokens if token.tenant_id == owner.tenant_id]

    def revoke_token(self, token_id: str) -> TokenRecord:
        """Revoking one that is revoked already changes nothing, and is no fault."""
        with self._store.change():
            before, tenant = self._token(token_id)
            if before.revoked_ms is not None:
                return before
            self._store.revoke_token(token_id, self._clock.wall_ms())
            after, _ = self._token(token_id)
            views = token_view(tenant, before), token_view(tenant, after)
            self._note("token revoke", token_id, before=views[0], after=views[1], tenant=tenant)
        return after

    def _token(self, token_id: str) -> tuple[TokenRecord, str]:
        """The token and its tenant's name."""
        rows = self._store.rows()
        names = {tenant.tenant_id: tenant.name for tenant in rows.tenants}
        for token in rows.tokens:
            if token.token_id == token_id:
                return token, names[token.tenant_id]
        raise NoSuch(f"there is no token {token_id}")
