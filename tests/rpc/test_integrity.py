"""VerifyIntegrity: data that is being written is found sound, and every seeded damage is found."""

import asyncio
from typing import Any

import pytest
from penchant.v1 import admin_pb2 as pb
from penchant.v1 import interaction_pb2, privacy_pb2

from tests.rpc.conftest import Service
from tests.rpc.model_worlds import add_version, artefacts_of, make_model, promote

CHECKS = [
    "model_artefacts",
    "serving_version",
    "profile_counts",
    "profile_accumulators",
    "idempotency_keys",
    "orphans",
    "indexes",
    "tombstones",
]


async def verify(service: Service, tenant: str = "a") -> Any:
    return await service.call("VerifyIntegrity", pb.VerifyIntegrityRequest(tenant_id=tenant), None)


async def problems(service: Service) -> dict[str, tuple[int, list[str]]]:
    """How many problems each check finds that finds any, with the examples."""
    answer = await verify(service)
    assert answer.sound == all(not c.problem_count for c in answer.checks)
    assert all(bool(c.remedy) == bool(c.problem_count) for c in answer.checks)
    return {c.check: (c.problem_count, list(c.examples)) for c in answer.checks if c.problem_count}


async def examined(service: Service) -> dict[str, int]:
    return {c.check: c.examined_count for c in (await verify(service)).checks}


async def execute(service: Service, *statements: str) -> None:
    """Damages rows; the tenant is `a`."""
    async with service.deps.maintenance.connection("a") as connection:
        for statement in statements:
            done = await connection.execute(statement)
            assert not done.endswith(" 0"), "nothing was damaged"


@pytest.fixture
async def stocked(library: Service) -> Service:
    """Books that are older than what three readers did with them, and a model that serves."""
    await execute(library, "UPDATE entities SET updated_at = now() - interval '1 hour'")
    for user, liked in (("ada", 5), ("ben", 4), ("cat", 3)):
        for number in range(liked):
            await library.did(user, f"b{number:02}")
    await library.did("ada", "b50", "impression")
    await make_model(library)
    await add_version(library)
    await promote(library)
    return library


async def test_sound_tenant_is_found_sound(stocked: Service) -> None:
    answer = await verify(stocked)
    assert answer.sound
    assert [c.check for c in answer.checks] == CHECKS
    assert all((c.problem_count, list(c.examples), c.remedy) == (0, [], "") for c in answer.checks)
    counted = await examined(stocked)
    assert counted["model_artefacts"] == counted["serving_version"] == 1
    assert counted["profile_counts"] == counted["profile_accumulators"] == 3
    assert counted["idempotency_keys"] == 13
    assert counted["orphans"] == 61
    assert counted["indexes"] > 40


async def test_empty_tenant_is_sound(service: Service) -> None:
    assert (await verify(service)).sound


DAMAGES = {
    "count": ("profile_counts", "UPDATE user_profiles SET interaction_count = 9", 3),
    "user without a profile": ("profile_counts", "DELETE FROM user_profiles", 3),
    "profile of nobody": (
        "profile_counts",
        "INSERT INTO user_profiles (tenant_id, user_id, landmark, interaction_count)"
        " VALUES ('a', 'nobody', now(), 2)",
        1,
    ),
    "direction": (
        "profile_accumulators",
        "UPDATE user_profiles SET accumulator = (SELECT o.accumulator FROM user_profiles o"
        " WHERE o.user_id = 'cat') WHERE user_id = 'ada'",
        1,
    ),
    "scale": (
        "profile_accumulators",
        "UPDATE user_profiles SET accumulator = penchant_scale(accumulator, 1.01)",
        3,
    ),
    "no accumulator": ("profile_accumulators", "UPDATE user_profiles SET accumulator = NULL", 3),
    "landmark": (
        "profile_accumulators",
        "UPDATE user_profiles SET landmark = landmark - interval '1 day' WHERE user_id = 'ben'",
        1,
    ),
    "key": (
        "idempotency_keys",
        "DELETE FROM interaction_keys WHERE interaction_id = (SELECT min(interaction_id)"
        " FROM interactions)",
        1,
    ),
    "logged changes": (
        "orphans",
        "INSERT INTO placement_changes (tenant_id, entity_type, entity_id) VALUES ('a', 'x', 'y')",
        1,
    ),
    "version of no model": ("orphans", "DELETE FROM models", 1),
    "problem": ("serving_version", "UPDATE ml_models SET problem = 'torn'", 1),
}


