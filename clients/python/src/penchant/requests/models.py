"""Requests of ModelService and of google.longrunning.Operations."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.longrunning import operations_pb2  # type: ignore[import-untyped]

from penchant.model_values import Operation
from penchant.requests.parts import field_mask, struct
from penchant.v1 import model_pb2 as pb

_PROMOTIONS = {
    "": pb.PROMOTION_UNSPECIFIED,
    "if_not_worse": pb.PROMOTION_IF_NOT_WORSE,
    "always": pb.PROMOTION_ALWAYS,
    "never": pb.PROMOTION_NEVER,
}


def _promotion(name: str) -> "pb.Promotion.ValueType":
    if name not in _PROMOTIONS:
        raise ValueError(f"promotion must be if_not_worse, always or never, not {name!r}")
    return _PROMOTIONS[name]


def operation_name(operation: Operation | str) -> str:
    """The name of an operation that is given as a value or by name."""
    return operation if isinstance(operation, str) else operation.name


def list_algorithms() -> pb.ListAlgorithmsRequest:
    """What a model can be made with, and the JSON schema of each one's hyperparameters."""
    return pb.ListAlgorithmsRequest()


def create_model(
    name: str,
    algorithm: str = "auto",
    *,
    hyperparameters: Mapping[str, Any] | None = None,
    schedule: str = "",
    promotion: str = "",
    keep_versions: int = 0,
    retention_days: int = 0,
) -> pb.CreateModelRequest:
    """Names a model; nothing is trained yet.

    Args:
        name: a letter or digit, then up to 62 letters, digits, ".", "_" or "-".
        algorithm: one of `list_algorithms`, or "auto", which trains several and takes the best.
        hyperparameters: the algorithm's settings; its defaults where left out.
        schedule: a cron expression in UTC, such as "0 3 * * *"; only on demand when empty.
        promotion: of new versions: if_not_worse (also when empty), always or never.
        keep_versions: how many of the newest `clean_up_models` keeps, 5 when 0.
        retention_days: the age at which it removes a version, 90 when 0.
    """
    return pb.CreateModelRequest(
        model=pb.Model(
            name=name,
            algorithm=algorithm,
            hyperparameters=None if hyperparameters is None else struct(hyperparameters),
            schedule=schedule,
            promotion=_promotion(promotion),
            keep_versions=keep_versions,
            retention_days=retention_days,
        )
    )


def get_model(name: str) -> pb.GetModelRequest:
    """A model with its serving and its newest version; NotFound when there is none."""
    return pb.GetModelRequest(name=name)


def list_models(*, page_size: int = 0, show_deleted: bool = False) -> pb.ListModelsRequest:
    """All models in byte order of their names, fetched `page_size` (50 when 0) at a time."""
    return pb.ListModelsRequest(page_size=page_size, show_deleted=show_deleted)


def update_model(
    name: str,
    *,
    algorithm: str | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
    schedule: str | None = None,
    promotion: str | None = None,
    keep_versions: int | None = None,
    retention_days: int | None = None,
) -> pb.UpdateModelRequest:
    """Changes what is given; an empty schedule ends it. Versions trained before stay."""
    given = {
        "algorithm": algorithm,
        "hyperparameters": None if hyperparameters is None else struct(hyperparameters),
        "schedule": schedule,
        "promotion": None if promotion is None else _promotion(promotion),
        "keep_versions": keep_versions,
        "retention_days": retention_days,
    }
    changed: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    return pb.UpdateModelRequest(
        model=pb.Model(name=name, **changed), update_mask=field_mask(list(changed) or None)
    )


def delete_model(name: str, *, force: bool = False) -> pb.DeleteModelRequest:
    """Retires a model and its versions; `force` although one of them serves."""
    return pb.DeleteModelRequest(name=name, force=force)


def train_model(name: str) -> pb.TrainModelRequest:
    """Starts a training, or gives the one that waits or runs already."""
    return pb.TrainModelRequest(name=name)


def cancel_training(operation: Operation | str) -> pb.CancelTrainingRequest:
    """Asks an operation to stop; one that has ended stays as it is."""
    return pb.CancelTrainingRequest(operation=operation_name(operation))


def list_versions(
    name: str, *, page_size: int = 0, show_deleted: bool = False
) -> pb.ListVersionsRequest:
    """The versions of a model, newest first, fetched `page_size` (50 when 0) at a time."""
    return pb.ListVersionsRequest(name=name, page_size=page_size, show_deleted=show_deleted)


def promote_version(
    name: str, version: str = "latest", *, force: bool = False
) -> pb.PromoteVersionRequest:
    """Makes a version answer `recommend`; `force` although validation shows it worse."""
    return pb.PromoteVersionRequest(name=name, version=version, force=force)


def rollback_model(name: str) -> pb.RollbackModelRequest:
    """Goes back to the version that served before the model's present one."""
    return pb.RollbackModelRequest(name=name)


def delete_version(name: str, version: str, *, force: bool = False) -> pb.DeleteVersionRequest:
    """Marks a version inactive; `force` although it serves, the one before then does."""
    return pb.DeleteVersionRequest(name=name, version=version, force=force)


def clean_up_models(
    name: str = "", *, keep_versions: int | None = None, retention_days: int | None = None
) -> pb.CleanUpModelsRequest:
    """Removes old versions of one model, or of all; the limits are each model's own when None."""
    return pb.CleanUpModelsRequest(
        name=name, keep_versions=keep_versions, retention_days=retention_days
    )


def evaluate_model(name: str, *, split: str = "", k: Sequence[int] = ()) -> pb.EvaluateModelRequest:
    """Starts a training on a part of the interactions that is measured on the rest.

    Args:
        name: of the model.
        split: temporal (also when empty), leave_last_out or random.
        k: the list lengths to measure at; 10 and 20 when empty.
    """
    return pb.EvaluateModelRequest(name=name, split=split, k=k)


def compare_models(versions: Iterable[str] = (), *, metric: str = "") -> pb.CompareModelsRequest:
    """Versions by a kept metric, best first.

    Args:
        versions: as name@version; the newest of every model when empty.
        metric: "ndcg@20" when empty.
    """
    return pb.CompareModelsRequest(versions=versions, metric=metric)


def get_operation(operation: Operation | str) -> Any:
    """How an operation stands; NotFound when the tenant has none of it."""
    return operations_pb2.GetOperationRequest(name=operation_name(operation))


def list_operations(*, page_size: int = 0) -> Any:
    """The tenant's operations, newest first, fetched `page_size` (50 when 0) at a time."""
    return operations_pb2.ListOperationsRequest(name="operations", page_size=page_size)


def cancel_operation(operation: Operation | str) -> Any:
    """Asks an operation to stop; one that has ended stays as it is."""
    return operations_pb2.CancelOperationRequest(name=operation_name(operation))
