"""What the jobs compute, read back from where calls read it."""

from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import REGISTRY

from engine.neighbours import cosine_neighbours
from engine.ranking import unit
from jobs.context import JobContext
from jobs.registry import JOBS, run_once
from storage.exceptions import Aborted, InvalidArgument, StaleTenant
from storage.tenants import Tenant, TenantSettings
from storage.users import UserStore
from storage.vector_store import VectorStore
from tests.jobs.conftest import LONG_AGO, Shop

TRENDING = (
    "SELECT entity_id, score FROM trending_entities WHERE tenant_id = $1"
    " ORDER BY score DESC, entity_id"
)


async def test_trending_halves_the_weight_of_an_event_every_half_life(
    context: JobContext, shop: Shop
) -> None:
    half_life = timedelta(seconds=shop.tenant.settings.trending_half_life_secs)
    await shop.event("a", "new", LONG_AGO)
    await shop.event("b", "old", LONG_AGO - half_life, weight=3.0)
    await shop.event("b", "gone", LONG_AGO - timedelta(days=8), weight=100.0)
    await run_once(context, ["trending"])
    assert await shop.rows(TRENDING) == [
        ("old", pytest.approx(1.5)),
        ("new", pytest.approx(1.0)),
    ]


@pytest.mark.parametrize("weight", [1.0, 1e6, 5e-324])
async def test_trending_takes_events_of_very_many_half_lives_ago(
    context: JobContext, shop: Shop, weight: float
) -> None:
    settings = TenantSettings(trending_window_secs=365 * 86_400, trending_half_life_secs=60)
    await context.tenants.update("shop", display_name="", settings=settings)
    await shop.reread()
    for number, days in enumerate((1, 30, 360)):
        await shop.event("a", f"old{number}", LONG_AGO - timedelta(days=days), weight)
    await shop.event("b", "new", LONG_AGO)
    await run_once(context, ["trending"])
    assert await shop.rows(TRENDING) == [("new", pytest.approx(1.0))]


async def test_trending_of_past_data_ends_at_the_newest_event(
    context: JobContext, shop: Shop
) -> None:
    await shop.event("a", "x", LONG_AGO)
    await run_once(context, ["trending"])
    window = await VectorStore(context.service).trending_window(shop.tenant)
    assert window == (LONG_AGO - timedelta(days=7), LONG_AGO)


async def test_trending_of_live_data_ends_now(context: JobContext, shop: Shop) -> None:
    await shop.event("a", "x", datetime.now(UTC) - timedelta(days=1))
    await shop.event("a", "forgotten", LONG_AGO)
    before = datetime.now(UTC)
    await run_once(context, ["trending"])
    window = await VectorStore(context.service).trending_window(shop.tenant)
    assert window is not None
    clocks = timedelta(seconds=1)
    assert before - clocks <= window[1] <= datetime.now(UTC) + clocks
    assert [entity_id for entity_id, _ in await shop.rows(TRENDING)] == ["x"]


async def test_trending_follows_new_interactions_of_the_next_run(
    context: JobContext, shop: Shop
) -> None:
    await run_once(context, ["trending"])
    assert await shop.rows(TRENDING) == []
    await shop.event("a", "x")
    await run_once(context, ["trending"])
    assert len(await shop.rows(TRENDING)) == 1


async def test_trending_leaves_tenants_alone_that_did_nothing(
    context: JobContext, shop: Shop
) -> None:
    finished = "SELECT finished_at FROM job_states WHERE tenant_id = $1 AND job = 'trending'"
    await run_once(context, ["trending"])
    first = await shop.rows(finished)
    await run_once(context, ["trending"])
    assert await shop.rows(finished) == first
    async with context.maintenance.connection(None) as connection:
        await connection.execute("UPDATE job_states SET finished_at = now() - interval '16 min'")
    await run_once(context, ["trending"])
    assert await shop.rows(finished) > first


@pytest.mark.parametrize("job", ["trending", "neighbours"])
async def test_restart_computes_nothing_again_where_nothing_came(
    context: JobContext, shop: Shop, job: str
) -> None:
    finished = f"SELECT finished_at FROM job_states WHERE tenant_id = $1 AND job = '{job}'"
    age = "UPDATE interaction_keys SET received_at = received_at - interval '2 min'"
    await shop.event("a", "x")
    await run_once(context, [job])
    first = await shop.rows(finished)
    async with context.maintenance.connection(None) as connection:
        await connection.execute(age)
    context._paces.clear()  # as in a new process
    await run_once(context, [job])
    assert await shop.rows(finished) == first
    await shop.event("a", "y")
    context._paces.clear()
    await run_once(context, [job])
    assert await shop.rows(finished) > first


