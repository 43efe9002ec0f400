"""Plain values from the messages of ModelService and google.longrunning.Operations."""

from collections.abc import Iterable
from typing import Any

from penchant import errors
from penchant import model_values as values
from penchant.responses import instant, json_object
from penchant.v1 import model_pb2 as pb

_PROMOTIONS = {
    pb.PROMOTION_IF_NOT_WORSE: "if_not_worse",
    pb.PROMOTION_ALWAYS: "always",
    pb.PROMOTION_NEVER: "never",
}
_STATES = {
    pb.VERSION_STATE_READY: "ready",
    pb.VERSION_STATE_SERVING: "serving",
    pb.VERSION_STATE_CORRUPT: "corrupt",
    pb.VERSION_STATE_DELETED: "deleted",
}


def algorithms(message: pb.ListAlgorithmsResponse) -> list[values.Algorithm]:
    """The answer of ListAlgorithms."""
    return [
        values.Algorithm(one.name, one.summary, json_object(one.hyperparameters))
        for one in message.algorithms
    ]


def model(message: pb.Model) -> values.Model:
    """A model as stored."""
    return values.Model(
        name=message.name,
        algorithm=message.algorithm,
        hyperparameters=json_object(message.hyperparameters),
        schedule=message.schedule,
        promotion=_PROMOTIONS.get(message.promotion, ""),
        keep_versions=message.keep_versions,
        retention_days=message.retention_days,
        latest_version=message.latest_version,
        serving_version=message.serving_version,
        create_time=instant(message, "create_time"),
        update_time=instant(message, "update_time"),
        next_run_time=instant(message, "next_run_time"),
    )


def stored(message: pb.CreateModelResponse | pb.UpdateModelResponse) -> values.Model:
    """The model that an answer carries."""
    return model(message.model)


def details(message: pb.GetModelResponse) -> values.ModelDetails:
    """The answer of GetModel."""
    return values.ModelDetails(
        model=model(message.model),
        serving=version(message.serving) if message.HasField("serving") else None,
        latest=version(message.latest) if message.HasField("latest") else None,
    )


def models(message: pb.ListModelsResponse) -> Iterable[values.Model]:
    """The models of a page."""
    return map(model, message.models)


def version(message: pb.ModelVersion) -> values.ModelVersion:
    """A version as stored."""
    numbers = message.statistics
    return values.ModelVersion(
        model=message.model,
        version=message.version,
        algorithm=message.algorithm,
        hyperparameters=json_object(message.hyperparameters),
        state=_STATES.get(message.state, ""),
        problem=message.problem,
        create_time=instant(message, "create_time"),
        statistics=values.TrainingStatistics(
            **{field.name: getattr(numbers, field.name) for field in numbers.DESCRIPTOR.fields}
        ),
        duration=message.duration.ToTimedelta(),
        peak_memory_bytes=message.peak_memory_bytes,
        artefact_bytes=message.artefact_bytes,
        content_hash=message.content_hash,
        metrics=dict(message.metrics),
        report=json_object(message.report),
    )


def versions(message: pb.ListVersionsResponse) -> Iterable[values.ModelVersion]:
    """The versions of a page."""
    return map(version, message.versions)


def imported(message: pb.ImportModelResponse) -> values.ModelVersion:
    """The version that an import made."""
    return version(message.version)


def promoted(message: pb.PromoteVersionResponse | pb.RollbackModelResponse) -> values.Promoted:
    """The answer of PromoteVersion and RollbackModel."""
    return values.Promoted(version(message.version), message.previous)


def cleaned_up(message: pb.CleanUpModelsResponse) -> values.CleanedUp:
    """The answer of CleanUpModels."""
    return values.CleanedUp(tuple(message.removed), message.artefacts_removed, message.bytes_freed)


def compared(message: pb.CompareModelsResponse) -> values.Comparison:
    """The answer of CompareModels."""
    return values.Comparison(
        versions=tuple(
            values.ComparedVersion(
                version=version(one.version),
                value=one.value if one.HasField("value") else None,
                low=one.low if one.HasField("low") else None,
                high=one.high if one.HasField("high") else None,
            )
            for one in message.versions
        ),
        metric=message.metric,
    )


def operation(message: Any) -> values.Operation:
    """An operation of google.longrunning."""
    metadata, trained, evaluated = (
        pb.TrainModelMetadata(),
        pb.TrainModelResponse(),
        pb.EvaluateModelResponse(),
    )
    message.metadata.Unpack(metadata)
    has_version = message.response.Unpack(trained)
    has_metrics = message.response.Unpack(evaluated)
    return values.Operation(
        name=message.name,
        model=metadata.model,
        state=metadata.state,
        phase=metadata.phase,
        share=metadata.share,
        done=message.done,
        create_time=instant(metadata, "create_time"),
        start_time=instant(metadata, "start_time"),
        end_time=instant(metadata, "end_time"),
        error=errors.from_status(message.error) if message.HasField("error") else None,
        trained=values.Trained(version(trained.version), trained.promoted, trained.promotion_note)
        if has_version
        else None,
        evaluation=values.Evaluation(dict(evaluated.metrics), evaluated.users, evaluated.split)
        if has_metrics
        else None,
    )


def operations(message: Any) -> Iterable[values.Operation]:
    """The operations of a page."""
    return map(operation, message.operations)
