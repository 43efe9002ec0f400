"""The generated stubs of one channel, by service."""

from typing import TYPE_CHECKING

import grpc

from penchant.v1.admin_pb2_grpc import AdminServiceStub
from penchant.v1.entity_pb2_grpc import EntityServiceStub
from penchant.v1.interaction_pb2_grpc import InteractionServiceStub
from penchant.v1.recommendation_pb2_grpc import RecommendationServiceStub

if TYPE_CHECKING:
    from penchant.v1.admin_pb2_grpc import AdminServiceAsyncStub
    from penchant.v1.entity_pb2_grpc import EntityServiceAsyncStub
    from penchant.v1.interaction_pb2_grpc import InteractionServiceAsyncStub
    from penchant.v1.recommendation_pb2_grpc import RecommendationServiceAsyncStub


class Stubs:
    """The stubs of a blocking channel; calls on them take timeout and metadata themselves."""

    recommendation: RecommendationServiceStub
    entity: EntityServiceStub
    interaction: InteractionServiceStub
    admin: AdminServiceStub

    def __init__(self, channel: grpc.Channel) -> None:
        self.recommendation = RecommendationServiceStub(channel)
        self.entity = EntityServiceStub(channel)
        self.interaction = InteractionServiceStub(channel)
        self.admin = AdminServiceStub(channel)


class AsyncStubs(Stubs):
    """The stubs of an asyncio channel."""

    recommendation: "RecommendationServiceAsyncStub"
    entity: "EntityServiceAsyncStub"
    interaction: "InteractionServiceAsyncStub"
    admin: "AdminServiceAsyncStub"

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.recommendation = RecommendationServiceStub(channel)
        self.entity = EntityServiceStub(channel)
        self.interaction = InteractionServiceStub(channel)
        self.admin = AdminServiceStub(channel)
