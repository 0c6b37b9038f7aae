"""Trying a key from the command line, beside whatever serves."""

import asyncio
from pathlib import Path

from gateway.broker.administration import Administration
from gateway.broker.directory import LentKey, Opens, open_key
from gateway.clock import SystemClock
from gateway.core.account import Verdict
from gateway.core.budget_terms import Limits
from gateway.core.directory import UpstreamKey
from gateway.errors import Refused
from gateway.flow.counted import CountedLists
from gateway.flow.key_trial import try_key
from gateway.ledger.sqlite_reads import SqliteReads
from gateway.settings import Settings
from gateway.wiring.actor import actor
from gateway.wiring.storage import limits_of, open_storage
from gateway.wiring.upstream import open_upstream


def verify_key(settings: Settings, team: str, key_id: str) -> tuple[UpstreamKey, Verdict]:
    """The key after a read with it, and what that has shown. Refused where it is not there or cannot be opened."""
    clock = SystemClock()
    with open_storage(settings, clock) as storage:
        admin = Administration(storage.directory, storage.vault, clock, who=actor())
        lent, placed = lend(admin, storage.vault, team, key_id, limits_of(settings)), admin.placed_of_team(team)
        verdict = asyncio.run(_try(settings, storage.path, lent, placed))
        return admin.key_was_tried(team, key_id, verdict), verdict


def activate_key(settings: Settings, team: str, key_id: str, *, new_account: bool) -> UpstreamKey:
    """The active key, after a read with it. Refused as in `Administration.activate_key`."""
    clock = SystemClock()
    with open_storage(settings, clock) as storage:
        admin = Administration(storage.directory, storage.vault, clock, who=actor())
        lent, placed = lend(admin, storage.vault, team, key_id, limits_of(settings)), admin.placed_of_team(team)
        verdict = asyncio.run(_try(settings, storage.path, lent, placed))
        return admin.activate_key(team, key_id, verdict, new_account=new_account)


def lend(admin: Administration, vault: Opens, team: str, key_id: str, limits: Limits) -> LentKey:
    """One of a team's keys, opened for a read. Refused where there is none, it is revoked, or its record cannot be
    opened.
    """
    key = admin.key(team, key_id)
    if key.state == "revoked":
        raise Refused(f"{key_id} is revoked: add it again to use it")
    opened = open_key(key, vault, limits)
    if isinstance(opened, LentKey):
        return opened
    raise Refused(f"the record of {key_id} cannot be opened")


async def _try(settings: Settings, path: Path, lent: LentKey, placed: frozenset[str]) -> Verdict:
    clock = SystemClock()
    async with open_upstream(settings, clock) as offergrid:
        upstream = CountedLists(offergrid, SqliteReads(path, clock), lent, clock)
        return await try_key(upstream, lent, placed, clock, timeout_s=settings.upstream.timeout_s)
