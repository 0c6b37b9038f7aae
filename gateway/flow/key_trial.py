"""A read with a key: does OfferGrid accept it, and is it of the account that the ledger knows. Nothing is written here.

For administration, whoever asks for it: `Administration.key_was_tried` and `activate_key` take the verdict.
"""

import asyncio
from collections.abc import Set as AbstractSet
from typing import Final

from gateway.broker.directory import LentKey
from gateway.clock import Clock
from gateway.core.account import Verdict, verdict_of
from gateway.core.evidence import Answered, NotSent
from gateway.core.listing import Page, joined, read_page
from gateway.errors import UpstreamSilent
from gateway.flow.counted import Lists

MAX_PAGES: Final = 50
"""Half of what a key may carry in a minute: an operator waits, and orders go on."""


async def try_key(
    upstream: Lists, key: LentKey, placed: AbstractSet[str], clock: Clock, *, timeout_s: float
) -> Verdict:
    """`placed`: upstream ids of the team's placed orders; one of them is looked for, page by page.

    `timeout_s` bounds each page. UpstreamSilent where OfferGrid does not say.
    """
    pages: list[Page] = []
    spent_bytes = 0
    while True:
        deadline = clock.monotonic() + timeout_s
        following = pages[-1].next if pages else None
        evidence = await upstream.list_orders(
            key=key.secret, deadline=deadline, page=following, spent_bytes=spent_bytes
        )
        if isinstance(evidence, NotSent) and evidence.reason == "no_budget":
            raise UpstreamSilent(f"the key's reserve is used up: {evidence.detail}")
        if not isinstance(evidence, Answered):
            raise UpstreamSilent(f"OfferGrid cannot be asked: {evidence.reason}; {_unknown(key)}")
        if evidence.status == 401:
            return "refused"
        page = await asyncio.to_thread(read_page, evidence.body, evidence.link) if evidence.status == 200 else None
        if page is None:
            raise UpstreamSilent(f"OfferGrid answers {evidence.status} and no listing; {_unknown(key)}")
        pages.append(page)
        spent_bytes += len(evidence.body)
        verdict = verdict_of(joined(pages), placed)
        if verdict != "another_account" or page.next is None or len(pages) == MAX_PAGES:
            return verdict


def _unknown(key: LentKey) -> str:
    return f"whether it accepts {key.key_id} is not known"
