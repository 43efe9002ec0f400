"""What `penchant demo` does: all at once, on made-up books whose readers' tastes are known."""

import asyncio
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import grpc
from penchant.v1 import entity_pb2, interaction_pb2, recommendation_pb2
from penchant.v1.entity_pb2_grpc import EntityServiceStub
from penchant.v1.interaction_pb2_grpc import InteractionServiceStub
from penchant.v1.recommendation_pb2_grpc import RecommendationServiceStub
from rich.table import Table

from jobs.context import job_context
from jobs.registry import run_once
from server.cli.app import load_settings
from server.cli.console import complain, out, progress
from server.processes import PortTaken, running_service
from server.settings import Settings
from sources.catalogue import NAMED_READERS, DemoCatalogue, Reader
from storage.config import DatabaseConfig, RedisCacheConfig

_SHOWN = 6
_PLAIN = dict.fromkeys(
    (
        "tls_cert_file",
        "tls_key_file",
        "tls_client_ca_file",
        "jwt_jwks",
        "jwt_issuer",
        "jwt_audience",
    )
)


async def demonstrate(*, once: bool, port: int | None) -> None:
    """Starts the service with the bundled servers, loads, recommends, and stays up unless once."""
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="penchant-demo-"))
        # A demo keeps away from whatever database the environment names.
        settings = load_settings(
            port=port,
            metrics_port=0,
            log_level="warning",
            data_dir=Path(directory),
            database=DatabaseConfig(url=None),
            cache=RedisCacheConfig(url=None),
        )
        settings = settings.model_copy(update=_PLAIN)
        out.print("starting PostgreSQL, Redis and the service")
        service = await _start(stack, settings, fixed=port is not None)
        target = f"localhost:{service.port}"
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(target))
        catalogue = DemoCatalogue()
        await _load(channel, catalogue)
        out.print("computing what is trending, popular and alike")
        async with job_context(service) as context:
            await context.retention.analyze()
            await run_once(context)
        for user_id in NAMED_READERS:
            await _show(channel, catalogue, catalogue.reader(user_id))
        out.print("\nAsk yourself:\n")
        out.print(
            f'  grpcurl -plaintext -d \'{{"user_id": "ada", "page_size": 5, "explain": true}}\' '
            f"{target} penchant.v1.RecommendationService/Recommend\n"
        )
        if once:
            return
        out.print("Serving until Ctrl-C.")
        await _interrupted()


async def _start(stack: AsyncExitStack, settings: Settings, *, fixed: bool) -> Settings:
    try:
        return await stack.enter_async_context(running_service(settings))
    except PortTaken:
        if fixed:
            raise
        complain(f"port {settings.port} is taken; taking another")
        anywhere = settings.model_copy(update={"port": 0})
        return await stack.enter_async_context(running_service(anywhere))


async def _interrupted() -> None:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()


async def _load(channel: grpc.aio.Channel, catalogue: DemoCatalogue) -> None:
    entities = EntityServiceStub(channel)
    for batch in progress(catalogue.entities(), len(catalogue.books), "books"):
        request = entity_pb2.BatchUpsertEntitiesRequest()
        for draft in batch:
            entity = request.requests.add().entity
            entity.entity.entity_type, entity.entity.entity_id = draft.entity_type, draft.entity_id
            entity.attributes.update(dict(draft.attributes or {}))
        await entities.BatchUpsertEntities(request)
    now = datetime.now(UTC)
    total = sum(len(batch) for batch in catalogue.interactions(now))

    async def batches() -> AsyncIterator[interaction_pb2.IngestInteractionsRequest]:
        for drafts in progress(catalogue.interactions(now), total, "interactions"):
            request = interaction_pb2.IngestInteractionsRequest()
            for draft in drafts:
                added = request.interactions.add(
                    user_id=draft.user_id,
                    interaction_type=draft.interaction_type,
                    interaction_id=draft.interaction_id or "",
                )
                added.entity.entity_type = draft.entity_type
                added.entity.entity_id = draft.entity_id
                if draft.timestamp is not None:
                    added.timestamp.FromDatetime(draft.timestamp)
            yield request

    async for _ in InteractionServiceStub(channel).IngestInteractions(batches()):
        pass


async def _show(channel: grpc.aio.Channel, catalogue: DemoCatalogue, reader: Reader) -> None:
    books = {book.entity_id: book for book in catalogue.books}
    log = InteractionServiceStub(channel)
    likes = await log.ListInteractions(
        interaction_pb2.ListInteractionsRequest(user_id=reader.user_id, interaction_type="like")
    )
    liked = [books[i.entity.entity_id] for i in likes.interactions[:4]]
    answer = await RecommendationServiceStub(channel).Recommend(
        recommendation_pb2.RecommendRequest(user_id=reader.user_id, page_size=_SHOWN)
    )
    out.print(
        f"\n[bold]{reader.user_id}[/bold] loves {' and '.join(reader.loved)}, "
        f"dislikes {reader.disliked}"
    )
    out.print("liked lately: " + "; ".join(f"{b.title} ({', '.join(b.genres)})" for b in liked))
    table = Table("recommended", "genres", "author", "score", "why", show_lines=False)
    for item in answer.items:
        reason = item.reasons[0]
        because = [books[ref.entity_id].title for ref in reason.because_of[:2]]
        why = f"{reason.source} {reason.share:.0%}"
        book = books[item.entity.entity_id]
        table.add_row(
            book.title,
            ", ".join(book.genres),
            book.author,
            f"{item.score:.2f}",
            f"{why}: like {' and '.join(because)}" if because else why,
        )
    out.print(table)
