"""B's key reads nothing of A by any method: A's names are as good as names that nobody has."""

import asyncio
import random
import statistics
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf import message_factory
from penchant.v1 import model_pb2, recommendation_pb2

from engine.page_tokens import encode_token
from tests.isolation.actors import Actor, full_name
from tests.isolation.cases import BY_LABEL, FIRST, STEPS
from tests.isolation.foreign import NAMELESS, READS, WRITES, Attempt
from tests.isolation.masks import Masks, token_parts
from tests.isolation.recording import (
    Caller,
    Record,
    Told,
    every_method,
    is_operators,
    method_of,
    operator_key,
    recorded,
    settings_of,
)
from tests.isolation.shop import imported
from tests.rpc.conftest import running
from tests.rpc.test_access import tenant_paths

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("isolation_foreign"),
]

_LEFT_OUT = {"CleanUpEmbeddings", "DeleteVersion", "CleanUpModels", "DeleteModel"}
_UNHARMED = (
    "GetTenant",
    "ListEntities",
    "more entities",
    "an entity's interactions",
    "more interactions",
    "Recommend",
    "GetRecommendation",
    "GetOperation",
    "GetModel",
    "ListVersions",
    "GetErasureReceipt",
    "ListApiKeys",
)


@dataclass
class Neighbours:
    """A server with two tenants: A has everything, B a few things of its own."""

    caller: Caller
    a: Actor
    b: Actor
    before: Record = field(default_factory=Record)

    async def look(self) -> Record:
        """What A is told of its own things."""
        seen = Record()
        for label in _UNHARMED:
            one = BY_LABEL[label]
            told = await self.caller.call(one.method, one.make(self.a), self.a.secret)
            assert told.error is None, label
            seen.add(label, told)
        return seen

    async def tell(self, attempt: Attempt, name: str, who: Actor) -> Told:
        """What a tenant is told of a name."""
        return await self.caller.call(attempt.method, attempt.ask(name, who), who.secret)


def steps_of_a() -> list[Any]:
    """What A does: all but what takes its things away again."""
    kept = [one for one in STEPS if getattr(one, "label", "") not in _LEFT_OUT]
    return [*kept[: kept.index(BY_LABEL["GetApiKey"])], BY_LABEL["RotateApiKey"]]


