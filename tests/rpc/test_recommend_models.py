"""Recommend where a trained model serves: its order, its reasons, swaps, damage."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from penchant.v1.recommendation_pb2 import RecommendRequest
from scipy import sparse

from engine.models.artefact import write_artefact
from engine.models.forms import NeighbourMatrix
from storage.artefacts import content_hash
from storage.models import ModelStore, VersionRow
from storage.tenants import Tenant, TenantStore
from storage.vector_store import Candidate, VectorStore
from tests.rpc.conftest import Service, book, ids


def damage(path: Path) -> None:
    """Turns one bit of a file over."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)


class Press:
    """Makes versions of a model of sixty books without training them."""

    def __init__(self, service: Service, tenant: Tenant) -> None:
        self._service = service
        self._tenant = tenant
        self.store = ModelStore(service.deps.database)
        self.artefacts = service.deps.artefacts

    async def numbers(self) -> dict[str, int]:
        async with self._service.deps.maintenance.connection(None) as connection:
            rows = await connection.fetch("SELECT entity_id, entity_no FROM entities")
        return {row["entity_id"]: row["entity_no"] for row in rows}

    async def version(
        self, pairs: dict[tuple[str, str], float], *, serve: bool = True
    ) -> VersionRow:
        """A version where having the first of a pair says so much of the second."""
        numbers = await self.numbers()
        nos = np.sort(np.fromiter(numbers.values(), np.int64))
        place = {name: int(np.searchsorted(nos, no)) for name, no in numbers.items()}
        dense = np.zeros((len(nos), len(nos)), np.float32)
        for (have, want), value in pairs.items():
            dense[place[have], place[want]] = value
        model = NeighbourMatrix.from_matrix(nos, sparse.csr_matrix(dense))
        path = self.artefacts.temporary()
        write_artefact(model, path, {})
        digest = content_hash(path)
        size = self.artefacts.keep(path, digest)
        row = await self.store.add_version(
            self._tenant, "m", manifest={}, metadata={}, content_hash=digest, size_bytes=size
        )
        if serve:
            await self.store.promote(self._tenant, "m", row.version, "test")
        return row


@pytest.fixture
async def press(library: Service) -> Press:
    """Sixty books in tenant `a`, and a model `m` without a version."""
    deps = library.deps
    tenant = await TenantStore(deps.database, deps.maintenance).get("a")
    press = Press(library, tenant)
    await press.store.create(tenant, "m", algorithm="item_knn")
    return press


async def test_recommend_with_a_model_gives_its_order_and_its_reasons(
    library: Service, press: Press
) -> None:
    await press.version({("b00", "b50"): 1.0, ("b00", "b51"): 2.0, ("b01", "b51"): 3.0})
    await library.did("ada", "b00")
    await library.did("ada", "b01")
    answer = await library.recommend("ada", page_size=2)
    assert ids(answer) == ["b51", "b50"]
    assert answer.model_versions == ["m@1"]
    reasons = [
        [(r.source, [e.entity_id for e in r.because_of]) for r in i.reasons] for i in answer.items
    ]
    assert reasons == [[("model", ["b01", "b00"])], [("model", ["b00"])]]


async def test_recommend_swaps_with_the_next_call_after_a_promotion(
    library: Service, press: Press
) -> None:
    await library.did("ada", "b00")
    before = await library.recommend("ada", page_size=1)
    assert before.model_versions == []
    await press.version({("b00", "b50"): 1.0})
    assert ids(await library.recommend("ada", page_size=1)) == ["b50"]
    await press.version({("b00", "b40"): 1.0})
    seen = set()
    async with asyncio.timeout(30):
        while ("b40", ("m@2",)) not in seen:
            answer = await library.recommend("ada", page_size=1)
            seen.add((ids(answer)[0], tuple(answer.model_versions)))
    # The old one answers until the new one is mapped; nothing else ever does.
    assert seen == {("b50", ("m@1",)), ("b40", ("m@2",))}


async def test_recommend_keeps_nothing_of_a_model_that_a_newer_one_overtook(
    library: Service, press: Press, monkeypatch: pytest.MonkeyPatch
) -> None:
    await library.did("ada", "b00")
    await press.version({("b00", "b50"): 1.0})
    assert ids(await library.recommend("ada", page_size=1)) == ["b50"]
    await press.version({("b00", "b40"): 1.0})
    shelf = library.deps.recommender._shelf
    candidates = VectorStore.candidates

    async def once_the_newer_serves(*args: Any) -> list[Candidate]:
        await asyncio.gather(*shelf._under_way.values())
        return await candidates(*args)

    monkeypatch.setattr(VectorStore, "candidates", once_the_newer_serves)
    firsts = [ids(await library.recommend("ada", page_size=2))[0] for _ in range(2)]
    assert firsts == ["b50", "b40"]


