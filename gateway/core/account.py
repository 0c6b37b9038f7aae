"""Whether a key is of the OfferGrid account that the ledger knows, by what its listing shows."""

from collections.abc import Set as AbstractSet
from typing import Literal

from gateway.core.listing import Listing

Verdict = Literal["same_account", "untold", "another_account", "refused"]
"""What a read with a key has shown. `refused`: OfferGrid does not accept it. Else it does, and the listing shows an
order that the ledger knows as placed for the team; or there was none to look for; or it shows none of them.
"""


def accepted(verdict: Verdict) -> bool:
    """Whether orders may be sent with the key, as far as the read has shown."""
    return verdict in ("same_account", "untold")


def verdict_of(listing: Listing, placed: AbstractSet[str]) -> Verdict:
    """`placed`: upstream ids of the team's placed orders. One of them is enough: a new order may not be listed yet."""
    if not placed:
        return "untold"
    shown = any(order.upstream_order_id in placed for order in listing.orders)
    return "same_account" if shown else "another_account"