async def test_counts_that_stay_as_they_are_leave_answers_good(
    context: JobContext, shop: Shop
) -> None:
    async def revision() -> object:
        return await shop.rows(
            "SELECT slot, revision FROM catalogue_revisions WHERE tenant_id = $1"
        )

    for number in range(20):
        await shop.event(f"u{number}", f"x{number % 7}", LONG_AGO - timedelta(hours=number))
    assert await context.trends.refresh_trending(shop.tenant) == 7
    counted, before = await shop.rows(TRENDING), await revision()
    assert await context.trends.refresh_trending(shop.tenant) == 7
    assert (await shop.rows(TRENDING), await revision()) == (counted, before)
    await shop.event("u1", "x1", LONG_AGO)
    after = await revision()
    await context.trends.refresh_trending(shop.tenant)
    assert await revision() != after
    await context.interactions.delete(
        shop.tenant, user_id=None, entity=("item", "x2"), interaction_ids=None, before=None
    )
    after = await revision()
    assert await context.trends.refresh_trending(shop.tenant) == 6
    assert await revision() != after


async def test_popular_counts_users_for_all_and_by_segment(context: JobContext, shop: Shop) -> None:
    await shop.put("ann", entity_type="user", attributes='{"country": "no"}')
    await shop.put("bob", entity_type="user", attributes='{"country": "se"}')
    for user_id, entity_id in [("ann", "x"), ("ann", "x"), ("bob", "y"), ("cy", "y")]:
        await shop.event(user_id, entity_id, LONG_AGO)
    await run_once(context, ["trending"])
    popular = await shop.rows(
        "SELECT segment, entity_id, score FROM popular_entities WHERE tenant_id = $1"
        " ORDER BY segment, score DESC"
    )
    assert popular == [("", "y", 2), ("", "x", 1), ("no", "x", 1), ("se", "y", 1)]


