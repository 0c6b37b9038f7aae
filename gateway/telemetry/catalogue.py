"""Every metric, as data: name, type, labels, buckets, and the question that it answers.

Labels are bounded: `tenant` and `team` are registered names (past `MAX_NAMES` of them `_other`), `route` is one of
the routes that exist, `method` one that HTTP knows. Never an id, a path or a message.
"""

from typing import Final, Literal

import msgspec

MAX_NAMES: Final = 200
OTHER: Final = "_other"

ORDER_OUTCOMES: Final = (
    "placed", "rejected", "not_placed", "unknown", "replayed", "replayed_by_body", "in_flight", "invalid",
)  # fmt: skip
ATTEMPT_RESULTS: Final = ("2xx", "4xx", "429", "5xx", "timeout", "connect_error", "broken")
ERROR_REASONS: Final = ("timeout", "broken", "connect_error", "5xx")
RESEND_REASONS: Final = ("not_sent", "throttled")
BUDGET_REASONS: Final = ("minute", "hour", "part", "paused")
AUTH_REASONS: Final = ("missing", "malformed", "unknown", "wrong_secret", "revoked", "expired")
RECONCILE_RESULTS: Final = ("found", "absent", "nothing", "incomplete", "failed", "unreadable", "no_key")
RELOAD_RESULTS: Final = ("success", "failure")
OPERATIONS: Final = ("place", "list", "show", "cancel")

# Three a decade, from less than the gateway's own part to the longest that an order can take.
LATENCY_BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15)
OVERHEAD_BUCKETS_S: Final = (0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.5, 2)


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One family. `question` is what a person on call wants to know when they look at it."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    question: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


