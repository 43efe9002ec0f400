"""Where a server listens: 127.0.0.2 stands for an address that others can reach."""

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from engine.access import ANONYMOUS
from server.deps import Deps, connect
from server.settings import Settings
from server.wiring import build_server
from storage.api_keys import KeyDraft
from storage.config import DatabaseConfig, RedisCacheConfig


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(
        host="0.0.0.0",
        port=0,
        data_dir=tmp_path,
        database=DatabaseConfig(url=SecretStr(database_url), min_connections=1),
        cache=RedisCacheConfig(),
    )


@pytest.fixture
async def deps(settings: Settings) -> AsyncIterator[Deps]:
    async with connect(settings) as deps:
        yield deps


async def reached_from_elsewhere(settings: Settings, deps: Deps) -> bool:
    server = build_server(settings, deps)
    port = await server.start()
    try:
        with socket.socket() as here, socket.socket() as elsewhere:
            assert here.connect_ex(("127.0.0.1", port)) == 0
            return elsewhere.connect_ex(("127.0.0.2", port)) == 0
    finally:
        await server.stop(0)


async def test_server_is_for_this_machine_until_a_key_was_made(
    settings: Settings, deps: Deps
) -> None:
    assert not await reached_from_elsewhere(settings, deps)
    key, _ = await deps.keys.make(KeyDraft("", "", ("operator",), None), ANONYMOUS)
    assert await reached_from_elsewhere(settings, deps)
    await deps.keys.revoke("", key.key_id, ANONYMOUS)
    assert await reached_from_elsewhere(settings, deps)
