"""The promise, checked from three records that know nothing of each other.

What tenants were told (`Told`), what OfferGrid received and took (`Taken`, `Post`), and what the ledger says (`Row`,
and with its history `Change`). Every function here is pure, takes such records from wherever they come (a real run, a
simulation), and returns what is broken, each in a sentence: an empty list means that the promise held.
`tests/support/records.py` reads the records of a real run.

A *mark* names what a tenant wants once: every request for it carries the same body and key, and two marks are two
orders. Tests put it into the order's `notes`.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

T = TypeVar("T")

SETTLED: Final = frozenset({"placed", "rejected", "not_placed"})
UNSETTLED: Final = frozenset({"queued", "in_flight", "unknown"})
MAY_BE_THERE: Final = frozenset({"placed", "unknown", "in_flight"})
NOT_ACTED_ON: Final = frozenset({401, 403, 429})
FORGOTTEN: Final = "forgotten"

# Written out here once more, so that a wrong row in the program's own table is seen.
CHANGES: Final[Mapping[str | None, frozenset[str]]] = {
    None: frozenset({"queued", "in_flight"}),
    "queued": frozenset({"in_flight", "not_placed"}),
    "in_flight": frozenset({"in_flight", "placed", "rejected", "not_placed", "unknown"}),
    "unknown": frozenset({"placed", "not_placed"}),
    "not_placed": frozenset({"queued", "in_flight", "placed", FORGOTTEN}),
    "placed": frozenset({FORGOTTEN}),
    "rejected": frozenset({FORGOTTEN}),
}


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One whole answer that a tenant got. Header names are in lower case.

    `asked_at` and `told_at`: when it began to ask and when it had the answer, on one monotonic clock, in seconds.
    """

    tenant: str
    key: str | None
    mark: str
    status: int
    order_id: str | None
    outcome: str | None
    body: bytes
    headers: Mapping[str, str]
    asked_at: float | None = None
    told_at: float | None = None

    @property
    def replayed(self) -> bool:
        return self.headers.get("idempotent-replayed") == "true"

    @property
    def final(self) -> bool:
        """Nothing else may be told of this order from now on."""
        return self.outcome in ("placed", "rejected")


def told(
    *,
    tenant: str,
    key: str | None,
    mark: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    asked_at: float | None = None,
    told_at: float | None = None,
) -> Told:
    """What an answer to `POST /orders` says, by its own words: its problem document, or 201 for placed."""
    lower = {name.lower(): value for name, value in headers.items()}
    said = _json(body) if "problem+json" in lower.get("content-type", "") else None
    outcome = said.get("outcome") if isinstance(said, dict) else None
    return Told(
        tenant=tenant,
        key=key,
        mark=mark,
        status=status,
        order_id=lower.get("ordergate-order-id"),
        outcome="placed" if status == 201 else outcome,
        body=body,
        headers=lower,
        asked_at=asked_at,
        told_at=told_at,
    )


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """One order that OfferGrid holds. `order_id` is the gateway's own id in its metadata."""

    upstream_order_id: str
    order_id: str | None
    tenant: str | None
    mark: str | None
    upstream_key: str = ""
    placed_ms: int | None = None


class Post(msgspec.Struct, frozen=True, kw_only=True):
    """One `POST` of which at least a byte reached OfferGrid's socket. `order_id` None: its body did not come so far.

    `first_byte_ms`: when its first byte arrived, wall milliseconds. `whole`: all of it came.
    """

    order_id: str | None
    first_byte_ms: int
    whole: bool
    upstream_key: str | None = None


class AttemptRow(msgspec.Struct, frozen=True, kw_only=True):
    started_ms: int
    ended_ms: int | None
    evidence: str | None
    status: int | None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One order as the ledger says. `content`: whether `response` and `answer` were read (they rest sealed)."""

    order_id: str
    tenant: str
    outcome: str
    http_status: int | None
    upstream_order_id: str | None
    attempts: tuple[AttemptRow, ...]
    team_id: int = 1
    version: int | None = None
    idempotency_key: str | None = None
    content: bool = False
    response: bytes | None = None
    answer: bytes | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One write of an order's row, oldest first. `outcome` is `forgotten` where the row was deleted."""

    order_id: str
    version: int
    outcome: str


