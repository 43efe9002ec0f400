"""Callers who allow older answers get them while PostgreSQL is away, and new ones after that."""

import os
import signal
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from tests.faults.backends import Backends
from tests.faults.test_postgres_faults import away, storable
from tests.rpc.conftest import ids, running, settings_for
from tests.waiting import until

pytestmark = pytest.mark.timeout(180)


async def test_older_answer_goes_before_a_degraded_one_while_postgres_is_stopped(
    broken_url: str, backends: Backends, tmp_path: Path
) -> None:
    allowed = Duration(seconds=600)
    async with running(settings_for(broken_url, backends.redis_url, tmp_path)) as service:
        for number in range(12):
            await service.put(f"b{number:02}", genre="sf")
        first = await service.recommend("ada", page_size=5, max_staleness=allowed)
        os.kill(backends.postgres, signal.SIGINT)
        await away(service)
        older = await service.recommend("ada", page_size=5, max_staleness=allowed)
        assert (older.stale, ids(older), list(older.degraded)) == (True, ids(first), [])
        assert list((await service.recommend("ada", page_size=5)).degraded) == ["postgresql"]
        await backends.start_again()

        await until(lambda: storable(service))
        await service.did("ada", ids(first)[0])

        async def anew() -> bool:
            answer = await service.recommend("ada", page_size=5, max_staleness=allowed)
            return not answer.stale and ids(first)[0] not in ids(answer)

        await until(anew)