def is_data(one: Any) -> bool:
    """What B does too, with names of its own."""
    return getattr(one, "label", "") in {"BatchUpsertEntities", "IngestInteractions"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def neighbours(
    module_database_url: str, redis_server: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Neighbours]:
    data_dir: Path = tmp_path_factory.mktemp("data")
    async with running(settings_of(module_database_url, redis_server, data_dir)) as service:
        caller = Caller(service, await operator_key(service))
        a, b = Actor("acme", prefix="ac-"), Actor("bolt", prefix="bo-", seed=2)
        await recorded(caller, a, b, lambda one: one in FIRST or is_data(one), steps_of_a())
        found = Neighbours(caller, a, b)
        found.before = await found.look()
        yield found


def shown(told: Told, name: str) -> bytes:
    """All that a call was told, with one word for a name."""
    bare = name.removeprefix("operations/").partition("@")[0]
    record = Record(masks=Masks({bare: "NAME"}))
    record.add("", told)
    return record.entries[0].told


def ids_of(attempts: tuple[Attempt, ...]) -> list[str]:
    return [f"{one.method.rpartition('.')[2]}-{n}" for n, one in enumerate(attempts)]


async def test_every_method_is_tried() -> None:
    """With a name of A's, or the tenant's alone, or without any; or it is the operator's."""
    tried = {one.method for one in READS + WRITES} | NAMELESS.keys()
    rest = {m for m in every_method() - tried if not is_operators(m)}
    assert {m for m in rest if not tenant_paths(method_of(m).input_type)} == set()


@pytest.mark.parametrize("attempt", READS, ids=ids_of(READS))
async def test_another_tenants_names_read_like_none(
    neighbours: Neighbours, attempt: Attempt
) -> None:
    """Just after A has asked the same and was told what it has."""
    theirs = attempt.theirs(neighbours.a)
    mine = await neighbours.tell(attempt, theirs, neighbours.a)
    assert mine.error is None, mine.error
    told = await told_alike(neighbours, attempt)
    assert shown(told, theirs) != shown(mine, theirs)


async def told_alike(n: Neighbours, attempt: Attempt) -> Told:
    """What B is told of A's name: the same as of one that nobody has."""
    theirs = attempt.theirs(n.a)
    absent = attempt.absent(theirs)
    assert absent != theirs
    told = await n.tell(attempt, theirs, n.b)
    assert shown(told, theirs) == shown(await n.tell(attempt, absent, n.b), absent)
    return told


async def test_lists_hold_nothing_of_another_tenant(neighbours: Neighbours) -> None:
    a, b = neighbours.a, neighbours.b
    for method in NAMELESS:
        request = message_factory.GetMessageClass(method_of(method).input_type)()
        theirs, told = [
            (await neighbours.caller.call(method, request, who.secret)).answers for who in (a, b)
        ]
        assert b"ac-" not in b"".join(one.SerializeToString() for one in told), method
        assert theirs


PAGED = {
    method.rpartition(".")[2]: method
    for method in sorted(every_method())
    if "page_token" in method_of(method).input_type.fields_by_name and not is_operators(method)
}


def first_page(n: Neighbours, method: str) -> Any:
    """A request whose first page of A's is not the last."""
    request: Any = message_factory.GetMessageClass(method_of(method).input_type)()
    known: dict[str, Any] = {
        "tenant_id": n.a.tenant,
        "user_id": n.a.user(1),
        "entity_type": "book",
        "name": "" if method.startswith("google.") else n.a.name("main"),
        "include_seen": True,
    }
    for part, value in known.items():
        if part in request.DESCRIPTOR.fields_by_name:
            setattr(request, part, value)
    if method.endswith(("SimilarEntities", "RecommendUsers")):
        request.entity.CopyFrom(n.a.book(3))
    request.page_size = 1
    return request


async def token_of_a(n: Neighbours, method: str) -> tuple[Any, str]:
    request = first_page(n, method)
    told = await n.caller.call(method, request, n.a.secret)
    assert told.error is None, told.error
    assert told.answers[0].next_page_token
    return request, told.answers[0].next_page_token


@pytest.mark.parametrize("name", PAGED)
async def test_page_tokens_of_another_tenant_are_refused(neighbours: Neighbours, name: str) -> None:
    """Like tokens that belong to no request at all."""
    n = neighbours
    request, token = await token_of_a(n, PAGED[name])
    if "tenant_id" in request.DESCRIPTOR.fields_by_name:
        request.tenant_id = n.b.tenant
    _, kind, _, payload = token_parts(token)
    nobodys = encode_token(kind, random.randbytes(8), payload, time.time())
    told = []
    for one in (token, nobodys):
        request.page_token = one
        told.append(await n.caller.call(PAGED[name], request, n.b.secret))
    assert told[0].error is not None
    assert told[0] == told[1]
    assert told[0].error.code == "INVALID_ARGUMENT"


async def test_freshness_tokens_of_another_tenant_are_refused(neighbours: Neighbours) -> None:
    n = neighbours
    token = n.a.answers["IngestInteraction"].ack.freshness_token
    request = recommendation_pb2.RecommendRequest(at_least_as_fresh=token)
    told = await n.caller.call(PAGED["Recommend"], request, n.b.secret)
    assert told.error is not None
    assert told.error.code == "INVALID_ARGUMENT"


@pytest.mark.parametrize("name", ["Recommend", "SimilarEntities", "Trending"])
async def test_forged_page_tokens_bring_nothing_of_another_tenant(
    neighbours: Neighbours, name: str
) -> None:
    """A token of B's own request with A's list in it."""
    n = neighbours
    _, theirs = await token_of_a(n, PAGED[name])
    _, kind, _, payload = token_parts(theirs)
    request: Any = message_factory.GetMessageClass(method_of(PAGED[name]).input_type)(page_size=1)
    if name == "SimilarEntities":
        request.entity.CopyFrom(n.b.book(1))
    mine = await n.caller.call(PAGED[name], request, n.b.secret)
    assert mine.error is None
    _, _, hashed, _ = token_parts(mine.answers[0].next_page_token)
    request.page_token = encode_token(kind, hashed, payload, time.time())
    told = await n.caller.call(PAGED[name], request, n.b.secret)
    assert told.error is None
    assert b"title" not in told.answers[0].SerializeToString()
    assert b"ac-" not in told.answers[0].SerializeToString()


async def test_operators_methods_are_refused(neighbours: Neighbours) -> None:
    n = neighbours
    tried = 0
    for method in sorted(every_method()):
        if not is_operators(method):
            continue
        for tenant in (n.a.tenant, n.b.tenant, "nobody"):
            tried += 1
            told = await n.caller.call(method, naming(method, tenant), n.b.secret)
            assert told.error is not None, method
            assert told.error.code == "PERMISSION_DENIED", method
            assert told == await n.caller.call(method, naming(method, ""), n.b.secret)
    assert tried > 30


def naming(method: str, tenant: str) -> Any:
    """A request that names a tenant wherever it can."""
    request: Any = message_factory.GetMessageClass(method_of(method).input_type)()
    for path in tenant_paths(method_of(method).input_type):
        target = request
        for part in path[:-1]:
            target = getattr(target, part)
        setattr(target, path[-1], tenant)
    return request


async def test_other_tenants_are_refused_alike_whether_they_exist(neighbours: Neighbours) -> None:
    """In the request and in x-tenant-id, of every method."""
    n = neighbours
    for method in sorted(every_method()):
        told = [
            await n.caller.call(method, naming(method, t), n.b.secret, tenant=header)
            for t, header in ((n.a.tenant, None), ("none", None))
        ]
        if tenant_paths(method_of(method).input_type):
            assert told[0].error is not None, method
            assert told[0] == told[1], method
            assert told[0].error.code == "PERMISSION_DENIED", method
        told = [
            await n.caller.call(method, naming(method, n.b.tenant), n.b.secret, tenant=header)
            for header in (n.a.tenant, "none")
        ]
        assert told[0].error is not None, method
        assert told[0] == told[1], method
        assert told[0].error.code == "PERMISSION_DENIED", method


async def test_another_tenants_key_id_opens_nothing(neighbours: Neighbours) -> None:
    n = neighbours
    _, key_id, secret = n.b.secret.split("_", 2)
    method = "penchant.v1.EntityService.ListEntities"
    told = [
        await n.caller.call(method, naming(method, ""), f"pk_{one}_{secret}")
        for one in (n.a.secret.split("_")[1], key_id[::-1])
    ]
    assert told[0].error is not None
    assert told[0] == told[1]
    assert told[0].error.code == "UNAUTHENTICATED"


def asks_for_tenant(name: str, who: Actor) -> Any:
    return naming(full_name("AdminService.GetTenant"), name)


TIMED = {
    "GetTenant": Attempt(
        full_name("AdminService.GetTenant"), asks_for_tenant, lambda a: a.tenant, lambda n: "none"
    )
} | {
    f"{one.method.rpartition('.')[2]}": one
    for one in READS
    if one.method.rpartition(".")[2]
    in {"GetEntity", "GetModel", "GetRecommendation", "GetErasureReceipt", "GetOperation"}
    or one.method.endswith(("SimilarUsers", "GetApiKey"))
}


@pytest.mark.parametrize("name", TIMED)
async def test_not_found_takes_as_long_whether_another_has_it(
    neighbours: Neighbours, name: str
) -> None:
    """Medians of calls in turns; what a busy machine does to one try it does not do to three."""
    attempt = TIMED[name]
    theirs = attempt.theirs(neighbours.a)
    absent = attempt.absent(theirs)
    ratios = []
    for _ in range(3):
        seconds: dict[str, list[float]] = {theirs: [], absent: []}
        for _ in range(200):
            for one in random.sample([theirs, absent], 2):
                began = time.perf_counter()
                told = await neighbours.tell(attempt, one, neighbours.b)
                seconds[one].append(time.perf_counter() - began)
                assert told.error is not None
        ratios.append(statistics.median(seconds[theirs]) / statistics.median(seconds[absent]))
        if 0.67 <= ratios[-1] <= 1.5:
            return
    raise AssertionError(f"medians of what another has and of what nobody has: {ratios}")


async def test_answers_at_the_same_time_are_the_tenants_own(neighbours: Neighbours) -> None:
    """Of one request, by a user with one name in both."""
    n = neighbours
    request = BY_LABEL["nobody"].make(Actor("", prefix="no-"))
    method = BY_LABEL["nobody"].method
    both = [("ac-", n.a), ("bo-", n.b)] * 20
    told = await asyncio.gather(*(n.caller.call(method, request, who.secret) for _, who in both))
    for (prefix, _), one in zip(both, told, strict=True):
        assert one.error is None
        ids = [item.entity.entity_id for item in one.answers[0].items]
        assert ids
        assert {entity_id[:3] for entity_id in ids} == {prefix}


async def test_another_tenants_export_is_refused(neighbours: Neighbours) -> None:
    """As one that is no model at all; and the refusal tells nothing of whose it is."""
    n = neighbours
    method = BY_LABEL["ImportModel"].method
    told = await n.caller.call(method, imported(n.a), n.b.secret)
    assert told.error is not None
    assert told.error.code == "FAILED_PRECONDITION"
    assert b"acme" not in told.error.message.encode() + told.error.details
    names = await n.caller.call(
        full_name("ModelService.ListModels"), model_pb2.ListModelsRequest(), n.b.secret
    )
    assert list(names.answers[0].models) == []


@pytest.mark.parametrize("attempt", WRITES, ids=ids_of(WRITES))
async def test_another_tenants_names_are_written_like_none(
    neighbours: Neighbours, attempt: Attempt
) -> None:
    await told_alike(neighbours, attempt)


async def test_another_tenants_things_are_as_they_were(neighbours: Neighbours) -> None:
    """After all that B has tried."""
    assert (await neighbours.look()).entries == neighbours.before.entries
