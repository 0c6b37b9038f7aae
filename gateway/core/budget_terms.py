"""What a key may carry in each window, and how it is divided: a reserve for reads, and parts for the tenants."""

import math
from collections.abc import Mapping
from typing import Literal

import msgspec

WindowName = Literal["minute", "hour"]


class Division(msgspec.Struct, frozen=True, kw_only=True):
    """One window's limit, divided. `parts` (tenant's id to calls) are of the share, and together never more than it."""

    window: WindowName
    limit: int
    reserve: int
    share: int
    parts: Mapping[int, int]
    guaranteed: int


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What one key may carry: a division for each window that has a limit."""

    key_id: str
    divisions: tuple[Division, ...]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What is agreed for every key that has no limits of its own. 0: no limit. The fraction is from 0 to 1."""

    per_minute: int
    per_hour: int
    reserved_per_minute: int
    guaranteed_fraction: float


def terms_of(
    key_id: str, limits: Limits, parts: Mapping[int, int | None], *, per_minute: int | None, per_hour: int | None
) -> Terms:
    """`parts`: each tenant of the team that may order, to its guaranteed calls a minute; None: an even part.
    `per_minute` and `per_hour`: the key's own limits; None: as agreed for all.

    The reserve leaves orders one call at least. The hour's is the minute's sixtyfold, but no greater fraction of its
    limit than the minute's is; so are the parts.
    """
    per_minute = limits.per_minute if per_minute is None else per_minute
    per_hour = limits.per_hour if per_hour is None else per_hour
    reserved, fraction = limits.reserved_per_minute, limits.guaranteed_fraction
    found: list[Division] = []
    scale = 60.0
    if per_minute:
        reserve = min(reserved, per_minute - 1)
        scale = per_hour / per_minute
        found.append(_division("minute", per_minute, reserve, fraction, parts))
    if per_hour:
        reserve = min(reserved * 60, int(reserved * scale), per_hour - 1)
        scaled = {tenant: None if part is None else int(part * scale) for tenant, part in parts.items()}
        found.append(_division("hour", per_hour, reserve, fraction, scaled))
    return Terms(key_id=key_id, divisions=tuple(found))


def _division(
    window: WindowName, limit: int, reserve: int, fraction: float, wanted: Mapping[int, int | None]
) -> Division:
    share = limit - reserve
    parts = _parts(wanted, share, fraction)
    return Division(
        window=window, limit=limit, reserve=reserve, share=share, parts=parts, guaranteed=sum(parts.values())
    )


def _parts(wanted: Mapping[int, int | None], share: int, fraction: float) -> dict[int, int]:
    """Parts that are named are cut down together where they are more than the share; what they leave of the guaranteed
    fraction is split among the others, to within one call.
    """
    named = {tenant: part for tenant, part in wanted.items() if part is not None}
    total = sum(named.values())
    if total > share:
        named = {tenant: part * share // total for tenant, part in named.items()}
    others = sorted(tenant for tenant, part in wanted.items() if part is None)
    left = max(0, math.floor(share * fraction) - sum(named.values()))
    each, more = divmod(left, len(others)) if others else (0, 0)
    return named | {tenant: each + (place < more) for place, tenant in enumerate(others)}
