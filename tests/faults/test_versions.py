"""The last released version and this one serve side by side, across this one's migrations."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.harness import RECONNECT_SECS, ROOT, World, world_on_own_servers
from tests.faults.ledger import Ledger
from tests.faults.load import Load, add_films, under_load
from tests.faults.report import note
from tests.service.processes import RunningService, free_port
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("survival"), pytest.mark.timeout(600)]


def git(*arguments: str) -> str:
    """What git says of this repository; nothing where there is none."""
    done = subprocess.run(
        ["git", "-C", str(ROOT), *arguments], check=False, capture_output=True, text=True
    )
    return done.stdout.strip()


def last_version() -> str:
    """The newest v* tag, or what OLD names; nothing while there is neither."""
    tags = git("tag", "--list", "v*", "--sort=-version:refname").splitlines()
    return os.environ.get("OLD") or next(iter(tags), "")


@pytest.fixture
def old_tree(tmp_path: Path) -> Path:
    """The code of the last version."""
    version = last_version()
    if not version:
        pytest.skip("no version is tagged yet (v*), so there is none to run beside; OLD names one")
    tree = tmp_path / "old"
    tree.mkdir()
    packed = subprocess.run(
        ["git", "-C", str(ROOT), "archive", version], check=True, capture_output=True
    )
    subprocess.run(["tar", "-x", "-C", str(tree)], input=packed.stdout, check=True)
    return tree


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with world_on_own_servers(tmp_path / "world") as world:
        yield world


async def test_last_version_and_this_one_serve_side_by_side(
    old_tree: Path, world: World, request: pytest.FixtureRequest
) -> None:
    one, two = free_port(), free_port()
    old = await world.serve(workers=1, port=one, tree=old_tree)
    await add_films(old.target)
    ledger = Ledger("two-versions")
    async with under_load(f"ipv4:127.0.0.1:{one},127.0.0.1:{two}", ledger, world.chance) as load:
        new = await world.serve(workers=1, port=two)  # migrates under the old one
        await side_by_side(world, load)
        await stop(world, old)
        # The way back: the schema stays, the code is the old one again.
        old = await world.serve(workers=1, port=one, tree=old_tree, AUTO_RUN_MIGRATIONS="false")
        await side_by_side(world, load)
        await stop(world, new)
        await load.advanced(10)
    row = await ledger.settle(world.database_url, "two versions", 1)
    note(request, row)
    told = f"{ledger.failed} {ledger.wrong[:5]}"
    assert (row.lost, row.doubled, row.wrong, row.failed) == (0, 0, 0, 0), told


async def side_by_side(world: World, load: Load) -> None:
    """Until clients know both, and both have worked."""
    await until(world.healthy)
    await asyncio.sleep(RECONNECT_SECS)
    await load.advanced(20)


async def stop(world: World, instance: RunningService) -> None:
    world.instances.remove(instance)
    assert await asyncio.to_thread(instance.stop) == 0
