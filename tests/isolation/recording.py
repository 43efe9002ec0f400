"""The record of a run: what tenant A was told, step by step, while B did what a world says."""

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pool, message_factory, text_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.rpc import status_pb2
from penchant.v1 import api_key_pb2
from pydantic import SecretStr

from engine.access import OPERATOR
from jobs.trainer import carry_out
from jobs.trainer_processes import Order
from server.method_access import needed_scope
from server.wiring import SERVICES
from storage.operations import OperationStore
from tests.isolation.actors import Actor, Requests, Step, Work
from tests.isolation.cases import FIRST, LAST, STEPS
from tests.isolation.masks import Masks
from tests.rpc.conftest import Service, settings_for
from tests.rpc.keys import metadata_of

_DETAILS = "grpc-status-details-bin"
_REQUEST_ID = "x-request-id"
_LEASE_SECS = 60.0


@dataclass(frozen=True, slots=True)
class Told:
    """What a call was told.

    Attributes:
        answers: its messages.
        error: its code, message, details and trailing metadata; None when there was none.
    """

    answers: tuple[Any, ...]
    error: "Failure | None" = None


@dataclass(frozen=True, slots=True)
class Failure:
    """How a call failed, with all that the wire says of it."""

    code: str
    message: str
    details: bytes
    trailing: tuple[tuple[str, str], ...]

    @property
    def status(self) -> status_pb2.Status:
        """The details as a message."""
        return status_pb2.Status.FromString(self.details)


@dataclass(frozen=True, slots=True)
class Entry:
    """One step of a record: the masked bytes, and the same for a person."""

    label: str
    told: bytes
    text: str


@dataclass
class Record:
    """Everything that A was told in a run."""

    entries: list[Entry] = field(default_factory=list)
    masks: Masks = field(default_factory=Masks)
    errors: list[str] = field(default_factory=list)

    def add(self, label: str, told: Told) -> None:
        """Appends what a call was told."""
        parts: list[bytes] = []
        texts: list[str] = []
        for answer in _whole(told.answers):
            copy = type(answer)()
            copy.CopyFrom(answer)
            self._append(self.masks.message(copy), parts, texts)
        if (error := told.error) is not None:
            self.errors.append(label)
            texts.append(f"{error.code} {self.masks.text(error.message)} {error.trailing}")
            parts.append(texts[-1].encode())
            self._append(self.masks.message(error.status), parts, texts)
        self.entries.append(Entry(label, b"\0".join(parts), "\n".join(texts)))

    @staticmethod
    def _append(message: Message, parts: list[bytes], texts: list[str]) -> None:
        parts.append(message.SerializeToString(deterministic=True))
        texts.append(text_format.MessageToString(message))


def _whole(answers: Sequence[Any]) -> Iterator[Any]:
    """The answers, the chunks of an export as one."""
    chunks = [one for one in answers if one.DESCRIPTOR.name == "ExportModelResponse" and one.chunk]
    yield from (one for one in answers if one not in chunks)
    if chunks:
        yield type(chunks[0])(chunk=b"".join(one.chunk for one in chunks))


class Caller:
    """Calls methods by name with a key."""

    def __init__(self, service: Service, operator: str = "") -> None:
        self.service = service
        self.operator = operator

    async def call(
        self,
        method: str,
        requests: Requests,
        key: str | None,
        *,
        tenant: str | None = None,
        request_id: str = "",
    ) -> Told:
        """One call of a method of whichever kind."""
        found = method_of(method)
        sent = [requests] if isinstance(requests, Message) else list(requests)
        metadata = [*metadata_of(key, tenant), (_REQUEST_ID, request_id or "none")]
        start: Any = self.service.channel.stream_stream(path_of(found))
        call = start(
            iter([one.SerializeToString(deterministic=True) for one in sent]),
            metadata=metadata,
            timeout=60,
        )
        kind = message_factory.GetMessageClass(found.output_type)
        answers: list[Any] = []
        try:
            async for answer in call:
                answers.append(kind.FromString(answer))
        except grpc.aio.AioRpcError as error:
            return Told(tuple(answers), _failure(error))
        return Told(tuple(answers))

    async def step(self, one: Step, actor: Actor) -> Told:
        """A step of an actor's; its answer is kept for the steps that follow."""
        by_operator = one.operator or is_operators(one.method)
        key = self.operator if by_operator else actor.secret
        told = await self.call(
            one.method, one.make(actor), key, request_id=one.label.replace(" ", "-")
        )
        streams = method_of(one.method).server_streaming
        if told.error is None:
            actor.answers[one.label] = list(told.answers) if streams else told.answers[0]
        return told

    async def work(self, what: str) -> None:
        """What happens in the background, for all tenants."""
        if what == "jobs":
            await self.service.run_jobs()
            return
        deps = self.service.deps
        store = OperationStore(deps.maintenance, deps.maintenance)
        while (claimed := await store.claim("worker", _LEASE_SECS)) is not None:
            order = Order("", claimed.operation_id, "worker", _LEASE_SECS, os.getpid())
            await carry_out(self.service.settings, order)


