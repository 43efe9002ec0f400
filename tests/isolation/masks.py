"""What of A's answers cannot be the same in two runs, field by field, and why; all else must be."""

import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import orjson
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

from engine.item_columns import unpack_rest
from engine.models.artefact import open_artefact
from engine.page_tokens import _HEADER, _inflate, _verified

_API = "penchant.v1."
_RANDOM = "is drawn at random"
_CLOCK = "is the clock's at the time of the call"
_SEQUENCE = "is of a sequence that all tenants share"
_SPREAD = "quota_usage"
_WORKER = "is of the whole worker, and told to the operator alone"


@dataclass(frozen=True, slots=True)
class Mask:
    """What is done with a field, and why it cannot be the same."""

    reason: str
    clean: Callable[["Masks", Any], Any]


def _time(masks: "Masks", value: Message) -> Message:
    return type(value)()


def _gone(masks: "Masks", value: Any) -> None:
    return None


def _number(masks: "Masks", value: float) -> float:
    return 1 if value else 0


def _digits(masks: "Masks", value: str) -> str:
    return re.sub(r"\d+", "0", value)


def _named(word: str) -> Callable[["Masks", str], str]:
    return lambda masks, value: masks.stand_in(word, value)


def _word(word: str) -> Callable[["Masks", Any], Any]:
    return lambda masks, value: word if isinstance(value, str) else word.encode()


def token_parts(token: str) -> tuple[int, str, bytes, Any]:
    """A page token's version, kind, hash of its request, and what it carries."""
    signed = _verified(token, b"")
    version, flags, _, hashed, length = _HEADER.unpack_from(signed)
    kind, body = signed[_HEADER.size :][:length].decode(), signed[_HEADER.size + length :]
    return version, kind, hashed, msgpack.unpackb(_inflate(body) if flags else body)


def _page_token(masks: "Masks", value: str) -> str:
    """The token without its time of issue and checksum, so that what it carries is compared."""
    version, kind, hashed, payload = token_parts(value)
    if isinstance(payload, list) and len(payload) == 2 and isinstance(payload[1], bytes):
        # The entities' numbers are of a sequence that all tenants share.
        payload[1] = [replace(item, entity_no=0) for item in unpack_rest(payload[1]).items()]
    if kind == "versions":
        payload[0] = 0  # when the version was made
    return masks.text(repr((version, kind, hashed, payload)))


def _all(clean: Callable[["Masks", Any], Any]) -> Callable[["Masks", Any], Any]:
    return lambda masks, values: [clean(masks, one) for one in values]


def _settings(masks: "Masks", value: Struct) -> Struct:
    for name in ("tenant_version", "catalogue_revision"):
        if name in value.fields:
            value.fields[name].number_value = 0
    return value


def _manifest(masks: "Masks", value: str) -> str:
    return masks.text(orjson.dumps(_facts(orjson.loads(value))).decode())


def _facts(found: dict[str, Any]) -> dict[str, Any]:
    for name in ("tenant_created_at", "data_as_of", "duration_secs", "peak_memory_bytes"):
        if name in found:
            found[name] = 0
    return found


