"""What is known of a caller before its call is one."""

from types import SimpleNamespace
from typing import Any

import pytest

from engine.access import ENTITIES, RECOMMEND, Principal
from server import hot_path
from server.admission import Admission
from server.hot_path import HotPath
from tests.server.conftest import TwoTenants
from tests.waiting import until

KEY = ("authorization", "Bearer abc")
MINE = (KEY, ("user-agent", "test"))


class Ring:
    """Knows the key, until it is revoked; counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = self.edition = 0
        self.principal: Principal | None = Principal("key", "key:1", "a", frozenset({RECOMMEND}))

    def known(self, key: str | None, text: str | bytes | None) -> Principal | None:
        self.asked += 1
        return self.principal if text == KEY[1] else None


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clock of the hot path, moved by hand."""
    clock = SimpleNamespace(at=100.0)
    monkeypatch.setattr(hot_path, "time", SimpleNamespace(monotonic=lambda: clock.at))
    return clock


@pytest.fixture
def ring() -> Ring:
    return Ring()


@pytest.fixture
def know(ring: Ring) -> Any:
    hot = HotPath(SimpleNamespace(get=lambda key: None), TwoTenants(), callers=ring)  # type: ignore[arg-type]
    return lambda metadata=MINE, scope=RECOMMEND: hot.know(metadata, scope, Admission(10))


async def test_same_metadata_is_the_same_caller_for_a_tenth_of_a_second(
    ring: Ring, know: Any, clock: SimpleNamespace
) -> None:
    assert know().tenant.tenant_id == "a"
    ring.principal = None
    clock.at += 0.09
    assert know().principal.actor == "key:1"
    assert ring.asked == 1
    clock.at += 0.02
    assert know() is None


async def test_change_of_the_keys_ends_what_is_remembered(ring: Ring, know: Any) -> None:
    assert know() is not None
    ring.principal = None
    ring.edition += 1
    assert know() is None


async def test_what_is_remembered_counts_from_when_it_was_found_out(
    know: Any, clock: SimpleNamespace
) -> None:
    know()
    clock.at += 0.09
    known = know()
    clock.at += 0.40
    assert known.holds
    clock.at += 0.02
    assert not known.holds


async def test_metadata_of_another_caller_is_another(ring: Ring, know: Any) -> None:
    assert know() is not None
    assert know((("authorization", "Bearer abd"), ("user-agent", "test"))) is None
    assert know((*MINE, ("x-tenant-id", "b"))) is None
    assert know((*MINE, KEY)) is None


async def test_scope_is_looked_at_for_every_call(know: Any) -> None:
    assert know() is not None
    assert know(scope=ENTITIES) is None


async def test_tenant_that_is_gone_is_noticed_at_once(ring: Ring) -> None:
    tenants = TwoTenants()
    hot = HotPath(SimpleNamespace(get=lambda key: None), tenants, callers=ring)  # type: ignore[arg-type]
    assert hot.know(MINE, RECOMMEND, Admission(10)) is not None
    tenants.known = lambda tenant_id: None  # type: ignore[method-assign]
    assert hot.know(MINE, RECOMMEND, Admission(10)) is None


async def test_calls_with_ids_of_their_own_are_not_remembered(ring: Ring, know: Any) -> None:
    named = (*MINE, ("x-request-id", "one"))
    assert know(named).request_id == "one"
    assert know(named).request_id == "one"
    assert ring.asked == 2


async def test_few_callers_are_remembered(ring: Ring) -> None:
    hot = HotPath(SimpleNamespace(get=lambda key: None), TwoTenants(), callers=ring)  # type: ignore[arg-type]
    for number in range(1000):
        assert hot.know((KEY, ("traceparent", str(number))), RECOMMEND, Admission(10)) is not None
    assert 0 < len(hot._remembered) <= 256


async def test_credentials_do_not_lie_about(ring: Ring) -> None:
    hot = HotPath(SimpleNamespace(get=lambda key: None), TwoTenants(), callers=ring)  # type: ignore[arg-type]
    for _ in range(2):  # also of callers who come after that
        assert hot.know(MINE, RECOMMEND, Admission(10)) is not None
        assert MINE in hot._remembered
        await until(lambda: not hot._remembered)
