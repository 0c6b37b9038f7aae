-- What a tenant's keys and bodies are digested with: NULL is its name, which OfferGrid's listing tells to a ledger that
-- was restored and does not know the tenant. Tenants that are here already keep their id: their digests are written.

ALTER TABLE tenants ADD COLUMN scope TEXT;
UPDATE tenants SET scope = tenant_id;