def _artefact(masks: "Masks", value: bytes) -> bytes:
    """The arrays and the manifest; of the entities' numbers only the order."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "artefact"
        path.write_bytes(value)
        opened = open_artefact(path)
        arrays = {name: np.array(array) for name, array in opened.model.arrays().items()}
    numbers = arrays.pop("entity_nos")
    arrays["order"] = np.argsort(numbers)
    facts = orjson.dumps(_facts(dict(opened.manifest)), option=orjson.OPT_SORT_KEYS)
    return facts + b"".join(k.encode() + v.tobytes() for k, v in sorted(arrays.items()))


def _receipt(masks: "Masks", value: bytes) -> bytes:
    found = orjson.loads(value)
    for name in ("erased_at", "salt", "user_scrypt"):
        if name in found:
            found[name] = ""
    if _SPREAD in found["counts"]:
        found["counts"][_SPREAD] = 0
    return masks.text(orjson.dumps(found).decode()).encode()


def _counts(masks: "Masks", value: Any) -> Any:
    for one in value:
        if one.store == _SPREAD:
            one.count = 0
    return value


def _operation(masks: "Masks", value: str) -> str:
    word = masks.stand_in("operation", value.removeprefix("operations/"))
    return f"operations/{word}"


def _times(*names: str) -> dict[str, Mask]:
    return {name: Mask(_CLOCK, _time) for name in names}


def _numbers(reason: str, *names: str) -> dict[str, Mask]:
    return {name: Mask(reason, _number) for name in names}


def _ids(word: str, *names: str) -> dict[str, Mask]:
    return {name: Mask(_RANDOM, _named(word)) for name in names}


MASKS: dict[str, Mask] = {
    **_times(
        "Tenant.created_at",
        "Tenant.updated_at",
        "Entity.created_at",
        "Entity.updated_at",
        "Interaction.received_at",
        "IngestAck.received_at",
        "Embedding.update_time",
        "EmbeddingStats.last_update_time",
        "Model.create_time",
        "Model.update_time",
        "ModelVersion.create_time",
        "TrainModelMetadata.create_time",
        "TrainModelMetadata.start_time",
        "TrainModelMetadata.end_time",
        "LoggedRecommendation.answered_at",
        "LoggedRecommendation.expires_at",
        "ErasureReceipt.erased_at",
        "ApiKey.created_at",
        "ApiKey.expires_at",
        "ApiKey.revoked_at",
        "AuditEvent.occurred_at",
        "QuotaUsage.measured_at",
        "GetIndexStatsResponse.recall_measured_at",
    ),
    "ModelVersion.duration": Mask("is the time that a training took", _time),
    **_numbers("is what the training's process took", "ModelVersion.peak_memory_bytes"),
    **_numbers(
        "is the time that trainings took",
        "QuotaUsage.training_minutes_today",
    ),
    "TrainModelMetadata.phase": Mask("is reported now and then, while a training runs", _gone),
    "ApiKey.last_used_at": Mask("is written now and then, in the background", _gone),
    **_ids(
        "recommendation",
        "RecommendResponse.recommendation_id",
        "SimilarEntitiesResponse.recommendation_id",
        "RerankResponse.recommendation_id",
        "LoggedRecommendation.recommendation_id",
    ),
    **_ids("key", "ApiKey.key_id", "ApiKey.rotated_from"),
    **_ids("receipt", "ErasureReceipt.receipt_id"),
    "google.longrunning.Operation.name": Mask(_RANDOM, _operation),
    "EraseUserResponse.retrainings": Mask(_RANDOM, _all(_operation)),
    "CreateApiKeyResponse.secret": Mask(_RANDOM, _word("secret")),
    "RotateApiKeyResponse.secret": Mask(_RANDOM, _word("secret")),
    "ErasureReceipt.payload": Mask("holds a random salt and the time", _receipt),
    "ErasureReceipt.counts": Mask("counts a row for each connection that wrote", _counts),
    "ErasureReceipt.signature": Mask("signs a random salt and the time", _word("signature")),
    **{
        f"{name}.freshness_token": Mask("is the number of a transaction", _word("token"))
        for name in (
            "IngestAck",
            "IngestInteractionsResponse",
            "DeleteInteractionsResponse",
            "MergeUsersResponse",
            "RecommendResponse",
        )
    },
    **{
        f"{name}.next_page_token": Mask("has the time of its issue in it", _page_token)
        for name in (
            "RecommendResponse",
            "SimilarEntitiesResponse",
            "SimilarUsersResponse",
            "RecommendUsersResponse",
            "TrendingResponse",
            "ListEntitiesResponse",
            "ListInteractionsResponse",
            "ListEmbeddingsResponse",
            "ListModelsResponse",
            "google.longrunning.ListOperationsResponse",
        )
    },
    "LoggedRecommendation.settings": Mask(f"has revisions: each {_SEQUENCE}", _settings),
    "ModelVersion.content_hash": Mask(
        "is over the entities' numbers, of a sequence that all tenants share, and the time",
        _named("artefact"),
    ),
    "ModelManifest.content_hash": Mask("is ModelVersion.content_hash", _named("artefact")),
    "ModelManifest.manifest_json": Mask("has times and the training's memory", _manifest),
    "ExportModelResponse.chunk": Mask(
        "has the entities' numbers, of a sequence that all tenants share, and a time", _artefact
    ),
    **_numbers(
        _SEQUENCE,
        "GetIndexStatsResponse.placement",
        "AuditEvent.event_id",
    ),
    "GetIndexStatsResponse.index_name": Mask("has the placement's number", _digits),
    "GetIndexStatsResponse.index_scans": Mask(
        "counts the jobs' looks too, and PostgreSQL adds them up now and then", _gone
    ),
    "AuditEvent.peer": Mask("is the port of the caller's connection", _word("peer")),
    **_numbers(
        _WORKER,
        "GetPoolStatsResponse.size",
        "GetCacheStatsResponse.misses",
        "GetCacheStatsResponse.memory_bytes",
    ),
    **{
        name: Mask(_WORKER, _gone)
        for name in (
            "GetPoolStatsResponse.idle",
            "GetCacheStatsResponse.hits",
            "GetCacheStatsResponse.errors",
        )
    },
}
"""Masks by the field's full name, without penchant.v1."""

