"""What `ordergate doctor` asks of OfferGrid: is it there, does it take each team's key, what time is it there."""

import http.client
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

from gateway.broker.directory import KeyUnreadable, LentKey
from gateway.cli.checks import FAILED, UNREACHABLE, Check
from gateway.clock import Clock
from gateway.core.evidence import Answered, Evidence
from gateway.core.listing import read_listing
from gateway.flow.counted import CountedLists
from gateway.ledger.sqlite_reads import SqliteReads
from gateway.settings import Settings, Upstream
from gateway.upstream.dialing import tls_context
from gateway.wiring.upstream import open_upstream

_CLOCK_TOLERANCE_S: Final = 60


def check_reachable(settings: Settings, clock: Clock) -> list[Check]:
    """Connects and asks without a key: whatever whole answer comes proves the way there. Then the clocks."""
    upstream = settings.upstream
    connection = _connection(upstream)
    try:
        connection.connect()
        connection.sock.settimeout(upstream.timeout_s)
        connection.request("GET", urlsplit(upstream.base_url).path or "/")
        date = connection.getresponse().getheader("date")
    except (OSError, http.client.HTTPException) as fault:
        why = getattr(fault, "strerror", None) or fault
        detail = f"{upstream.base_url} cannot be reached: {why}; see upstream.base_url and the network"
        return [Check(check="upstream", detail=detail, status=UNREACHABLE)]
    finally:
        connection.close()
    reached = Check(check="upstream", detail=f"{upstream.base_url} answers")
    return [reached] if date is None else [reached, _compare(date, clock)]


async def check_keys(
    settings: Settings, clock: Clock, keys: Mapping[str, LentKey | KeyUnreadable | None], ledger_id: str
) -> list[Check]:
    """A harmless read with each team's active key: does OfferGrid take it, and is the account this ledger's alone.

    `keys` by team.
    """
    found: list[Check] = []
    path = settings.storage.sqlite_path
    if path is None:
        return found
    async with open_upstream(settings, clock) as offergrid:
        for team, key in keys.items():
            if isinstance(key, LentKey):
                deadline = clock.monotonic() + settings.upstream.timeout_s
                upstream = CountedLists(offergrid, SqliteReads(path, clock), key, clock, patience_s=0)
                evidence = await upstream.list_orders(key=key.secret, deadline=deadline)
                found += [_judge(team, key, evidence), *_shared(team, evidence, ledger_id)]
            else:
                found.append(_keyless(team, key))
    return found


def _connection(upstream: Upstream) -> http.client.HTTPConnection:
    url = urlsplit(upstream.base_url)
    host = url.hostname or ""
    if url.scheme == "https":
        return http.client.HTTPSConnection(
            host, url.port, timeout=upstream.connect_timeout_s, context=tls_context()
        )
    return http.client.HTTPConnection(host, url.port, timeout=upstream.connect_timeout_s)


def _compare(date: str, clock: Clock) -> Check:
    """This machine's clock against OfferGrid's: times in records and the expiry of tokens depend on it."""
    try:
        ahead_s = round(clock.wall_ms() / 1000 - parsedate_to_datetime(date).timestamp())
    except ValueError:
        return Check(check="clock", detail="OfferGrid's Date cannot be read, so nothing is known")
    if abs(ahead_s) <= _CLOCK_TOLERANCE_S:
        return Check(check="clock", detail="agrees with OfferGrid's")
    where = "ahead of" if ahead_s > 0 else "behind"
    detail = f"is {abs(ahead_s)} s {where} OfferGrid's: set this machine's clock by NTP"
    return Check(check="clock", detail=detail, status=FAILED)


def _judge(team: str, key: LentKey, evidence: Evidence) -> Check:
    name = f"key of {team}"
    if not isinstance(evidence, Answered):
        detail = f"{key.key_id} could not be checked: {evidence.reason} {evidence.detail}".rstrip()
        return Check(check=name, detail=detail, status=UNREACHABLE)
    match evidence.status:
        case 200:
            return Check(check=name, detail=f"OfferGrid accepts {key.key_id}")
        case 401:
            detail = f"OfferGrid does not accept {key.key_id}: it was revoked there, or mistyped here"
        case 403:
            detail = f"{key.key_id} may not place orders: it needs the role reseller or hybrid at OfferGrid"
        case 429:
            detail = f"{key.key_id} is over its limit at OfferGrid: check again in a minute"
        case status:
            detail = f"OfferGrid answers {status} to {key.key_id}: check again later"
            return Check(check=name, detail=detail, status=UNREACHABLE)
    return Check(check=name, detail=detail, status=FAILED)


def _shared(team: str, evidence: Evidence, ledger_id: str) -> list[Check]:
    """A complaint where another ledger places orders in the account too: neither can then tell what is missing."""
    listing = (
        read_listing(evidence.body, evidence.link)
        if isinstance(evidence, Answered) and evidence.status == 200
        else None
    )
    entries = listing.orders if listing else ()
    foreign = [order for order in entries if order.gateway_ledger not in (None, ledger_id)]
    if not foreign:
        return []
    detail = (
        f"OfferGrid lists {len(foreign)} orders that another ledger placed, {foreign[0].upstream_order_id} say: "
        "one account belongs to one ledger"
    )
    return [Check(check=f"account of {team}", detail=detail, status=FAILED)]


def _keyless(team: str, key: KeyUnreadable | None) -> Check:
    if key is None:
        detail = f"has no active key: ordergate key add {team}"
        return Check(check=f"key of {team}", detail=detail, status=FAILED)
    detail = f"the record of {key.key_id} cannot be opened, so it was changed or the ledger is damaged"
    return Check(check=f"key of {team}", detail=detail, status=UNREACHABLE)