@pytest.mark.parametrize(("check", "damage", "count"), DAMAGES.values(), ids=DAMAGES)
async def test_damage_is_found(stocked: Service, check: str, damage: str, count: int) -> None:
    await execute(stocked, damage)
    found = await problems(stocked)
    assert found[check][0] == count
    # A profile that is gone has no accumulator to compare.
    assert set(found) == {check}
    assert not {"ada", "ben", "cat", "nobody"} & set(found[check][1])
    if check.startswith("profile"):
        assert all(example.startswith("user:") for example in found[check][1])
    else:
        assert len(found[check][1]) == 1


async def test_artefact_that_is_damaged_is_found(stocked: Service) -> None:
    (digest,) = artefacts_of(stocked).hashes()
    path = artefacts_of(stocked).path(digest)
    sound = path.read_bytes()

    path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    flipped = {"model_artefacts": (1, ["main@1: the content does not have its checksum"])}
    assert await problems(stocked) == flipped
    path.write_bytes(sound[:-1])
    short = f"main@1: {len(sound) - 1} bytes in place of {len(sound)}"
    assert await problems(stocked) == {"model_artefacts": (1, [short])}
    path.unlink()
    missing = {"model_artefacts": (1, ["main@1: the file is missing"])}
    assert await problems(stocked) == missing
    await execute(stocked, "UPDATE ml_models SET is_active = false")
    assert set(await problems(stocked)) == {"serving_version"}


async def test_entities_that_were_changed_since_say_nothing_about_profiles(
    stocked: Service,
) -> None:
    await stocked.put("b00", title="Another")
    await stocked.put("b01", title="Another")
    await stocked.did("dora", "b59")
    await stocked.did("dora", "not there yet")
    found = await examined(stocked)
    assert (found["profile_counts"], found["profile_accumulators"]) == (4, 1)
    assert await problems(stocked) == {}


async def test_writers_give_no_false_alarm(stocked: Service) -> None:
    stop = asyncio.Event()
    written = 0

    async def write(number: int) -> None:
        nonlocal written
        while not stop.is_set():
            places = range(written, written + 4)
            await asyncio.gather(
                *(stocked.did(f"u{number}-{written % 7}", f"b{n % 60:02}") for n in places)
            )
            written += 1

    async def change() -> None:
        while not stop.is_set():
            await stocked.put(f"b{written % 60:02}", title=f"Book {written}")
            delete = interaction_pb2.DeleteInteractionsRequest(user_id=f"u0-{written % 7}")
            await stocked.call("DeleteInteractions", delete)
            await asyncio.sleep(0.02)

    writing = [asyncio.create_task(work) for work in (write(0), write(1), change())]
    for _ in range(8):
        assert await problems(stocked) == {}
    stop.set()
    await asyncio.gather(*writing)
    assert written > 10
    assert await problems(stocked) == {}


async def test_own_placement_is_examined(stocked: Service) -> None:
    await stocked.call("PlaceTenant", pb.PlaceTenantRequest(tenant_id="a"), None)
    await stocked.run_jobs()
    assert await problems(stocked) == {}

    placement = (await stocked.deps.tenants.reread("a")).placement
    row = "INSERT INTO entities (placement, tenant_id, entity_type, entity_id) VALUES"
    await execute(stocked, f"{row} (0, 'a', 'book', 'astray'), ({placement}, 'b', 'book', 'guest')")
    astray = ["entities of others in the placement: 1", "entities outside the placement: 1"]
    assert await problems(stocked) == {"orphans": (2, astray)}


async def test_what_is_left_of_an_erased_user_is_found(stocked: Service) -> None:
    await stocked.call("EraseUser", privacy_pb2.EraseUserRequest(user_id="ada"))
    assert await problems(stocked) == {}
    await execute(
        stocked,
        "UPDATE interactions SET user_id = 'ada' WHERE user_id = 'ben'",
        "UPDATE user_profiles SET user_id = 'ada' WHERE user_id = 'ben'",
    )
    # It could be an erasure that is still under way.
    assert await problems(stocked) == {}
    await execute(stocked, "UPDATE erased_users SET erased_at = now() - interval '1 hour'")
    found = await problems(stocked)
    assert (set(found), found["tombstones"][0]) == ({"tombstones"}, 1)
    await execute(stocked, "UPDATE erased_users SET readmitted = true")
    assert await problems(stocked) == {}


async def test_tenant_that_does_not_exist_cannot_be_verified(service: Service) -> None:
    request = pb.VerifyIntegrityRequest(tenant_id="nobody")
    refusal = await service.refused("VerifyIntegrity", request, None)
    assert (refusal.code, refusal.reason) == ("NOT_FOUND", "TENANT_NOT_FOUND")
    refusal = await service.refused("VerifyIntegrity", pb.VerifyIntegrityRequest(), None)
    assert (refusal.code, list(refusal.fields)) == ("INVALID_ARGUMENT", ["tenant_id"])
