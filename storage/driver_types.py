"""asyncpg's classes under one name each: generic for the type checker, plain when they run."""

from typing import TYPE_CHECKING, TypeAlias

import asyncpg
import asyncpg.pool

if TYPE_CHECKING:
    OwnConnection: TypeAlias = asyncpg.Connection[asyncpg.Record]
    Connection: TypeAlias = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]
else:
    OwnConnection = asyncpg.Connection
    Connection = asyncpg.pool.PoolConnectionProxy
    Pool = asyncpg.Pool

__all__ = ["Connection", "OwnConnection", "Pool"]
