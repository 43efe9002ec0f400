"""ALS: factors of weighted implicit feedback by alternating least squares (`implicit`).

Hu, Koren, Volinsky, "Collaborative filtering for implicit feedback datasets", ICDM 2008; solved by
conjugate gradients as in Takacs, Pilaszy, Tikk, RecSys 2011.
"""

from implicit.cpu.als import AlternatingLeastSquares
from pydantic import Field
from threadpoolctl import threadpool_limits

from engine.models.base import Algorithm, Interactions, ModelConfig, Progress
from engine.models.forms.factors import FactorModel, ridge


class AlsConfig(ModelConfig):
    """Hyperparameters of als."""

    factors: int = Field(256, ge=1, le=1024, description="dimensions of a user and of an entity")
    regularization: float = Field(30.0, gt=0, le=1e6, description="weight of the factors' squares")
    alpha: float = Field(40.0, gt=0, le=1e6, description="confidence of a weight of one")
    iterations: int = Field(15, ge=1, le=200, description="rounds over users and entities")
    use_cg: bool = Field(True, description="conjugate gradients in place of exact solutions")
    half_life_days: float | None = Field(None, gt=0, description="age at which a weight halves")
    binary: bool = Field(False, description="every positive weight counts 1")
    random_state: int = Field(42, ge=0, le=2**32 - 1, description="seed of the first factors")


def fit(data: Interactions, config: AlsConfig, progress: Progress) -> FactorModel:
    """Factors of the entities; those of the users are folded in again when asked for."""
    progress("counting", 0.0)
    matrix = data.matrix(config.half_life_days, binary=config.binary)

    def each(iteration: int, _seconds: float, _loss: float | None) -> None:
        progress("factorising", 0.05 + 0.9 * (iteration + 1) / config.iterations)

    # implicit's own threads are slowed several times by those of BLAS, and it warns of them.
    with threadpool_limits(1, "blas"):
        als = AlternatingLeastSquares(
            factors=config.factors,
            regularization=config.regularization,
            alpha=config.alpha,
            iterations=config.iterations,
            use_cg=config.use_cg,
            random_state=config.random_state,
        )
        als.fit(matrix, show_progress=False, callback=each)
    return FactorModel(
        data.entity_nos,
        als.item_factors,
        ridge(als.item_factors, config.regularization),
        fold_in="confidence",
        alpha=config.alpha,
        binary=config.binary,
        half_life_days=config.half_life_days,
    )


ALS = Algorithm(
    name="als",
    summary="Factors of weighted implicit feedback by alternating least squares.",
    config=AlsConfig,
    fit=fit,
    grid=(
        *(AlsConfig(factors=n, alpha=alpha) for n in (64, 128, 256) for alpha in (10, 40)),
        # Small catalogues, ratings above all: few factors, and little confidence in a weight.
        AlsConfig(factors=32, regularization=1, alpha=1),
    ),
)
