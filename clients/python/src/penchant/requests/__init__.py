"""Request messages from plain values: the arguments of the clients' calls.

What is left out takes the service's default, as `protos/penchant/v1` says for each field.
"""

from penchant.requests.demand import forecast_demand
from penchant.requests.embeddings import (
    clean_up_embeddings,
    embedding_stats,
    get_embedding,
    list_embeddings,
    save_embeddings,
)
from penchant.requests.entities import (
    batch_upsert_entities,
    delete_entity,
    get_entity,
    list_entities,
    upsert_draft,
    upsert_entity,
)
from penchant.requests.interactions import (
    delete_interactions,
    ingest,
    interaction,
    list_interactions,
    merge_users,
)
from penchant.requests.recommendations import (
    batch_recommend,
    explain,
    get_recommendation,
    recommend,
    recommend_users,
    replay_recommendation,
    rerank,
    similar_entities,
    similar_users,
    trending,
)

__all__ = [
    "batch_recommend",
    "batch_upsert_entities",
    "clean_up_embeddings",
    "delete_entity",
    "delete_interactions",
    "embedding_stats",
    "explain",
    "forecast_demand",
    "get_embedding",
    "get_entity",
    "get_recommendation",
    "ingest",
    "interaction",
    "list_embeddings",
    "list_entities",
    "list_interactions",
    "merge_users",
    "recommend",
    "recommend_users",
    "replay_recommendation",
    "rerank",
    "save_embeddings",
    "similar_entities",
    "similar_users",
    "trending",
    "upsert_draft",
    "upsert_entity",
]
