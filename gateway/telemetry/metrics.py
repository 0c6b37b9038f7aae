"""The catalogue made live: one registry a process, label children found once and kept, series there at 0.

The methods are named after what happened, so that whoever reports does not know what is counted.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from gateway.core.directory import Tenant
from gateway.core.evidence import Answered, Evidence, NotSent, Sent
from gateway.core.lifecycle import Outcome
from gateway.telemetry import catalogue as known
from gateway.telemetry.catalogue import MAX_NAMES, OTHER, Metric


class OrderTimes(msgspec.Struct, kw_only=True):
    """Where an order's seconds went, filled in on the way: waiting for a place, and at OfferGrid."""

    waited_s: float = 0.0
    upstream_s: float = 0.0


class _OfTenant(msgspec.Struct, frozen=True):
    """One tenant's children."""

    orders: dict[str, Counter]
    duration: Histogram
    rejections: dict[str, Counter]


class Metrics:
    def __init__(self, *, version: str, spec_digest: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for every counter that no question asks for
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._http_requests = self._counter(known.HTTP_REQUESTS)
        self._http_duration = self._histogram(known.HTTP_DURATION)
        self._http_in_flight = self._gauge(known.HTTP_IN_FLIGHT)
        self._orders = self._counter(known.ORDERS)
        self._order_duration = self._histogram(known.ORDER_DURATION)
        self._overhead = self._histogram(known.OVERHEAD)
        self._attempts = self._histogram(known.ATTEMPT_DURATION)
        self._upstream_errors = self._counter(known.UPSTREAM_ERRORS)
        self._upstream_in_flight = self._gauge(known.UPSTREAM_IN_FLIGHT)
        self._resends = self._counter(known.UPSTREAM_RESENDS)
        self._breaker = self._gauge(known.BREAKER_STATE)
        self._admission_wait = self._histogram(known.ADMISSION_WAIT)
        self._budget_limit = self._gauge(known.BUDGET_LIMIT)
        self._budget_remaining = self._gauge(known.BUDGET_REMAINING)
        self._budget_rejections = self._counter(known.BUDGET_REJECTIONS)
        self._commit = self._histogram(known.LEDGER_COMMIT)
        self._ledger_errors = self._counter(known.LEDGER_ERRORS)
        self._unsettled = self._gauge(known.UNSETTLED)
        self._oldest_unknown = self._gauge(known.OLDEST_UNKNOWN)
        self._reconciliations = self._counter(known.RECONCILIATIONS)
        self._duplicates = self._counter(known.DUPLICATES)
        self._late_placements = self._counter(known.LATE_PLACEMENTS)
        self._foreign_orders = self._counter(known.FOREIGN_ORDERS)
        self._false_timeouts = self._counter(known.FALSE_TIMEOUTS)
        self._auth_failures = self._counter(known.AUTH_FAILURES)
        self._config_reloads = self._counter(known.CONFIG_RELOADS)
        self._config_read = self._gauge(known.CONFIG_LAST_SUCCESS)
        self._gauge(known.BUILD_INFO).labels(version, spec_digest).set(1)
        self._tenants: dict[str, _OfTenant] = {}
        self._teams: set[str] = set()
        self._http_children: dict[tuple[str, str, str, int], tuple[Counter, Histogram]] = {}
        self._start_at_zero()

    def render(self, accept: str) -> tuple[bytes, str]:
        """Every series as text, and its content type: Prometheus's, or OpenMetrics where that is accepted."""
        try:
            encode, content_type = choose_encoder(accept)
        except TypeError:  # a version that is no number, which the library compares with one
            encode, content_type = choose_encoder("")
        return encode(self.registry), content_type

    def http(self, listener: str, method: str, route: str, status: int, seconds: float) -> None:
        """One request answered."""
        place = (listener, method, route, status)
        children = self._http_children.get(place)
        if children is None:
            counter = self._http_requests.labels(listener, method, route, str(status))
            children = self._http_children[place] = (counter, self._http_duration.labels(listener, route))
        children[0].inc()
        children[1].observe(seconds)

    @contextmanager
    def http_in_flight(self, listener: str) -> Iterator[None]:
        with self._http_in_flight.labels(listener).track_inprogress():
            yield

    def order(self, tenant: Tenant, outcome: str, seconds: float, times: OrderTimes) -> None:
        """One order request of a known tenant answered. `outcome` is one of the catalogue's."""
        of_tenant = self._of(tenant)
        of_tenant.orders[outcome].inc()
        of_tenant.duration.observe(seconds)
        self._overhead.observe(max(0.0, seconds - times.upstream_s - times.waited_s))

    def attempt(self, team: str, operation: str, evidence: Evidence, seconds: float) -> None:
        """One call to OfferGrid ended."""
        result = attempt_result(evidence)
        self._attempts.labels(operation, result).observe(seconds)
        if result in known.ERROR_REASONS:
            self._upstream_errors.labels(self._team(team), result).inc()

    @contextmanager
    def upstream_in_flight(self) -> Iterator[None]:
        with self._upstream_in_flight.track_inprogress():
            yield

    def resent(self, reason: str) -> None:
        self._resends.labels(reason).inc()

    def breaker(self, state: int) -> None:
        """0 closed, 1 half open, 2 open."""
        self._breaker.set(state)

    def budget(self, team: str, window: str, *, limit: int, left: int) -> None:
        """`left`: calls of any kind."""
        self._budget_limit.labels(self._team(team), window).set(limit)
        self._budget_remaining.labels(self._team(team), window).set(left)

    def budget_rejected(self, tenant: Tenant, reason: str) -> None:
        """`reason`: minute, hour, part or paused."""
        self._of(tenant).rejections[reason].inc()

    def admission_wait(self, seconds: float) -> None:
        self._admission_wait.observe(seconds)

    def commit(self, seconds: float, *, failed: bool) -> None:
        """One group commit of the ledger."""
        self._commit.observe(seconds)
        if failed:
            self._ledger_errors.inc()

    def unsettled(self, counts: dict[Outcome, int]) -> None:
        for outcome, count in counts.items():
            self._unsettled.labels(outcome).set(count)

    def oldest_unknown(self, received_ms: int | None) -> None:
        self._oldest_unknown.set((received_ms or 0) / 1000)

    def reconciled(self, result: str) -> None:
        """One look at a team's listing."""
        self._reconciliations.labels(result).inc()

    def found(self, *, after_timeout: bool) -> None:
        """An order turned out to be placed; `after_timeout`: its tenant had been told 504."""
        if after_timeout:
            self._false_timeouts.inc()

    def duplicates(self, count: int) -> None:
        """So many orders more than one stand in OfferGrid's listing for one order of ours."""
        self._duplicates.inc(count)

    def late_placement(self) -> None:
        """OfferGrid has an order that was settled otherwise."""
        self._late_placements.inc()

    def foreign_orders(self, count: int) -> None:
        """So many orders of another ledger stand in a team's listing."""
        self._foreign_orders.inc(count)

    def auth_failure(self, reason: str) -> None:
        self._auth_failures.labels(reason).inc()

    def settings_read(self, wall_ms: int, *, again: bool = False) -> None:
        """Settings without a fault; `again`: while the gateway ran."""
        self._config_read.set(wall_ms / 1000)
        if again:
            self._config_reloads.labels("success").inc()

    def settings_refused(self) -> None:
        """Settings were read while the gateway ran, and have a fault."""
        self._config_reloads.labels("failure").inc()

    def know(self, tenants: tuple[Tenant, ...]) -> None:
        """Registered tenants, whose series start at 0 before their first order."""
        for tenant in tenants:
            self._of(tenant)

    def _of(self, tenant: Tenant) -> _OfTenant:
        found = self._tenants.get(tenant.name)
        if found is None:
            full = len(self._tenants) >= MAX_NAMES
            name = OTHER if full else tenant.name
            team = self._team(tenant.team)
            found = _OfTenant(
                {outcome: self._orders.labels(team, name, outcome) for outcome in known.ORDER_OUTCOMES},
                self._order_duration.labels(name),
                {reason: self._budget_rejections.labels(team, name, reason) for reason in known.BUDGET_REASONS},
            )
            if not full:
                self._tenants[tenant.name] = found
        return found

    def _team(self, name: str) -> str:
        if name not in self._teams:
            if len(self._teams) >= MAX_NAMES:
                return OTHER
            self._teams.add(name)
            for reason in known.ERROR_REASONS:
                self._upstream_errors.labels(name, reason)
        return name

    def _start_at_zero(self) -> None:
        for operation in known.OPERATIONS:
            for result in known.ATTEMPT_RESULTS:
                self._attempts.labels(operation, result)
        for reason in known.RESEND_REASONS:
            self._resends.labels(reason)
        for result in known.RECONCILE_RESULTS:
            self._reconciliations.labels(result)
        for reason in known.AUTH_REASONS:
            self._auth_failures.labels(reason)
        for result in known.RELOAD_RESULTS:
            self._config_reloads.labels(result)
        for listener in ("tenant", "admin"):
            self._http_in_flight.labels(listener)
        self.unsettled({"queued": 0, "in_flight": 0, "unknown": 0})

    def _counter(self, metric: Metric) -> Counter:
        return Counter(metric.name, metric.help, metric.labels, registry=self.registry)

    def _gauge(self, metric: Metric) -> Gauge:
        return Gauge(metric.name, metric.help, metric.labels, registry=self.registry)

    def _histogram(self, metric: Metric) -> Histogram:
        return Histogram(metric.name, metric.help, metric.labels, registry=self.registry, buckets=metric.buckets)


def attempt_result(evidence: Evidence) -> str:
    """The metric's label for how a call to OfferGrid ended."""
    match evidence:
        case NotSent():
            return "connect_error"
        case Sent(reason=reason):
            return reason
        case Answered(status=429):
            return "429"
        case Answered(status=status) if 200 <= status < 300:
            return "2xx"
        case Answered(status=status) if 400 <= status < 500:
            return "4xx"
        case Answered(status=status) if status >= 500:
            return "5xx"
        case Answered():  # 1xx and 3xx: an answer that says nothing
            return "broken"
