"""Connecting to whichever host of a URL is the primary."""

import asyncio
import os
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import asyncpg

from storage.driver_types import OwnConnection

_HEAD_START_SECS = 0.5  # of the host that was the primary last


class Hosts:
    """The hosts of a PostgreSQL URL: `postgresql://a:5432,b:5432/name`, or `?host=a,b&port=1,2`.

    With several hosts only a primary is connected to, unless the URL says otherwise
    (`target_session_attrs`). The one that was the primary last is asked first; when it refuses, or
    has not answered in half a second, the next is asked beside it, so that a host that hangs holds
    nobody up. Names are looked up for every connection.
    """

    def __init__(self, url: str) -> None:
        self._urls = _single(url)
        self._latest = 0
        chosen = "target_session_attrs" in url or "PGTARGETSESSIONATTRS" in os.environ
        self._options: dict[str, Any] = (
            {} if chosen or len(self._urls) == 1 else {"target_session_attrs": "primary"}
        )
        self.one_server = not chosen
        """Whether all connections lead to one server, but for a failover."""

    async def connect(self, *_: object, **options: Any) -> OwnConnection:
        """A connection, with asyncpg's options; raises what the first host answered."""
        left = [self._latest, *(n for n in range(len(self._urls)) if n != self._latest)]
        asked: dict[asyncio.Task[OwnConnection], int] = {}
        errors: list[BaseException] = []
        try:
            while left or asked:
                if left:
                    host = left.pop(0)
                    asked[asyncio.create_task(self._connect(host, options))] = host
                done, _pending = await asyncio.wait(
                    asked,
                    timeout=_HEAD_START_SECS if left else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    error = task.exception()
                    if error is None:
                        self._latest = asked.pop(task)
                        return task.result()
                    del asked[task]
                    errors.append(error)
        finally:
            for task in asked:
                task.cancel()
                task.add_done_callback(_drop)
        raise errors[0]

    async def _connect(self, host: int, options: dict[str, Any]) -> OwnConnection:
        return await asyncpg.connect(self._urls[host], **self._options, **options)


def _drop(late: asyncio.Task[OwnConnection]) -> None:
    if not late.cancelled() and late.exception() is None:
        late.result().terminate()


def _single(url: str) -> tuple[str, ...]:
    parts = urlsplit(url)
    login, at, hosts = parts.netloc.rpartition("@")
    if "," in hosts:
        return tuple(
            parts._replace(netloc=f"{login}{at}{host}").geturl() for host in hosts.split(",")
        )
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    listed = query.pop("host", "").split(",")
    if hosts or len(listed) == 1:
        return (url,)
    ports = query.pop("port", "").split(",")
    ports = ports if len(ports) == len(listed) else ports * len(listed)
    return tuple(
        parts._replace(
            query=urlencode(query | {"host": host} | ({"port": port} if port else {}))
        ).geturl()
        for host, port in zip(listed, ports, strict=True)
    )
