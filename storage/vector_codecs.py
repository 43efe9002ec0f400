"""pgvector's types as NumPy arrays, in PostgreSQL's binary format."""

import struct
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


# On the wire: the dimension and a zero, two bytes each, then the elements, big-endian. pgvector's
# own classes, which look at every value again, take twenty times as long.
_HEADER = struct.Struct(">HH")


def halfvec_rows(sent: bytes | None) -> NDArray[np.float16]:
    """Vectors of one dimension as `string_agg(halfvec_send(v), '')` sends them, shape (n, D)."""
    if not sent:
        return np.empty((0, 0), np.float16)
    dimension, _ = _HEADER.unpack_from(sent)
    words = np.frombuffer(sent, ">f2").reshape(-1, dimension + _HEADER.size // 2)
    return words[:, _HEADER.size // 2 :].astype(np.float16)


def array_elements(sent: bytes | None, dtype: str) -> NDArray[Any]:
    """Elements of arrays as `array_send` sends them after its header, each with its length."""
    if not sent:
        return np.empty(0, np.dtype(dtype).newbyteorder("="))
    elements = np.frombuffer(sent, np.dtype([("length", ">i4"), ("value", dtype)]))["value"]
    return elements.astype(elements.dtype.newbyteorder("="))


def _encode_halfvec(value: NDArray[Any] | HalfVector) -> bytes:
    if isinstance(value, HalfVector):
        return bytes(value.to_binary())
    return _HEADER.pack(len(value), 0) + value.astype(">f2").tobytes()


def _decode_halfvec(value: bytes) -> NDArray[np.float16]:
    return np.frombuffer(value, ">f2", offset=_HEADER.size).astype(np.float16)


def _encode_vector(value: NDArray[Any] | Vector) -> bytes:
    wrapped = value if isinstance(value, Vector) else Vector(np.asarray(value))
    return bytes(wrapped.to_binary())


def _decode_vector(value: bytes) -> NDArray[np.float32]:
    return np.frombuffer(value, ">f4", offset=_HEADER.size).astype(np.float32)


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
