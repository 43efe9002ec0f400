"""What a restored backup brings back of erased users is removed again."""

from datetime import UTC, datetime, timedelta

from engine.tombstones import Tombstones
from jobs.context import JobContext
from jobs.registry import run_once
from jobs.tombstones import enforce_tombstones
from tests.jobs.conftest import Shop


async def erase(context: JobContext, shop: Shop, user_id: str, *, readmit: bool = False) -> bytes:
    hashed = Tombstones(context.secret).hash("shop", user_id)
    await context.erasures.refuse(shop.tenant, hashed)
    await context.erasures.remove(await shop.reread(), user_id, hashed, readmit=readmit)
    return hashed


async def restore(context: JobContext, user_id: str, at: datetime) -> None:
    """Puts rows back behind the service's back, as a restored backup does."""
    async with context.maintenance.connection(None) as connection:
        await connection.execute(
            "INSERT INTO interactions (tenant_id, interaction_id, user_id, entity_type, entity_id,"
            ' interaction_type, weight, "timestamp")'
            " VALUES ('shop', 'old-' || $1, $1, 'item', 'i', 'view', 1, $2)",
            user_id,
            at,
        )
        await connection.execute(
            "INSERT INTO user_profiles (tenant_id, user_id, landmark) VALUES ('shop', $1, now())",
            user_id,
        )


async def users(shop: Shop) -> set[tuple[object, ...]]:
    return {
        *await shop.rows("SELECT 'interactions', user_id FROM interactions WHERE tenant_id = $1"),
        *await shop.rows("SELECT 'user_profiles', user_id FROM user_profiles WHERE tenant_id = $1"),
    }


async def test_erased_users_who_came_back_are_removed(context: JobContext, shop: Shop) -> None:
    await erase(context, shop, "ada")
    await shop.rows("UPDATE tenants SET has_erased_users = false WHERE tenant_id = $1")
    yesterday = datetime.now(UTC) - timedelta(days=1)
    await restore(context, "ada", yesterday)
    await restore(context, "bob", yesterday)
    await run_once(context, ["retention"])
    assert await users(shop) == {("interactions", "bob"), ("user_profiles", "bob")}
    assert (await shop.reread()).has_erased_users


async def test_readmitted_users_keep_what_is_newer(context: JobContext, shop: Shop) -> None:
    await erase(context, shop, "ada", readmit=True)
    await restore(context, "ada", datetime.now(UTC) - timedelta(days=1))
    await shop.rows(
        "INSERT INTO interactions (tenant_id, interaction_id, user_id, entity_type, entity_id,"
        ' interaction_type, weight, "timestamp")'
        " VALUES ($1, 'new', 'ada', 'item', 'i', 'view', 1, now() + interval '1 hour')"
    )
    await enforce_tombstones(context)
    left = await shop.rows("SELECT interaction_id FROM interactions WHERE tenant_id = $1")
    assert left == [("new",)]


async def test_they_are_looked_for_once_a_day(context: JobContext, shop: Shop) -> None:
    await erase(context, shop, "ada")
    await enforce_tombstones(context)
    await restore(context, "ada", datetime.now(UTC))
    await enforce_tombstones(context)
    assert ("interactions", "ada") in await users(shop)