SOMETIMES = frozenset(
    {
        "ApiKey.last_used_at",
        "GetCacheStatsResponse.errors",
        "GetCacheStatsResponse.hits",
        "GetIndexStatsResponse.index_scans",
        "GetPoolStatsResponse.idle",
        "TrainModelMetadata.phase",
    }
)
"""Masks of fields that may be absent."""

SORTED = {"ListApiKeysResponse.api_keys": "are in order of random ids"}
"""Lists whose order cannot be the same."""


class Masks:
    """One record's masks: random ids become words with a number, in order of their first sight.

    An id that comes again gets the same word, wherever it stands, so what refers to what is
    compared.

    Args:
        words: for texts that are known to differ from the start.
    """

    def __init__(self, words: Mapping[str, str] | None = None) -> None:
        self.used: set[str] = set()
        self._words = dict(words or {})
        self._counts: dict[str, int] = {}

    def stand_in(self, word: str, value: str) -> str:
        """The word for an id."""
        if value and value not in self._words:
            self._counts[word] = self._counts.get(word, 0) + 1
            self._words[value] = f"{word}-{self._counts[word]}"
        return self._words.get(value, "")

    def text(self, value: str) -> str:
        """A text with the words for the ids in it."""
        for known, word in self._words.items():
            value = value.replace(known, word)
        return value

    def message(self, message: Message) -> Message:
        """Masks a message in place."""
        if isinstance(message, AnyMessage):
            return self._packed(message)
        for field, value in message.ListFields():
            name = field.full_name.removeprefix(_API)
            mask = MASKS.get(name)
            if mask is not None:
                self.used.add(name)
                self._put(message, field, mask.clean(self, value))
            elif field.message_type is not None and field.message_type.GetOptions().map_entry:
                self._map(field, value)
            elif field.message_type is not None:
                for one in value if field.is_repeated else [value]:
                    self.message(one)
            elif field.type == FieldDescriptor.TYPE_STRING:
                if field.is_repeated:
                    value[:] = [self.text(one) for one in value]
                else:
                    setattr(message, field.name, self.text(value))
            if name in SORTED:
                self.used.add(name)
                value.sort(key=lambda one: one.SerializeToString(deterministic=True))
        return message

    def _packed(self, message: AnyMessage) -> Message:
        found = descriptor_pool.Default().FindMessageTypeByName(message.TypeName())
        inner = message_factory.GetMessageClass(found)()
        assert message.Unpack(inner)
        message.Pack(self.message(inner), deterministic=True)
        return message

    def _map(self, field: FieldDescriptor, value: Any) -> None:
        kind = field.message_type.fields_by_name["value"]
        for key in list(value):
            if kind.message_type is not None:
                self.message(value[key])
            elif kind.type == FieldDescriptor.TYPE_STRING:
                value[key] = self.text(value[key])

    @staticmethod
    def _put(message: Message, field: FieldDescriptor, value: Any) -> None:
        if value is None:
            message.ClearField(field.name)
        elif isinstance(value, Message):
            target = getattr(message, field.name)
            if value is not target:
                target.CopyFrom(value)
            target.SetInParent()
        elif isinstance(value, list):
            getattr(message, field.name)[:] = value
        elif not field.is_repeated:
            setattr(message, field.name, value)
