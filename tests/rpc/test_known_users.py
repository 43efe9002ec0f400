"""Another request of a user who was answered a moment ago: nothing of them is read again."""

from typing import Any

import pytest

from engine.known_situations import KnownSituations
from tests.rpc import test_ready_answers as ready_answers
from tests.rpc.conftest import Service, book, ids, running

CHANGES = (
    "change_profile", "change_stream", "delete_interactions", "merge_users", "hide",
    "delete_entity", "add_entity", "change_settings", "change_interaction_type", "invalidate",
    "refresh",
)  # fmt: skip


class Reads:
    """Counts how often what answers start from is read."""

    def __init__(self, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        users = service.deps.recommender._users
        for name in ("situation", "recalled_situation"):
            monkeypatch.setattr(users, name, self._counting(getattr(users, name)))

    def _counting(self, read: Any) -> Any:
        async def counting(*args: Any, **options: Any) -> Any:
            self.count += 1
            return await read(*args, **options)

        return counting


@pytest.fixture
async def reads(library: Service, monkeypatch: pytest.MonkeyPatch) -> Reads:
    await library.did("ada", "b06")
    return Reads(library, monkeypatch)


async def test_other_requests_of_a_user_read_nothing_of_them(
    library: Service, reads: Reads
) -> None:
    for size in range(1, 6):
        await library.recommend("ada", page_size=size)
    assert reads.count == 1
    await library.recommend("ben")
    assert reads.count == 2
    await library.recommend("ada", context_entities=[book("b01")])
    assert reads.count == 3
    await library.recommend("ada", page_size=6)
    assert reads.count == 3


@pytest.mark.parametrize("change", CHANGES)
async def test_after_a_change_they_are_read_again(
    library: Service, reads: Reads, change: str
) -> None:
    await library.recommend("ada", page_size=3)
    await getattr(ready_answers, change)(library)
    before = reads.count
    await library.recommend("ada", page_size=4)
    assert reads.count > before


def told(answer: Any) -> list[Any]:
    return [
        (item.entity.entity_id, item.score, [(r.source, r.share) for r in item.reasons])
        for item in answer.items
    ]


async def test_answer_is_the_same_whatever_is_remembered(library: Service, settings: Any) -> None:
    await library.run_jobs()
    for user in ("ada", "ben", "cleo", ""):
        for number in range(3):
            if user:
                await library.did(user, f"b{number:02}")
    alone = settings.model_copy(update={"port": 0, "known_catalogue_bytes": 0})
    async with running(alone, make_tenant=False) as other:
        other.deps.recommender._cache = library.deps.recommender._cache = None
        for size in (3, 4, 5, 6, 7, 8, 9):
            for user in ("ada", "ben", "cleo", ""):
                mine = await library.recommend(user, page_size=size)
                assert told(mine) == told(await other.recommend(user, page_size=size))
    assert isinstance(library.deps.recommender._situations, KnownSituations)
    assert len(library.deps.recommender._situations) == 4
    assert len(other.deps.recommender._situations) == 0


async def test_what_a_user_did_is_in_the_next_answer_of_another_request(library: Service) -> None:
    for size in range(5, 12):
        first = ids(await library.recommend("ada", page_size=size))[0]
        await library.did("ada", first)
        assert first not in ids(await library.recommend("ada", page_size=size + 20))
