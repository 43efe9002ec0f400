"""pgvector's types as NumPy arrays, in PostgreSQL's binary format."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector, Vector

from storage.driver_types import OwnConnection

_SCHEMA_OF_PGVECTOR = """
SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'vector'
"""


def halfvec_array(vectors: Iterable[NDArray[Any] | None]) -> list[HalfVector | None]:
    """The argument for a `halfvec[]` parameter; each vector has shape (D,), None is NULL.

    asyncpg takes a list of NumPy arrays for one array of two dimensions, hence the wrapping.
    """
    return [None if vector is None else HalfVector(vector) for vector in vectors]


def _encode_halfvec(value: NDArray[Any] | HalfVector) -> bytes:
    wrapped = value if isinstance(value, HalfVector) else HalfVector(np.asarray(value))
    return bytes(wrapped.to_binary())


def _decode_halfvec(value: bytes) -> NDArray[np.float16]:
    return np.asarray(HalfVector.from_binary(value).to_numpy(), np.float16)


def _encode_vector(value: NDArray[Any] | Vector) -> bytes:
    wrapped = value if isinstance(value, Vector) else Vector(np.asarray(value))
    return bytes(wrapped.to_binary())


def _decode_vector(value: bytes) -> NDArray[np.float32]:
    return np.asarray(Vector.from_binary(value).to_numpy(), np.float32)


async def register_vector_codecs(connection: OwnConnection) -> bool:
    """Lets `halfvec` be float16 and `vector` float32 arrays, shape (D,), on this connection.

    Returns:
        False when the database has no pgvector yet.
    """
    schema = await connection.fetchval(_SCHEMA_OF_PGVECTOR)
    if schema is None:
        return False
    for name, encode, decode in (
        ("halfvec", _encode_halfvec, _decode_halfvec),
        ("vector", _encode_vector, _decode_vector),
    ):
        await connection.set_type_codec(
            name, schema=schema, encoder=encode, decoder=decode, format="binary"
        )
    return True