class Records(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one run. `changes` None: no history was kept.

    `late`: gateway order ids that OfferGrid placed later than it may (the one assumption that a test may break): they
    may be denied, be there twice, and arrive without an attempt. `resolved`: those that an operator settled by hand.
    `audit`: what is wrong with the audit log, each in a sentence.
    """

    told: Sequence[Told]
    taken: Sequence[Taken]
    rows: Sequence[Row]
    posts: Sequence[Post] = ()
    changes: Sequence[Change] | None = None
    late: frozenset[str] = frozenset()
    resolved: frozenset[str] = frozenset()
    audit: Sequence[str] = ()


def broken(records: Records) -> list[str]:
    """Every invariant that needs no more than the records; what is broken, each in a sentence."""
    return [
        *one_order_an_id(records),
        *one_order_a_mark(records),
        *one_order_a_key(records),
        *every_201_is_true(records),
        *nothing_taken_is_denied(records),
        *every_post_was_written_down(records),
        *sent_again_only_what_cost_nothing(records),
        *only_known_changes(records),
        *answers_agree(records),
        *answers_agree_with_the_ledger(records),
        *tenants_see_their_own(records),
        *records.audit,
    ]


def one_order_an_id(records: Records) -> Iterator[str]:
    """OfferGrid holds at most one order for each of the gateway's ids, and none without one."""
    for order_id, found in _grouped(records.taken, lambda order: order.order_id).items():
        ids = [order.upstream_order_id for order in found]
        if order_id is None:
            yield f"OfferGrid holds orders without the gateway's id: {ids}"
        elif len(found) > 1 and order_id not in records.late:
            yield f"OfferGrid holds order {order_id} {len(found)} times: {ids}"


def one_order_a_mark(records: Records) -> Iterator[str]:
    """OfferGrid holds at most one order for each thing that a tenant wanted once."""
    for (tenant, mark), found in _grouped(records.taken, lambda order: (order.tenant, order.mark)).items():
        if mark is not None and len([order for order in found if order.order_id not in records.late]) > 1:
            ids = [(order.order_id, order.upstream_order_id) for order in found]
            yield f"what tenant {tenant} wanted once (mark {mark!r}) OfferGrid holds {len(found)} times: {ids}"


def one_order_a_key(records: Records) -> Iterator[str]:
    """A tenant's key, and without one its body, always names the same order."""
    by_key = _grouped((row for row in records.rows if row.idempotency_key), lambda r: (r.tenant, r.idempotency_key))
    for (tenant, key), rows in by_key.items():
        if len(rows) > 1:
            yield f"the ledger has {len(rows)} orders under tenant {tenant}'s key {key!r}"
    for (tenant, key, mark), answers in _asked(records).items():
        ids = {answer.order_id for answer in answers if answer.order_id}
        if len(ids) > 1:
            yield f"tenant {tenant} was told {len(ids)} order ids under key {key!r}, mark {mark!r}: {sorted(ids)}"


def every_201_is_true(records: Records) -> Iterator[str]:
    """A 201 stands for exactly one order that OfferGrid holds, under the same names on all three sides."""
    held = {order.upstream_order_id: order for order in records.taken}
    rows = {row.order_id: row for row in records.rows}
    for answer in records.told:
        if answer.status != 201:
            continue
        said = _json(answer.body)
        upstream_id = said.get("orderId") if isinstance(said, dict) else None
        order, row = held.get(str(upstream_id)), rows.get(answer.order_id or "")
        if order is None:
            yield f"mark {answer.mark!r} was told 201 with {upstream_id}, which OfferGrid does not hold"
        elif (order.order_id, order.mark) != (answer.order_id, answer.mark):
            yield (
                f"mark {answer.mark!r} was told 201 as {answer.order_id} with {upstream_id}, which is another order: "
                f"{order.order_id}, mark {order.mark!r}"
            )
        if row is None:
            yield f"mark {answer.mark!r} was told 201 as {answer.order_id}, which the ledger does not have"
        elif (row.outcome, row.upstream_order_id) != ("placed", upstream_id):
            yield (
                f"order {row.order_id} was told 201 with {upstream_id}; the ledger says {row.outcome} with "
                f"{row.upstream_order_id}"
            )
    for row in records.rows:
        if row.outcome == "placed" and row.order_id not in records.resolved and row.upstream_order_id not in held:
            yield f"order {row.order_id} is placed as {row.upstream_order_id}, which OfferGrid does not hold"
    named = (row for row in records.rows if row.upstream_order_id is not None)
    for (_, upstream_id), found in _grouped(named, lambda row: (row.team_id, row.upstream_order_id)).items():
        if len(found) > 1:
            yield f"{upstream_id} stands in {len(found)} orders of the ledger: {[row.order_id for row in found]}"


def nothing_taken_is_denied(records: Records) -> Iterator[str]:
    """What OfferGrid holds the ledger has, and never says that it was refused or is not there."""
    rows = {row.order_id: row for row in records.rows}
    for order in records.taken:
        row = rows.get(order.order_id or "")
        if row is None:
            yield f"OfferGrid holds {order.upstream_order_id} for order {order.order_id}, and the ledger has none"
        elif row.outcome not in MAY_BE_THERE and order.order_id not in records.late:
            yield f"OfferGrid holds order {row.order_id} as {order.upstream_order_id}; the ledger says {row.outcome}"


def nothing_unsettled(rows: Iterable[Row]) -> list[str]:
    """After every fault has healed and time enough has gone by: no order is left that nobody is sure of."""
    return [f"order {row.order_id} is still {row.outcome}" for row in rows if row.outcome in UNSETTLED]


def every_post_was_written_down(records: Records) -> Iterator[str]:
    """Before a byte went out its attempt was in the ledger; and `not_sent` is said only where no byte went out."""
    rows = {row.order_id: row for row in records.rows}
    may_have_sent = sum(attempt.evidence != "not_sent" for row in records.rows for attempt in row.attempts)
    arrived = [post for post in records.posts if post.order_id not in records.late]
    if len(arrived) > may_have_sent:
        yield f"{len(arrived)} orders began to arrive at OfferGrid; {may_have_sent} attempts may have sent"
    for order_id, posts in _grouped(arrived, lambda post: post.order_id).items():
        if order_id is None:
            continue
        if order_id not in rows:
            yield f"order {order_id} arrived at OfferGrid and is not in the ledger"
            continue
        attempts = [attempt for attempt in rows[order_id].attempts if attempt.evidence != "not_sent"]
        for number, post in enumerate(sorted(posts, key=lambda post: post.first_byte_ms), 1):
            if sum(attempt.started_ms <= post.first_byte_ms for attempt in attempts) < number:
                yield (
                    f"order {order_id} arrived at OfferGrid for the {number}. time at {post.first_byte_ms}; attempts "
                    f"that began by then and may have sent: {[attempt.started_ms for attempt in attempts]}"
                )


def sent_again_only_what_cost_nothing(records: Records) -> Iterator[str]:
    """Another attempt follows only `not_sent`, an answer that says "not acted on", or a recorded `not_placed`."""
    for row in records.rows:
        before_each = _outcomes_before_attempts(records, row.order_id)
        for number, attempt in enumerate(row.attempts[:-1], 1):
            harmless = attempt.evidence == "not_sent" or (
                attempt.evidence == "answered" and attempt.status in NOT_ACTED_ON
            )
            before = before_each[number] if before_each is not None and number < len(before_each) else "not_placed"
            if not harmless and before != "not_placed":
                yield (
                    f"order {row.order_id}: attempt {number + 1} followed one with evidence {attempt.evidence}, "
                    f"status {attempt.status}, while the order was {before}"
                )


def only_known_changes(records: Records) -> Iterator[str]:
    """Outcomes follow each other as the order's life allows, each version once, and the row is where they end."""
    last: dict[str, Change] = {}
    for change in records.changes or ():
        before = last.get(change.order_id)
        outcome = before.outcome if before else None
        gone = outcome == FORGOTTEN
        if gone or (
            change.outcome not in CHANGES[outcome] and not (before and change.order_id in records.resolved)
        ):
            yield f"order {change.order_id} went from {outcome} to {change.outcome} (version {change.version})"
        if before and change.outcome != FORGOTTEN and change.version != before.version + 1:
            yield f"order {change.order_id} went from version {before.version} to {change.version}"
        last[change.order_id] = change
    if records.changes is None:
        return
    for row in records.rows:
        if row.order_id in last and last[row.order_id].outcome != row.outcome:
            yield f"order {row.order_id} is {row.outcome}, and was written last as {last[row.order_id].outcome}"


def answers_agree(records: Records) -> Iterator[str]:
    """A final answer is told for good: the same status and bytes each time, and nothing else after it."""
    for (tenant, key, mark), answers in _asked(records).items():
        about = f"tenant {tenant}'s mark {mark!r} (key {key!r})"
        final = [answer for answer in answers if answer.final]
        said = {(answer.status, hashlib.sha256(answer.body).hexdigest()[:12]) for answer in final}
        if len(said) > 1:
            yield f"{about} was told different final answers: {sorted(said)}"
        since = min((answer.told_at for answer in final if answer.told_at is not None), default=None)
        for answer in answers:
            unsaid = not answer.final and answer.outcome is not None
            if since is not None and unsaid and answer.asked_at is not None and answer.asked_at > since:
                yield f"{about} was told {answer.status}, {answer.outcome} after its final answer"


def answers_agree_with_the_ledger(records: Records) -> Iterator[str]:
    """Each answer says what the ledger says, or said at some time; a final one what it says for ever, by the byte."""
    rows = {row.order_id: row for row in records.rows}
    past: defaultdict[str, set[str]] = defaultdict(set)
    for change in records.changes or ():
        past[change.order_id].add(change.outcome)
    for answer in records.told:
        if answer.order_id is None:
            continue
        row = rows.get(answer.order_id)
        if row is None:
            yield f"mark {answer.mark!r} was told {answer.outcome} of order {answer.order_id}: the ledger has none"
            continue
        told_of = f"order {row.order_id} was told {answer.status}, {answer.outcome}"
        if records.changes is not None and answer.outcome is not None:
            known = past[row.order_id]
            if "queued" in known:  # what waits for its turn is told as in flight
                known = known | {"in_flight"}
            if "in_flight" in known:  # an end that could not be written down in time is told as unknown
                known = known | {"unknown"}
            if answer.outcome not in known:
                yield f"{told_of}; the ledger never said so, only {sorted(known)}"
        if not answer.final or row.order_id in records.resolved:
            continue
        if (row.outcome, row.http_status) != (answer.outcome, answer.status):
            yield f"{told_of}; the ledger says {row.http_status}, {row.outcome}"
        elif row.content and answer.body != (row.response if answer.outcome == "placed" else row.answer):
            yield f"{told_of}; the ledger has other bytes for it"


def tenants_see_their_own(records: Records) -> Iterator[str]:
    """A tenant is told of its own orders only, and OfferGrid's copy names the tenant that asked."""
    tenant_of = {row.order_id: row.tenant for row in records.rows}
    for answer in records.told:
        owner = tenant_of.get(answer.order_id or "", answer.tenant)
        if owner != answer.tenant:
            yield f"tenant {answer.tenant} was told of order {answer.order_id}, which is {owner}'s"
    for order in records.taken:
        if order.order_id in tenant_of and order.tenant != tenant_of[order.order_id]:
            yield f"order {order.order_id} of {tenant_of[order.order_id]} stands at OfferGrid as {order.tenant}'s"


def keys_stay_with_their_team(records: Records, keys_of: Mapping[str, Iterable[str]]) -> list[str]:
    """An upstream key carries its own team's orders only. `keys_of`: each tenant's team's upstream keys."""
    return [
        f"order {order.order_id} of tenant {order.tenant} went out with a key of another team"
        for order in records.taken
        if order.tenant is not None and order.upstream_key not in set(keys_of.get(order.tenant, ()))
    ]


def counters_conserve(
    *, answered: int, orders_total: float, unsettled: Mapping[str, float], rows: Iterable[Row]
) -> list[str]:
    """Of one process: as many orders counted as order requests answered; and the gauge of what is unsettled.

    `orders_total`: the sum over all labels. `unsettled`: the gauge by outcome.
    """
    found = []
    if orders_total != answered:
        found.append(f"{answered} order requests were answered, and {orders_total:g} are counted")
    counts = Counter(row.outcome for row in rows)
    return found + [
        f"{counts[outcome]} orders are {outcome}, and the gauge says {unsettled.get(outcome, 0):g}"
        for outcome in sorted(UNSETTLED)
        if counts[outcome] != unsettled.get(outcome, 0)
    ]


def canaries_found(texts: Mapping[str, bytes], canaries: Mapping[str, str]) -> list[str]:
    """Nothing of what is secret stands anywhere in the clear. `texts`: what was searched, by its name."""
    return [
        f"{name} holds {what} in the clear"
        for name, text in texts.items()
        for what, canary in canaries.items()
        if canary.encode() in text
    ]


def _asked(records: Records) -> dict[tuple[str, str | None, str], list[Told]]:
    return _grouped(records.told, lambda answer: (answer.tenant, answer.key, answer.mark))


def _outcomes_before_attempts(records: Records, order_id: str) -> list[str | None] | None:
    """What the order was before each of its attempts was opened; None where no history was kept of it.

    An attempt is opened by each write that makes, or leaves, the order `in_flight`. What waited for its turn in
    between counts as what it was before.
    """
    outcomes = [change.outcome for change in records.changes or () if change.order_id == order_id]
    if not outcomes:
        return None
    found: list[str | None] = []
    before: str | None = None
    for outcome in outcomes:
        if outcome == "in_flight":
            found.append(before)
        if outcome != "queued":
            before = outcome
    return found


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _grouped(things: Iterable[T], by: Any) -> dict[Any, list[T]]:
    found: dict[Any, list[T]] = {}
    for thing in things:
        found.setdefault(by(thing), []).append(thing)
    return found