async def test_recommend_fills_up_behind_the_model(library: Service, press: Press) -> None:
    await press.version({("b00", "b50"): 1.0})
    await library.did("ada", "b00")
    answer = await library.recommend("ada", page_size=10)
    assert len(answer.items) == 10
    assert ids(answer)[0] == "b50"
    assert all({r.source for r in item.reasons}.isdisjoint({"model"}) for item in answer.items[1:])
    scores = [item.score for item in answer.items]
    assert scores == sorted(scores, reverse=True)


async def test_recommend_with_a_filter_keeps_it_where_a_model_serves(
    library: Service, press: Press
) -> None:
    await press.version({("b00", "b50"): 2.0, ("b00", "b51"): 1.0, ("b00", "b53"): 0.5})
    await library.did("ada", "b00")
    answer = await library.recommend("ada", page_size=1, filter="year >= 2013")
    assert ids(answer) == ["b53"]


async def test_recommend_never_offers_what_is_seen_hidden_or_excluded(
    library: Service, press: Press
) -> None:
    pairs = {("b00", f"b{n}"): float(n) for n in range(50, 60)} | {("b01", "b00"): 9.0}
    await press.version(pairs)
    for name in ("b00", "b01", "b58"):
        await library.did("ada", name)
    answer = await library.recommend("ada", page_size=2, exclude=[book("b59")])
    assert ids(answer) == ["b57", "b56"]
    assert ids(await library.recommend("ada", page_size=1, include_seen=True)) == ["b59"]


async def test_recommend_to_a_stranger_is_answered_without_the_model(
    library: Service, press: Press
) -> None:
    await press.version({("b00", "b50"): 1.0})
    answer = await library.recommend("nobody", page_size=5)
    assert len(answer.items) == 5
    assert answer.model_versions == []


async def test_recommend_by_context_asks_the_model(library: Service, press: Press) -> None:
    await press.version({("b00", "b50"): 1.0})
    answer = await library.recommend(context_entities=[book("b00")], page_size=1)
    assert ids(answer) == ["b50"]


async def test_recommend_of_a_named_version_answers_from_it(library: Service, press: Press) -> None:
    await press.version({("b00", "b50"): 1.0})
    await press.version({("b00", "b40"): 1.0}, serve=False)
    await library.did("ada", "b00")
    serving = await library.recommend("ada", page_size=1)
    latest = await library.recommend("ada", page_size=1, model_version="m@latest")
    first = await library.recommend("ada", page_size=1, model_version="m@1")
    assert [ids(a) for a in (serving, latest, first)] == [["b50"], ["b40"], ["b50"]]
    assert latest.model_versions == ["m@2"]


@pytest.mark.parametrize(
    ("named", "code", "reason"),
    [
        ("m@9", "NOT_FOUND", "VERSION_NOT_FOUND"),
        ("x@latest", "NOT_FOUND", "VERSION_NOT_FOUND"),
        ("m", "INVALID_ARGUMENT", "INVALID_ARGUMENT"),
        ("@1", "INVALID_ARGUMENT", "INVALID_ARGUMENT"),
    ],
)
async def test_recommend_of_a_version_that_is_none_is_refused(
    library: Service, press: Press, named: str, code: str, reason: str
) -> None:
    request = RecommendRequest(user_id="ada", model_version=named)
    refusal = await library.refused("Recommend", request)
    assert (refusal.code, refusal.reason) == (code, reason)


async def test_a_damaged_artefact_falls_back_and_says_why(library: Service, press: Press) -> None:
    await library.did("ada", "b00")
    await press.version({("b00", "b50"): 1.0})
    damaged = await press.version({("b00", "b40"): 1.0})
    damage(press.artefacts.path(damaged.content_hash))
    answer = await library.recommend("ada", page_size=1)
    assert ids(answer) == ["b50"]
    assert answer.model_versions == ["m@1"]
    row = await press.store.version(press._tenant, "m", "2")
    assert "checksum" in row.problem
