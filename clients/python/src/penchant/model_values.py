"""The values of models, their versions and the operations that make them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from penchant.errors import PenchantError
from penchant.values import JsonObject


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One way to make a model; `hyperparameters` is the JSON schema of its settings."""

    name: str
    summary: str
    hyperparameters: JsonObject


@dataclass(frozen=True, slots=True)
class Model:
    """A name under which versions are trained.

    Attributes:
        promotion: of new versions: if_not_worse, always or never.
        latest_version: the newest active one; empty before the first training.
        serving_version: the one that answers; empty when none of this model does.
        next_run_time: when its schedule next starts a training.
    """

    name: str
    algorithm: str
    hyperparameters: JsonObject
    schedule: str
    promotion: str
    keep_versions: int
    retention_days: int
    latest_version: str
    serving_version: str
    create_time: datetime | None
    update_time: datetime | None
    next_run_time: datetime | None


@dataclass(frozen=True, slots=True)
class TrainingStatistics:
    """What a version was trained on; ratings are the weights of interactions."""

    n_users: int
    n_items: int
    n_interactions: int
    sparsity: float
    density: float
    avg_interactions_per_user: float
    avg_interactions_per_item: float
    mean_rating: float
    std_rating: float
    min_rating: float
    max_rating: float


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One trained model.

    Attributes:
        state: ready, serving, corrupt or deleted.
        problem: why it cannot serve; empty when it can.
        metrics: of the validation, such as "ndcg@20"; bounds of intervals end in .low and .high.
        report: what "auto" tried and why it chose; empty for other algorithms.
    """

    model: str
    version: str
    algorithm: str
    hyperparameters: JsonObject
    state: str
    problem: str
    create_time: datetime | None
    statistics: TrainingStatistics
    duration: timedelta
    peak_memory_bytes: int
    artefact_bytes: int
    content_hash: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    report: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelDetails:
    """A model, its version that answers and its newest one; None where there is none."""

    model: Model
    serving: ModelVersion | None
    latest: ModelVersion | None


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training made, and whether it was promoted and why."""

    version: ModelVersion
    promoted: bool
    promotion_note: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Means over `users`, measured on what `split` held out."""

    metrics: Mapping[str, float]
    users: int
    split: str


@dataclass(frozen=True, slots=True)
class Operation:
    """Long work as it stood when it was asked for.

    Attributes:
        state: pending, running, succeeded, failed or cancelled.
        share: how much of the whole is done, 0 to 1.
        done: whether it has ended, in whatever way.
        error: why it did not succeed.
        trained: the result of `train_model`.
        evaluation: the result of `evaluate_model`.
    """

    name: str
    model: str
    state: str
    phase: str
    share: float
    done: bool
    create_time: datetime | None
    start_time: datetime | None
    end_time: datetime | None
    error: PenchantError | None = None
    trained: Trained | None = None
    evaluation: Evaluation | None = None


@dataclass(frozen=True, slots=True)
class Promoted:
    """The version that serves now, and name@version of the one before; empty for none."""

    version: ModelVersion
    previous: str


@dataclass(frozen=True, slots=True)
class CleanedUp:
    """The versions that are gone, as name@version, and what their files took."""

    removed: tuple[str, ...]
    artefacts_removed: int
    bytes_freed: int


@dataclass(frozen=True, slots=True)
class ComparedVersion:
    """A version with the metric compared by and its 95 % interval; None: not measured."""

    version: ModelVersion
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Versions, best first; those without the metric come last."""

    versions: tuple[ComparedVersion, ...]
    metric: str

    def __iter__(self) -> Iterator[ComparedVersion]:
        return iter(self.versions)

    def __len__(self) -> int:
        return len(self.versions)
