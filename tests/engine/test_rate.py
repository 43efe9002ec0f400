"""Requests a second: no more than the rate allows, whatever comes when to which worker."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.rate import SHARE_LIFE_SECS, RequestRates, TokenBucket
from storage.tenants import Quotas, Tenant, TenantSettings

_WHEN = datetime(2026, 1, 1, tzinfo=UTC)


def tenant(tenant_id: str = "a", version: int = 1, **quotas: float) -> Tenant:
    return Tenant(
        tenant_id=tenant_id,
        tenant_no=1,
        display_name="",
        placement=0,
        dimension=2,
        profile_half_life_secs=1.0,
        settings=TenantSettings(),
        version=version,
        created_at=_WHEN,
        updated_at=_WHEN,
        interaction_types={},
        quotas=Quotas(**quotas),
    )


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def taken(rates: RequestRates, of: Tenant, count: int, cost: float = 1.0) -> int:
    return sum(rates.take(of, cost) == 0 for _ in range(count))


@given(
    rate=st.floats(0.1, 1000),
    burst=st.floats(1, 200),
    workers=st.integers(1, 8),
    arrivals=st.lists(
        st.tuples(st.floats(0, 3), st.integers(0, 7), st.floats(1, 20)), min_size=1, max_size=150
    ),
)
def test_workers_with_equal_shares_take_no_more_than_rate_and_burst(rate, burst, workers, arrivals):
    clock = Clock()
    each = [RequestRates(workers, clock) for _ in range(workers)]
    limited = tenant(requests_per_second=rate, burst=burst)
    admitted = largest = spent = 0.0
    for pause, number, cost in arrivals:
        clock.now += pause
        spent += pause
        largest = max(largest, cost)
        if each[number % workers].take(limited, cost) == 0:
            admitted += cost
    # A worker keeps at least one token, and a call that costs more than the burst is owed once.
    assert admitted <= rate * spent + max(burst, workers) + workers * largest + 1e-6


@given(
    arrivals=st.lists(
        st.tuples(st.floats(0, 0.2), st.integers(0, 2), st.floats(0, 1)), min_size=1, max_size=150
    ),
)
def test_workers_with_changing_shares_take_no_more_than_rate_and_burst(arrivals):
    """Shares that make one at any time, as Redis gives them; a larger one brings no tokens."""
    clock = Clock()
    each = [RequestRates(3, clock) for _ in range(3)]
    limited = tenant(requests_per_second=100, burst=30)
    for rates in each:
        rates.take(limited)
    admitted, spent = 3, 0.0
    for pause, number, part in arrivals:
        clock.now += pause
        spent += pause
        shares = [part * (1 - part), (1 - part) ** 2, part]
        for rates, share in zip(each, shares, strict=True):
            rates.share({"a": share}, clock.now)
        admitted += taken(each[number], limited, 40)
    assert admitted <= 100 * spent + 30 + 3


def test_bucket_lets_a_burst_through_and_then_the_rate():
    bucket = TokenBucket(rate=10, burst=5, now=0)
    assert [bucket.take(1, 0) for _ in range(5)] == [0] * 5
    assert bucket.take(1, 0) == pytest.approx(0.1)
    assert bucket.take(1, 0.1) == 0
    assert sum(bucket.take(1, 10 + i / 100) == 0 for i in range(100)) == 5 + 9


def test_bucket_meets_a_cost_beyond_its_burst_and_is_owed_the_rest():
    bucket = TokenBucket(rate=10, burst=5, now=0)
    assert bucket.take(25, 0) == 0
    assert bucket.take(1, 1.9) > 0
    assert bucket.take(1, 2.11) == 0


def test_wait_is_the_time_until_the_call_would_be_taken():
    bucket = TokenBucket(rate=8, burst=4, now=0)
    bucket.take(4, 0)
    wait = bucket.take(3, 0.125)
    assert wait == pytest.approx(0.25)
    assert bucket.take(3, 0.125 + wait + 1e-9) == 0


def test_tenant_without_quota_is_never_refused(clock: Clock):
    rates = RequestRates(1, clock)
    assert taken(rates, tenant(), 10_000) == 10_000
    assert rates.due() == {}


def test_tenants_do_not_share_a_bucket(clock: Clock):
    rates = RequestRates(1, clock)
    assert taken(rates, tenant("a", requests_per_second=3), 10) == 3
    assert taken(rates, tenant("b", requests_per_second=4), 10) == 4


def test_raised_quota_counts_at_once_and_an_older_row_does_not_lower_it(clock: Clock):
    rates = RequestRates(1, clock)
    old = tenant(requests_per_second=10)
    assert taken(rates, old, 100) == 10
    rates.take(replace(old, version=2, quotas=Quotas(requests_per_second=1000)))
    clock.now += 1
    assert taken(rates, old, 2000) == 1000


def test_quota_that_is_taken_away_refuses_nobody(clock: Clock):
    rates = RequestRates(1, clock)
    old = tenant(requests_per_second=1)
    taken(rates, old, 5)
    rates.know(replace(old, version=2, quotas=Quotas()))
    assert taken(rates, old, 100) == 100


def test_share_that_is_not_renewed_becomes_an_equal_one(clock: Clock):
    rates = RequestRates(2, clock)
    limited = tenant(requests_per_second=100, burst=1)
    rates.take(limited)
    rates.share({"a": 1.0}, clock.now)
    clock.now += SHARE_LIFE_SECS - 0.01
    rates.take(limited)
    rates.lapse()
    assert rates.take(limited) == pytest.approx(1 / 100)
    clock.now += 0.03
    rates.lapse()
    assert rates.take(limited) == 0
    assert rates.take(limited) == pytest.approx(1 / 50)


def test_demand_counts_what_is_refused_too_and_fades(clock: Clock):
    rates = RequestRates(1, clock)
    limited = tenant(requests_per_second=100)
    for _ in range(100):
        clock.now += 0.01
        taken(rates, limited, 10)
        wanted = rates.due()
        if wanted:
            assert wanted["a"][0] == 100
            latest = wanted["a"][1]
    assert latest == pytest.approx(1000, rel=0.15)
    for _ in range(100):
        clock.now += 0.1
        wanted = rates.due()
        rates.lapse()
    assert wanted == {}


def test_quiet_tenant_is_forgotten_when_its_bucket_is_full(clock: Clock):
    rates = RequestRates(1, clock)
    taken(rates, tenant("a", requests_per_second=10), 10)
    taken(rates, tenant("b", requests_per_second=0.01), 10)
    for _ in range(70):
        clock.now += 1
        rates.due()
        rates.lapse()
    assert set(rates._tenants) == {"b"}