async def test_neighbours_are_written_and_replaced(context: JobContext, shop: Shop) -> None:
    for user_id, entity_id in [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"), ("b", "z")]:
        await shop.event(user_id, entity_id, LONG_AGO)

    async def run_and_compared() -> list:
        await run_once(context, ["neighbours"])
        pairs = await context.trends.preferences(shop.tenant, 100)
        expected = list(cosine_neighbours(pairs.users, pairs.entities, pairs.weights))
        written = await shop.rows(
            "SELECT entity_no, neighbour_nos, scores FROM entity_neighbours WHERE tenant_id = $1"
        )
        assert len(written) == len(expected) == 3
        for row, (number, others, scores) in zip(sorted(written), sorted(expected), strict=True):
            assert row == (number, others, pytest.approx(scores))
        return sorted(written)

    before = await run_and_compared()
    await shop.event("a", "z", LONG_AGO)
    assert await run_and_compared() != before


async def test_profiles_become_searchable(context: JobContext, shop: Shop) -> None:
    await shop.put("x", [1, 0, 0, 0])
    await shop.event("ann", "x", LONG_AGO)
    users = UserStore(context.service)
    accumulator, _ = await users.preference(shop.tenant, "ann") or (None, 0)
    assert accumulator is not None
    liked = unit(accumulator)  # how long it is depends on when the events were
    assert await users.nearest(shop.tenant, liked, limit=5) == []
    await run_once(context, ["profiles"])
    (found,) = await users.nearest(shop.tenant, liked, limit=5)
    assert found.user_id == "ann"
    assert found.score == pytest.approx(1.0)


async def test_profiles_are_rebuilt_after_a_late_vector(context: JobContext, shop: Shop) -> None:
    await shop.event("ann", "x", LONG_AGO)
    users = UserStore(context.service)
    assert await users.preference(shop.tenant, "ann") == (None, 1)
    await shop.put("x", [0, 1, 0, 0])
    await run_once(context, ["profiles"])
    accumulator, seen = await users.preference(shop.tenant, "ann") or (None, 0)
    assert accumulator is not None
    assert (unit(accumulator).tolist(), seen) == ([0, 1, 0, 0], 1)
    assert await shop.rows("SELECT * FROM profile_rebuilds WHERE tenant_id = $1") == []


async def test_rebuild_that_fails_is_done_in_a_later_run(
    context: JobContext, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shop.event("ann", "x", LONG_AGO)
    await shop.put("x", [0, 1, 0, 0])
    other = Shop(context, await context.tenants.create("other", dimension=4))
    await other.event("ben", "y", LONG_AGO)
    await other.put("y", [1, 0, 0, 0])
    users = UserStore(context.service)
    rebuild = context.interactions.rebuild_profiles

    async def fail(tenant: Tenant, user_ids: list[str]) -> None:
        if tenant.tenant_id == "shop":
            raise InvalidArgument("No.")
        await rebuild(tenant, user_ids)

    with monkeypatch.context() as patched:
        patched.setattr(context.interactions, "rebuild_profiles", fail)
        with pytest.raises(InvalidArgument):
            await run_once(context, ["profiles"])
    assert (await users.preference(shop.tenant, "ann") or (0, 0))[0] is None
    assert (await users.preference(other.tenant, "ben") or (None, 0))[0] is not None
    await run_once(context, ["profiles"])
    assert (await users.preference(shop.tenant, "ann") or (None, 0))[0] is not None
    assert await shop.rows("SELECT * FROM profile_rebuilds WHERE tenant_id = $1") == []


async def test_entity_that_is_listed_again_while_profiles_are_rebuilt_stays_on_the_list(
    context: JobContext, shop: Shop
) -> None:
    await shop.event("ann", "x", LONG_AGO)
    await shop.put("x", [0, 1, 0, 0])
    (rebuild,) = await context.profiles.rebuilds(10, ())
    assert (rebuild.tenant_id, rebuild.user_ids) == ("shop", {"ann"})
    async with context.maintenance.connection(None) as connection:
        await connection.execute("UPDATE profile_rebuilds SET requested_at = now()")
    await context.profiles.rebuilt(rebuild)
    (again,) = await context.profiles.rebuilds(10, ())
    assert again.entries[0][2] > rebuild.entries[0][2]
    await context.profiles.rebuilt(again)
    assert await context.profiles.rebuilds(10, ()) == []


async def test_profiles_of_a_tenant_that_is_being_erased_are_left(
    context: JobContext, shop: Shop
) -> None:
    await shop.event("ann", "x", LONG_AGO)
    await shop.put("x", [0, 1, 0, 0])
    await context.tenants.begin_erasure("shop")
    await run_once(context, ["profiles", "trending", "neighbours"])


async def test_work_is_repeated_with_the_new_row_of_a_changed_tenant(
    context: JobContext, shop: Shop
) -> None:
    old = shop.tenant
    await context.tenants.update("shop", display_name="Shop", settings=TenantSettings())
    seen: list[str] = []

    async def work(tenant: Tenant) -> None:
        seen.append(tenant.display_name)
        if tenant.version == old.version:
            raise StaleTenant

    await context.with_tenant(old, work)
    assert seen == ["", "Shop"]


async def test_crowded_tenant_gets_a_placement_of_its_own(context: JobContext, shop: Shop) -> None:
    for number in range(101):
        await shop.put(f"e{number}", [1, number, 0, 0])
    await run_once(context, ["placements"])
    assert (await shop.reread()).placement == 1
    assert (await context.tenants.index_stats(shop.tenant.tenant_id)).entity_count == 101


async def test_retention_forgets_old_keys_and_keeps_young_ones(
    context: JobContext, shop: Shop
) -> None:
    await shop.event("a", "x")
    await shop.event("a", "y")
    async with context.maintenance.connection(None) as connection:
        await connection.execute(
            "UPDATE interaction_keys SET received_at = now() - interval '8 days'"
            " WHERE interaction_id = 'i0'"
        )
    await run_once(context, ["retention"])
    assert await shop.rows("SELECT interaction_id FROM interaction_keys WHERE tenant_id = $1") == [
        ("i1",)
    ]


async def test_retention_makes_partitions_and_erases_tenants(
    context: JobContext, shop: Shop
) -> None:
    await shop.event("a", "x")
    async with context.owner.connection(None) as connection:
        names = await connection.fetch(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'interactions\\_2%'"
            " ORDER BY relname"
        )
        await connection.execute(f"DROP TABLE {names[-1]['relname']}")
    await context.tenants.begin_erasure("shop")
    await run_once(context, ["retention"])
    async with context.owner.connection(None) as connection:
        assert await connection.fetchval("SELECT to_regclass($1)", names[-1]["relname"])
    assert await shop.rows("SELECT state FROM tenants WHERE tenant_id = $1") == [("erased",)]
    assert await shop.rows("SELECT 1 FROM interactions WHERE tenant_id = $1") == []


@pytest.mark.parametrize("failure", [Aborted, ZeroDivisionError])
async def test_failing_tenant_does_not_keep_the_others_from_their_turn(
    context: JobContext,
    shop: Shop,
    monkeypatch: pytest.MonkeyPatch,
    failure: type[Exception],
) -> None:
    await context.tenants.create("aaa", dimension=4)
    refresh = context.trends.refresh_trending

    async def fail_first(tenant: Tenant, keep: int = 1000) -> int:
        if tenant.tenant_id == "aaa":
            raise failure
        return await refresh(tenant, keep)

    await shop.event("a", "x")
    monkeypatch.setattr(context.trends, "refresh_trending", fail_first)
    errors = {"job": "trending", "outcome": "error"}
    before = REGISTRY.get_sample_value("penchant_job_runs_total", errors) or 0
    with pytest.raises(failure):
        await run_once(context, ["trending"])
    assert REGISTRY.get_sample_value("penchant_job_runs_total", errors) == before + 1
    assert len(await shop.rows(TRENDING)) == 1


async def test_all_jobs_run_on_an_empty_database(context: JobContext) -> None:
    await run_once(context)
    for job in JOBS:
        assert REGISTRY.get_sample_value("penchant_job_seconds_count", {"job": job.name})
