"""What a worker remembers of users who were answered lately."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine import known_situations
from engine.known_situations import KnownSituations
from storage.situations import HistoryItem, Situation, UserContext, Versions
from storage.tenants import Tenant, TenantSettings

THEN = datetime(2026, 1, 1, tzinfo=UTC)
TENANT = Tenant("t", 1, "", 0, 4, 1.0, TenantSettings(), 1, THEN, THEN, {})


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clock of what is remembered, moved by hand."""
    clock = SimpleNamespace(at=100.0)
    monkeypatch.setattr(known_situations, "time", SimpleNamespace(monotonic=lambda: clock.at))
    return clock


def versions(**changes: int) -> Versions:
    return Versions(
        **{"catalogue_revision": 1, "revision": 2, "model_revision": 3, "transaction_id": 4}
        | changes
    )


def situation(of: Versions, entities: int = 1) -> Situation:
    vector = np.ones(4, np.float16)
    met = [HistoryItem(n, "item", f"e{n}", 1.0, THEN, vector) for n in range(entities)]
    seen = [(item.entity_type, item.entity_id) for item in met]
    user = UserContext(interaction_count=entities, accumulator=None, history=tuple(met), segment="")
    return Situation(of, THEN, user, (), {}, seen)


def keep(known: KnownSituations, user: str = "ada", entities: int = 1, **options: Any) -> Versions:
    now = versions()
    known.keep(
        TENANT, user, now, situation(now, entities), **{"for_model": False, **options}
    )  # fmt: skip
    return now


def test_situation_is_the_one_of_the_very_versions_that_it_came_with() -> None:
    known = KnownSituations(100_000)
    now = keep(known)
    found = known.get(TENANT, "ada", now, for_model=False)
    assert found is not None
    assert found.user.history[0].entity_id == "e0"
    assert known.get(TENANT, "ben", now, for_model=False) is None
    # Equal ones that were read later: something may have changed and come back.
    assert known.get(TENANT, "ada", versions(), for_model=False) is None
    assert known.get(TENANT, "ada", now, for_model=False) is None


@pytest.mark.parametrize("what", ["catalogue_revision", "revision", "model_revision"])
def test_situation_of_another_state_is_not_kept(what: str) -> None:
    known = KnownSituations(100_000)
    now = versions()
    known.keep(TENANT, "ada", now, situation(versions(**{what: 9})), for_model=False)
    assert len(known) == 0
    known.keep(TENANT, "ada", now, situation(versions(transaction_id=9)), for_model=False)
    assert len(known) == 1


def test_situation_for_a_model_is_another() -> None:
    known = KnownSituations(100_000)
    now = keep(known, for_model=True)
    assert known.get(TENANT, "ada", now, for_model=False) is None
    assert known.get(TENANT, "ada", now, for_model=True) is not None


def test_moment_of_a_remembered_situation_is_now(clock: SimpleNamespace) -> None:
    known = KnownSituations(100_000)
    now = keep(known)
    clock.at += 2.5
    found = known.get(TENANT, "ada", now, for_model=False)
    assert found is not None
    assert found.read_at == THEN + timedelta(seconds=2.5)


def test_situation_is_read_again_after_a_minute(clock: SimpleNamespace) -> None:
    known = KnownSituations(100_000)
    now = keep(known)
    clock.at += 59.0
    assert known.get(TENANT, "ada", now, for_model=False) is not None
    clock.at += 1.5
    assert known.get(TENANT, "ada", now, for_model=False) is None
    assert len(known) == 0


def test_who_was_asked_for_longest_ago_makes_room() -> None:
    known = KnownSituations(20_000)
    kept = {f"u{n}": keep(known, f"u{n}") for n in range(5)}
    for n in range(5, 100):
        assert known.get(TENANT, "u0", kept["u0"], for_model=False) is not None
        keep(known, f"u{n}")
    assert 3 < len(known) < 20
    assert known.get(TENANT, "u1", kept["u1"], for_model=False) is None


def test_what_takes_a_quarter_of_the_room_is_not_kept() -> None:
    known = KnownSituations(20_000)
    keep(known)
    keep(known, entities=100)
    assert len(known) == 0
    assert known._size == 0


def test_nothing_is_kept_without_room_or_after_clearing() -> None:
    off, on = KnownSituations(0), KnownSituations(100_000)
    keep(off)
    keep(on)
    on.clear()
    assert (len(off), len(on), on._size) == (0, 0, 0)
