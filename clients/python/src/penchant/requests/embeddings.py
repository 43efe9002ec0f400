"""Requests of EmbeddingService."""

from collections.abc import Iterable
from datetime import timedelta

from penchant.requests.parts import duration, entity_ref, one_of
from penchant.v1 import embedding_pb2 as embeddings
from penchant.values import Embedding


def save_embeddings(rows: Iterable[Embedding]) -> embeddings.SaveEmbeddingsRequest:
    """Stores 1 to 1,000 embeddings, all or none; gives how many."""
    return embeddings.SaveEmbeddingsRequest(
        embeddings=(
            embeddings.Embedding(
                entity=entity_ref((row.entity_type, row.entity_id)),
                version=row.version,
                values=row.values,
            )
            for row in rows
        )
    )


def get_embedding(
    entity_type: str, entity_id: str, *, version: str = "latest"
) -> embeddings.GetEmbeddingRequest:
    """An entity's embedding of a version, or the one written last; NotFound without one."""
    return embeddings.GetEmbeddingRequest(
        entity=entity_ref((entity_type, entity_id)), version=version
    )


def list_embeddings(
    entity_type: str, *, version: str = "latest", page_size: int = 0
) -> embeddings.ListEmbeddingsRequest:
    """A type's embeddings of a version, or of the one written to last, in byte order of the ids.

    They are fetched `page_size` (100 when 0) at a time.
    """
    return embeddings.ListEmbeddingsRequest(
        entity_type=entity_type, version=version, page_size=page_size
    )


def embedding_stats() -> embeddings.GetEmbeddingStatsRequest:
    """What each type and version holds."""
    return embeddings.GetEmbeddingStatsRequest()


def clean_up_embeddings(
    *, version: str | None = None, older_than: timedelta | None = None, entity_type: str = ""
) -> embeddings.CleanUpEmbeddingsRequest:
    """Removes a version of a type, or what was not written for a time; gives how many.

    Args:
        version: the set to remove, of `entity_type`; or `older_than`.
        older_than: at least a second.
        entity_type: only this type; all when empty and `older_than` is given.
    """
    return embeddings.CleanUpEmbeddingsRequest(
        **one_of(version=version, older_than=duration(older_than)), entity_type=entity_type
    )
