"""The generated stubs of one channel, by service."""

from typing import TYPE_CHECKING

import grpc
from google.longrunning.operations_pb2_grpc import (  # type: ignore[import-untyped]
    OperationsStub,
)

from penchant.v1.admin_pb2_grpc import AdminServiceStub
from penchant.v1.api_key_pb2_grpc import ApiKeyServiceStub
from penchant.v1.demand_pb2_grpc import DemandServiceStub
from penchant.v1.embedding_pb2_grpc import EmbeddingServiceStub
from penchant.v1.entity_pb2_grpc import EntityServiceStub
from penchant.v1.interaction_pb2_grpc import InteractionServiceStub
from penchant.v1.model_pb2_grpc import ModelServiceStub
from penchant.v1.privacy_pb2_grpc import PrivacyServiceStub
from penchant.v1.recommendation_pb2_grpc import RecommendationServiceStub

if TYPE_CHECKING:
    from penchant.v1.admin_pb2_grpc import AdminServiceAsyncStub
    from penchant.v1.api_key_pb2_grpc import ApiKeyServiceAsyncStub
    from penchant.v1.demand_pb2_grpc import DemandServiceAsyncStub
    from penchant.v1.embedding_pb2_grpc import EmbeddingServiceAsyncStub
    from penchant.v1.entity_pb2_grpc import EntityServiceAsyncStub
    from penchant.v1.interaction_pb2_grpc import InteractionServiceAsyncStub
    from penchant.v1.model_pb2_grpc import ModelServiceAsyncStub
    from penchant.v1.privacy_pb2_grpc import PrivacyServiceAsyncStub
    from penchant.v1.recommendation_pb2_grpc import RecommendationServiceAsyncStub


class Stubs:
    """The stubs of a blocking channel; calls on them take timeout and metadata themselves."""

    recommendation: RecommendationServiceStub
    entity: EntityServiceStub
    interaction: InteractionServiceStub
    admin: AdminServiceStub
    api_key: ApiKeyServiceStub
    model: ModelServiceStub
    operations: OperationsStub
    embedding: EmbeddingServiceStub
    demand: DemandServiceStub
    privacy: PrivacyServiceStub

    def __init__(self, channel: grpc.Channel) -> None:
        self.recommendation = RecommendationServiceStub(channel)
        self.entity = EntityServiceStub(channel)
        self.interaction = InteractionServiceStub(channel)
        self.admin = AdminServiceStub(channel)
        self.api_key = ApiKeyServiceStub(channel)
        self.model = ModelServiceStub(channel)
        self.operations = OperationsStub(channel)
        self.embedding = EmbeddingServiceStub(channel)
        self.demand = DemandServiceStub(channel)
        self.privacy = PrivacyServiceStub(channel)


class AsyncStubs(Stubs):
    """The stubs of an asyncio channel."""

    recommendation: "RecommendationServiceAsyncStub"
    entity: "EntityServiceAsyncStub"
    interaction: "InteractionServiceAsyncStub"
    admin: "AdminServiceAsyncStub"
    api_key: "ApiKeyServiceAsyncStub"
    model: "ModelServiceAsyncStub"
    embedding: "EmbeddingServiceAsyncStub"
    demand: "DemandServiceAsyncStub"
    privacy: "PrivacyServiceAsyncStub"

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.recommendation = RecommendationServiceStub(channel)
        self.entity = EntityServiceStub(channel)
        self.interaction = InteractionServiceStub(channel)
        self.admin = AdminServiceStub(channel)
        self.api_key = ApiKeyServiceStub(channel)
        self.model = ModelServiceStub(channel)
        self.operations = OperationsStub(channel)
        self.embedding = EmbeddingServiceStub(channel)
        self.demand = DemandServiceStub(channel)
        self.privacy = PrivacyServiceStub(channel)
