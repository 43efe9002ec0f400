"""Models, versions and operations as the messages of ModelService."""

import math
import re
from collections.abc import Mapping
from typing import Any

import orjson
from google.longrunning import operations_pb2  # type: ignore[import-untyped]
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from grpc import StatusCode
from penchant.v1 import model_pb2 as pb

from engine.registry_views import Compared, ModelDraft, ModelView, VersionView
from engine.training.checks import Described
from server.convert import fill_duration, fill_timestamp, json_to_struct, struct_to_json
from server.errors import DOMAIN
from storage.exceptions import InvalidArgument
from storage.models import VersionRow
from storage.operations import Operation

PROMOTIONS = {
    pb.PROMOTION_IF_NOT_WORSE: "if_not_worse",
    pb.PROMOTION_ALWAYS: "always",
    pb.PROMOTION_NEVER: "never",
}
_PROMOTION_NUMBERS = {name: number for number, name in PROMOTIONS.items()}
_STATES = {
    "ready": pb.VERSION_STATE_READY,
    "serving": pb.VERSION_STATE_SERVING,
    "corrupt": pb.VERSION_STATE_CORRUPT,
    "deleted": pb.VERSION_STATE_DELETED,
}
_OPERATION = re.compile(r"operations/([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})")
_COUNTS = frozenset({"n_users", "n_items", "n_interactions"})
_CANCELLED = 1  # google.rpc.Code


def parse_draft(message: pb.Model) -> ModelDraft:
    """The model that a request describes; what is not set is None."""
    return ModelDraft(
        name=message.name,
        algorithm=message.algorithm or None,
        hyperparameters=struct_to_json(message.hyperparameters, "model.hyperparameters")
        if message.HasField("hyperparameters")
        else None,
        schedule=message.schedule or None,
        # A number that this release does not know stays one, and is refused by its name.
        promotion=PROMOTIONS.get(message.promotion, str(message.promotion))
        if message.promotion
        else None,
        keep_versions=message.keep_versions or None,
        retention_days=message.retention_days or None,
    )


def render_model(view: ModelView, target: pb.Model) -> None:
    """Fills a Model."""
    row = view.row
    target.name, target.algorithm, target.schedule = row.model_name, row.algorithm, row.schedule
    _fill_struct(row.hyperparameters, target, "hyperparameters")
    target.promotion = _PROMOTION_NUMBERS[row.promotion]
    target.keep_versions, target.retention_days = row.keep_versions, row.retention_days
    target.latest_version, target.serving_version = view.latest_version, view.serving_version
    fill_timestamp(target.create_time, row.created_at)
    fill_timestamp(target.update_time, row.updated_at)
    fill_timestamp(target.next_run_time, row.next_run_at)


def render_version(view: VersionView, target: pb.ModelVersion) -> None:
    """Fills a ModelVersion."""
    row = view.row
    target.model, target.version, target.problem = row.model_name, row.version, row.problem
    target.state = _STATES[view.state]
    target.content_hash, target.artefact_bytes = row.content_hash, row.size_bytes
    fill_timestamp(target.create_time, row.created_at)
    _fill_facts(row, target)


def _fill_facts(row: VersionRow, target: pb.ModelVersion) -> None:
    """What the training noted; all of it may be absent from a version that was imported."""
    facts = row.metadata
    target.algorithm = str(facts.get("algorithm", ""))
    _fill_struct(facts.get("hyperparameters") or {}, target, "hyperparameters")
    statistics = facts.get("statistics") or {}
    for field in target.statistics.DESCRIPTOR.fields:
        value = statistics.get(field.name)
        if value is not None:
            setattr(
                target.statistics, field.name, int(value) if field.name in _COUNTS else float(value)
            )
    if facts.get("duration_secs") is not None:
        fill_duration(target.duration, facts["duration_secs"])
        target.duration.SetInParent()
    target.peak_memory_bytes = int(facts.get("peak_memory_bytes") or 0)
    _fill_metrics(facts.get("metrics") or {}, target.metrics)
    if facts.get("report"):
        _fill_struct(facts["report"], target, "report")