HTTP_REQUESTS: Final = Metric(
    name="ordergate_http_requests_total",
    kind="counter",
    labels=("listener", "method", "route", "status"),
    help="Requests answered, by listener, method, route and status.",
    question="What is being asked, and how is it answered?",
)
HTTP_DURATION: Final = Metric(
    name="ordergate_http_request_duration_seconds",
    kind="histogram",
    labels=("listener", "route"),
    buckets=LATENCY_BUCKETS_S,
    help="From a request's header to its answer's last byte.",
    question="How long do callers wait?",
)
HTTP_IN_FLIGHT: Final = Metric(
    name="ordergate_http_requests_in_flight",
    kind="gauge",
    labels=("listener",),
    help="Requests being worked on now.",
    question="Is work piling up?",
)
ORDERS: Final = Metric(
    name="ordergate_orders_total",
    kind="counter",
    labels=("team", "tenant", "outcome"),
    help="Order requests of known tenants, each answered one once, by outcome.",
    question="Whose orders go through, and whose do not?",
)
ORDER_DURATION: Final = Metric(
    name="ordergate_order_duration_seconds",
    kind="histogram",
    labels=("tenant",),
    buckets=LATENCY_BUCKETS_S,
    help="From an order request's header to its answer.",
    question="How long does a tenant wait for an order?",
)
OVERHEAD: Final = Metric(
    name="ordergate_overhead_seconds",
    kind="histogram",
    buckets=OVERHEAD_BUCKETS_S,
    help="An order's time less OfferGrid's and less the wait for a place.",
    question="Is it the gateway that is slow, or OfferGrid?",
)
ATTEMPT_DURATION: Final = Metric(
    name="ordergate_upstream_attempt_duration_seconds",
    kind="histogram",
    labels=("operation", "result"),
    buckets=LATENCY_BUCKETS_S,
    help="Calls to OfferGrid, by operation and result.",
    question="How is OfferGrid doing?",
)
UPSTREAM_ERRORS: Final = Metric(
    name="ordergate_upstream_errors_total",
    kind="counter",
    labels=("team", "reason"),
    help="Calls to OfferGrid that ended in timeout, broken, connect_error or 5xx.",
    question="What goes wrong between here and OfferGrid?",
)
UPSTREAM_IN_FLIGHT: Final = Metric(
    name="ordergate_upstream_in_flight",
    kind="gauge",
    help="Calls to OfferGrid that wait for their answer now.",
    question="Is OfferGrid hanging?",
)
UPSTREAM_RESENDS: Final = Metric(
    name="ordergate_upstream_resends_total",
    kind="counter",
    labels=("reason",),
    help="Orders sent again because nothing was sent, or because OfferGrid asked for it.",
    question="How often does the gateway have to try again?",
)
BREAKER_STATE: Final = Metric(
    name="ordergate_breaker_state",
    kind="gauge",
    help="Whether orders are sent: 0 closed (they are), 1 half open, 2 open (OfferGrid is left alone).",
    question="Is OfferGrid being left alone?",
)
ADMISSION_WAIT: Final = Metric(
    name="ordergate_admission_wait_seconds",
    kind="histogram",
    buckets=OVERHEAD_BUCKETS_S,
    help="How long orders waited for budget, or for a place among those in flight.",
    question="Is the budget too small, or max_in_flight, or OfferGrid too slow?",
)
BUDGET_LIMIT: Final = Metric(
    name="ordergate_budget_limit",
    kind="gauge",
    labels=("team", "window"),
    help="Calls that a team's key may carry in a window (minute or hour).",
    question="How much may a team order?",
)
BUDGET_REMAINING: Final = Metric(
    name="ordergate_budget_remaining",
    kind="gauge",
    labels=("team", "window"),
    help="Calls that are left of a team's key in a window, the reserve included.",
    question="Is a team's budget near its end?",
)
BUDGET_REJECTIONS: Final = Metric(
    name="ordergate_budget_rejections_total",
    kind="counter",
    labels=("team", "tenant", "reason"),
    help="Orders not sent for want of budget: the key's minute or hour, the tenant's part of it, or OfferGrid's pause.",
    question="Who is being held back, and by what?",
)
LEDGER_COMMIT: Final = Metric(
    name="ordergate_ledger_commit_duration_seconds",
    kind="histogram",
    buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2),
    help="Group commits of the ledger, fsync included.",
    question="Is the disk slow?",
)
LEDGER_ERRORS: Final = Metric(
    name="ordergate_ledger_errors_total",
    kind="counter",
    help="Group commits of the ledger that failed.",
    question="Is the ledger failing?",
)
UNSETTLED: Final = Metric(
    name="ordergate_orders_unsettled",
    kind="gauge",
    labels=("outcome",),
    help="Orders in the ledger that are in_flight, unknown or queued.",
    question="How many orders is nobody sure of?",
)
OLDEST_UNKNOWN: Final = Metric(
    name="ordergate_oldest_unknown_timestamp_seconds",
    kind="gauge",
    help="When the oldest unknown order was received, in seconds since 1970; 0 where there is none.",
    question="How long has nobody been sure of an order?",
)
RECONCILIATIONS: Final = Metric(
    name="ordergate_reconciliations_total",
    kind="counter",
    labels=("result",),
    help="Looks at a team's listing, by what came of them.",
    question="Are unknown orders being cleared up?",
)
DUPLICATES: Final = Metric(
    name="ordergate_duplicates_total",
    kind="counter",
    help="Orders at OfferGrid that are a second one of the same order, each counted once.",
    question="Was an order placed twice?",
)
LATE_PLACEMENTS: Final = Metric(
    name="ordergate_late_placements_total",
    kind="counter",
    help="Orders that OfferGrid turned out to have though they were settled otherwise, each counted once.",
    question="Does OfferGrid act later than reconcile.settle_after_s, or on what it refused?",
)
FOREIGN_ORDERS: Final = Metric(
    name="ordergate_foreign_orders_total",
    kind="counter",
    help="Orders in a team's listing that another ledger's gateway placed, each counted once a process.",
    question="Does another gateway place orders on this account?",
)
FALSE_TIMEOUTS: Final = Metric(
    name="ordergate_false_timeouts_total",
    kind="counter",
    help="Orders told as 504 that OfferGrid turned out to have.",
    question="Is upstream.timeout_s too short?",
)
AUTH_FAILURES: Final = Metric(
    name="ordergate_auth_failures_total",
    kind="counter",
    labels=("reason",),
    help="Requests without a valid token, by what was wrong with it.",
    question="Is somebody guessing, or did a token run out?",
)
CONFIG_RELOADS: Final = Metric(
    name="ordergate_config_reloads_total",
    kind="counter",
    labels=("result",),
    help="Times that the settings were read anew while the gateway ran: success, or failure and nothing changed.",
    question="Did the new settings arrive?",
)
CONFIG_LAST_SUCCESS: Final = Metric(
    name="ordergate_config_last_reload_success_timestamp_seconds",
    kind="gauge",
    help="When settings were last read without a fault, at the start or since.",
    question="How old are the settings that it runs with?",
)
BUILD_INFO: Final = Metric(
    name="ordergate_build_info",
    kind="gauge",
    labels=("version", "spec_digest"),
    help="Always 1. The version that runs, and the OpenAPI document that it was built from.",
    question="What is running?",
)

CATALOGUE: Final[tuple[Metric, ...]] = (
    HTTP_REQUESTS, HTTP_DURATION, HTTP_IN_FLIGHT, ORDERS, ORDER_DURATION, OVERHEAD, ATTEMPT_DURATION,
    UPSTREAM_ERRORS, UPSTREAM_IN_FLIGHT, UPSTREAM_RESENDS, BREAKER_STATE,
    ADMISSION_WAIT, BUDGET_LIMIT, BUDGET_REMAINING, BUDGET_REJECTIONS, LEDGER_COMMIT,
    LEDGER_ERRORS, UNSETTLED, OLDEST_UNKNOWN, RECONCILIATIONS, DUPLICATES, LATE_PLACEMENTS, FOREIGN_ORDERS,
    FALSE_TIMEOUTS,
    AUTH_FAILURES, CONFIG_RELOADS, CONFIG_LAST_SUCCESS, BUILD_INFO,
)  # fmt: skip
