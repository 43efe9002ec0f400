"""What the tests of the processes call: a few films, who liked them, and what comes back."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from penchant.v1 import (
    entity_pb2,
    entity_pb2_grpc,
    interaction_pb2,
    interaction_pb2_grpc,
    recommendation_pb2,
    recommendation_pb2_grpc,
)

from tests.waiting import until

FILMS = [f"f{number:02}" for number in range(40)]
GENRES = ("war", "noir", "western", "musical")
PATIENCE = 30.0
"""Seconds that a call may take where its time is not what a test is about."""


class Caller:
    """Stubs over one connection."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.entity = entity_pb2_grpc.EntityServiceStub(channel)
        self.interaction = interaction_pb2_grpc.InteractionServiceStub(channel)
        self.recommendation = recommendation_pb2_grpc.RecommendationServiceStub(channel)
        self.health = health_pb2_grpc.HealthStub(channel)

    async def add_films(self) -> None:
        request = entity_pb2.BatchUpsertEntitiesRequest()
        for number, film in enumerate(FILMS):
            row = request.requests.add().entity
            row.entity.entity_type, row.entity.entity_id = "film", film
            row.attributes.update({"genre": GENRES[number % 4], "year": 1950 + number})
        answer = await self.entity.BatchUpsertEntities(request, timeout=PATIENCE)
        assert answer.upserted_count == len(FILMS)

    async def like(
        self, user: str, film: str, *, interaction_id: str = "", deadline: float = PATIENCE
    ) -> interaction_pb2.IngestAck:
        request = interaction_pb2.IngestInteractionRequest(
            interaction=interaction(user, film, interaction_id)
        )
        return (await self.interaction.IngestInteraction(request, timeout=deadline)).ack

    async def recommend(self, user: str, **fields: Any) -> recommendation_pb2.RecommendResponse:
        """All films that the user may be shown, unless page_size says otherwise."""
        request = recommendation_pb2.RecommendRequest(
            **{"user_id": user, "entity_type": "film", "page_size": 100, **fields}
        )
        return await self.recommendation.Recommend(request, timeout=PATIENCE)

    async def scores(self, user: str, **fields: Any) -> list[tuple[str, float]]:
        """An answer's items and scores."""
        answer = await self.recommend(user, **fields)
        return [(item.entity.entity_id, item.score) for item in answer.items]

    async def stored(self, user: str) -> list[str]:
        """The ids of all interactions of a user."""
        found: list[str] = []
        token = ""
        while True:
            page = await self.interaction.ListInteractions(
                interaction_pb2.ListInteractionsRequest(
                    user_id=user, page_size=1000, page_token=token
                ),
                timeout=PATIENCE,
            )
            found += [row.interaction_id for row in page.interactions]
            token = page.next_page_token
            if not token:
                return found

    async def serving(self, service: str = "") -> bool:
        reply = await self.health.Check(
            health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE
        )
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

    async def until_serving(self, service: str, *, serving: bool = True) -> None:
        async def so() -> bool:
            return await self.serving(service) is serving

        await until(so)


def interaction(user: str, film: str, interaction_id: str = "") -> interaction_pb2.Interaction:
    liked = interaction_pb2.Interaction(
        user_id=user, interaction_type="like", interaction_id=interaction_id
    )
    liked.entity.entity_type, liked.entity.entity_id = "film", film
    return liked


def batches(user: str, sizes: Sequence[int]) -> Iterator[interaction_pb2.IngestInteractionsRequest]:
    """Batches of a stream; batch 3 of user u holds the interactions u-3-0, u-3-1, ..."""
    for sequence, size in enumerate(sizes):
        yield interaction_pb2.IngestInteractionsRequest(
            sequence=sequence,
            interactions=[
                interaction(user, FILMS[row % len(FILMS)], interaction_id)
                for row, interaction_id in enumerate(ids_of(user, sequence, size))
            ],
        )


def ids_of(user: str, sequence: int, size: int) -> list[str]:
    return [f"{user}-{sequence}-{row}" for row in range(size)]


@asynccontextmanager
async def calling(target: str) -> AsyncIterator[Caller]:
    """A caller with a connection of its own; gRPC would share one between equal channels."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        yield Caller(channel)
