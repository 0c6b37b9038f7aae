"""The audit log of a real ledger, held against what it tells of: its chain, and that each change has one row.

assert not audit_log_broken(path, vault_of(folder))
"""

from pathlib import Path
from typing import Any, Final

import apsw

from gateway.core.audit import Marks
from gateway.ledger.sqlite_audit import verify_chain

# Tells from the log how many there should be, and from the tables how many there are. A removed team takes its keys,
# all of them revoked, with it, and a removed tenant its tokens; a rejoin makes tenants. Of the orders that were settled
# by hand those that were tried again do not say so any more.
_COUNTS: Final = """
WITH rows (action, number) AS (SELECT action, count(*) FROM audit GROUP BY action),
     gone (keys) AS (SELECT coalesce(sum(json_array_length(change, '$.from.keys')), 0) FROM audit
                     WHERE action = 'team remove'),
     taken (tokens) AS (SELECT coalesce(sum(json_array_length(change, '$.from.tokens')), 0) FROM audit
                        WHERE action = 'tenant remove'),
     made (tenants) AS (SELECT coalesce(sum(json_array_length(change, '$.tenantsMade')), 0) FROM audit
                        WHERE action = 'db rejoin'),
     of (team_add, team_remove, key_add, key_revoke, tenant_add, tenant_remove, token_issue, order_resolve) AS (
       SELECT coalesce(sum(number) FILTER (WHERE action = 'team add'), 0),
              coalesce(sum(number) FILTER (WHERE action = 'team remove'), 0),
              coalesce(sum(number) FILTER (WHERE action = 'key add'), 0),
              coalesce(sum(number) FILTER (WHERE action = 'key revoke'), 0),
              coalesce(sum(number) FILTER (WHERE action = 'tenant add'), 0),
              coalesce(sum(number) FILTER (WHERE action = 'tenant remove'), 0),
              coalesce(sum(number) FILTER (WHERE action = 'token issue'), 0),
              coalesce(sum(number) FILTER (WHERE action = 'order resolve'), 0)
       FROM rows),
     resolved (orders) AS (SELECT count(*) FROM orders WHERE cause = 'resolved')
SELECT 'teams', team_add - team_remove, (SELECT count(*) FROM teams) FROM of
UNION ALL SELECT 'keys', key_add - keys, (SELECT count(*) FROM upstream_keys) FROM of, gone
UNION ALL SELECT 'revoked keys', key_revoke - keys, (SELECT count(*) FROM upstream_keys WHERE state = 'revoked')
          FROM of, gone
UNION ALL SELECT 'tenants', tenant_add + tenants - tenant_remove, (SELECT count(*) FROM tenants) FROM of, made
UNION ALL SELECT 'removed tenants', tenant_remove, (SELECT count(*) FROM removed_tenants) FROM of
UNION ALL SELECT 'tokens', token_issue - tokens, (SELECT count(*) FROM tokens) FROM of, taken
UNION ALL SELECT 'orders settled by hand', min(order_resolve, orders), orders FROM of, resolved
"""


def audit_log_broken(ledger: Path, marks: Marks) -> list[str]:
    """What is wrong with it, each in a sentence. Of changes that were made by the program alone."""
    connection = apsw.Connection(str(ledger), flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(10_000)
    try:
        connection.execute("BEGIN")  # all as of one moment
        broken = verify_chain(connection, marks).broken
        counts: list[Any] = connection.execute(_COUNTS).fetchall()
    finally:
        connection.close()
    wrong = [] if broken is None else [f"row {broken.number} of the audit log {broken.what}"]
    return wrong + [
        f"the audit log tells of {told} {what}, not of {there}" for what, told, there in counts if told != there
    ]
