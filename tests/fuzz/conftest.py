"""`penchant serve` with one worker over servers of the session, to be sent nonsense."""

import asyncio

import pytest

from server.settings import Settings
from tests.rpc.conftest import settings_for
from tests.service.conftest import services  # noqa: F401 - a fixture
from tests.service.processes import RunningService, Services


@pytest.fixture
async def served(
    services: Services,  # noqa: F811 - the fixture
    database_url: str,
    redis_url: str,
) -> RunningService:
    """One worker without background jobs; its log holds only what is wrong."""
    service = services.launch(
        "--workers",
        "1",
        DATABASE_URL=database_url,
        REDIS_URL=redis_url,
        PENCHANT_DATA_DIR=str(services.home / "data"),
        PENCHANT_JOBS_ENABLED="false",
        PENCHANT_LOG_FORMAT="json",
    )
    await asyncio.to_thread(service.wait_ready)
    return service


@pytest.fixture
def settings(services: Services, database_url: str, redis_url: str) -> Settings:  # noqa: F811
    """The settings of that service, for what runs beside it."""
    return settings_for(database_url, redis_url, services.home / "data")