def method_of(name: str) -> MethodDescriptor:
    """The descriptor of a method by its full name."""
    return descriptor_pool.Default().FindMethodByName(name)


def path_of(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def every_method() -> set[str]:
    """The full names of all methods of the server's services."""
    pool = descriptor_pool.Default()
    return {m.full_name for name, _, _ in SERVICES for m in pool.FindServiceByName(name).methods}


def is_operators(method: str) -> bool:
    """Whether only the operator may call a method."""
    service, _, name = method.rpartition(".")
    return needed_scope(service, name) == OPERATOR


def _failure(error: grpc.aio.AioRpcError) -> Failure:
    trailing = dict(error.trailing_metadata() or ())
    details = trailing.pop(_DETAILS, b"")
    trailing.pop(_REQUEST_ID, None)
    assert isinstance(details, bytes)
    return Failure(
        error.code().name,
        error.details() or "",
        details,
        tuple(sorted((str(k), str(v)) for k, v in trailing.items())),
    )


async def operator_key(service: Service) -> str:
    """The first key, made by anybody, after which no call is anonymous."""
    request = api_key_pb2.CreateApiKeyRequest()
    request.api_key.scopes.append(OPERATOR)
    made = await Caller(service).call("penchant.v1.ApiKeyService.CreateApiKey", request, None)
    assert made.error is None, made.error
    return str(made.answers[0].secret)


def key_id_of(secret: str) -> str:
    """The visible part of a key."""
    return secret.split("_")[1]


def settings_of(database_url: str, redis_url: str, data_dir: Path) -> Any:
    """Settings of every run: one pepper, no sampling, no haste with the cache."""
    settings = settings_for(database_url, redis_url, data_dir)
    fixed = {
        "cache": settings.cache.model_copy(update={"operation_timeout_ms": 10_000}),
        "key_pepper": SecretStr("the pepper of the tests of isolation"),
        "answer_log_sample": 0.0,
        "result_cache_ttl_secs": 3600.0,
    }
    return settings.model_copy(update=fixed)


def nothing(one: Step | Work) -> bool:
    """B is there and has nothing."""
    return one in FIRST


def everything(one: Step | Work) -> bool:
    """B does all that A does."""
    return True


def all_but_the_end(one: Step | Work) -> bool:
    """B does all that A does, but it is not erased."""
    return one not in LAST


async def recorded(
    caller: Caller,
    a: Actor,
    b: Actor,
    does: Callable[[Step | Work], bool],
    steps: Iterable[Step | Work] = STEPS,
    *,
    at_once: bool = False,
) -> Record:
    """Carries out the steps for A; before each, B does the same where `does` says so.

    Args:
        at_once: B does it while A does; but it is there first.

    Raises:
        AssertionError: a step of B's ended in another way than A's.
    """
    record = Record()
    record.masks.stand_in("key", key_id_of(caller.operator))
    for one in steps:
        if isinstance(one, Work):
            await caller.work(one.what)
            continue
        calls = [caller.step(one, who) for who in (b, a) if who is a or does(one)]
        if at_once and one not in FIRST:
            told = await asyncio.gather(*calls)
        else:
            told = [await call for call in calls]
        record.add(one.label, told[-1])
        codes = {None if t.error is None else t.error.code for t in told}
        assert len(codes) == 1, (one.label, told[0].error)
    return record