def _fill_struct(values: Mapping[str, Any], parent: Any, name: str) -> None:
    target = getattr(parent, name)
    target.SetInParent()
    json_to_struct(orjson.dumps(dict(values)).decode(), target)


def _fill_metrics(metrics: Mapping[str, Any], target: Any) -> None:
    for name, value in metrics.items():
        if isinstance(value, int | float) and math.isfinite(value):
            target[name] = value


def render_algorithm(algorithm: Described, target: pb.Algorithm) -> None:
    """Fills an Algorithm."""
    target.name, target.summary = algorithm.name, algorithm.summary
    _fill_struct(algorithm.schema(), target, "hyperparameters")


def render_compared(compared: Compared, target: pb.ComparedVersion) -> None:
    """Fills a ComparedVersion; figures that were not measured stay absent."""
    render_version(compared.version, target.version)
    for name in ("value", "low", "high"):
        if (figure := getattr(compared, name)) is not None:
            setattr(target, name, figure)


def operation_name(operation_id: str) -> str:
    """What callers know an operation by."""
    return f"operations/{operation_id}"


def operation_id(name: str, field: str = "name") -> str:
    """The id of an operation's name; InvalidArgument when it is none."""
    found = _OPERATION.fullmatch(name)
    if found is None:
        raise InvalidArgument.field(field, "must be operations/ and a UUID")
    return found[1]


def render_operation(operation: Operation, made: VersionView | None) -> operations_pb2.Operation:
    """An Operation with its metadata and, once it is done, its response or error.

    Args:
        made: the version that a training made; None where there is none (any more).
    """
    message = operations_pb2.Operation(
        name=operation_name(operation.operation_id), done=operation.done
    )
    message.metadata.Pack(_metadata(operation))
    if operation.state == "succeeded":
        message.response.Pack(_response(operation, made))
    elif operation.done:
        _fill_error(operation, message)
    return message


def _metadata(operation: Operation) -> pb.TrainModelMetadata:
    message = pb.TrainModelMetadata(
        model=operation.target,
        state=operation.state,
        phase=operation.phase,
        share=operation.share,
    )
    fill_timestamp(message.create_time, operation.created_at)
    fill_timestamp(message.start_time, operation.started_at)
    fill_timestamp(message.end_time, operation.finished_at)
    return message


def _response(
    operation: Operation, made: VersionView | None
) -> pb.TrainModelResponse | pb.EvaluateModelResponse:
    given = operation.response or {}
    if operation.kind == "evaluate":
        evaluated = pb.EvaluateModelResponse(
            users=int(given.get("users", 0)), split=str(given.get("split", ""))
        )
        _fill_metrics(given.get("metrics") or {}, evaluated.metrics)
        return evaluated
    trained = pb.TrainModelResponse(
        promoted=bool(given.get("promoted")), promotion_note=str(given.get("promotion_note", ""))
    )
    if made is not None:
        render_version(made, trained.version)
    elif given.get("version"):
        # Cleaned up since; its name is what is left of it.
        trained.version.model, trained.version.version = operation.target, str(given["version"])
        trained.version.state = pb.VERSION_STATE_DELETED
    return trained


def _fill_error(operation: Operation, message: Any) -> None:
    code = operation.error_code
    if code is None:
        code = _CANCELLED if operation.state == "cancelled" else StatusCode.INTERNAL.value[0]
    message.error.code = code
    message.error.message = operation.error_message or f"The operation is {operation.state}."
    if code == _CANCELLED and operation.error_reason is None:
        return  # a caller asked for it: there is no reason to name
    info = AnyMessage()
    info.Pack(
        error_details_pb2.ErrorInfo(
            reason=operation.error_reason or "INTERNAL",
            domain=DOMAIN,
            metadata={"operation": message.name},
        )
    )
    message.error.details.append(info)
