"""Which contender to take: the simplest that is not told apart from the best."""

from collections.abc import Sequence

from engine.evaluation.bootstrap import difference
from engine.training.race import Contender

_TIERS = (
    ("popularity", "trending"),
    ("item_knn", "covisitation", "content", "clusters"),
    ("als", "bpr", "svd", "nmf"),
    ("spectral", "ease", "slim"),
    ("hybrid",),
)
"""From simple to complicated."""
_UNKNOWN = 3

NOISE = 0.01
"""Of the best score: the users judged on are a sample, and so is their validation part. A gain
within it does not carry over to other interactions, however narrow the interval over users is."""


def tier(algorithm: str) -> int:
    """How complicated an algorithm is, from 0; others than ours count as single models."""
    return next((at for at, names in enumerate(_TIERS) if algorithm in names), _UNKNOWN)


def choose(contenders: Sequence[Contender]) -> tuple[Contender, str]:
    """The winner, and a sentence that says why.

    A contender is not told apart from the best when the 95 % interval of their paired difference,
    user by user, reaches zero, or when the difference is within NOISE. Of those the simplest tier
    is taken, and the best within it.

    Args:
        contenders: at least one, all judged on the same users.
    """
    best = max(contenders, key=lambda contender: (contender.score, -tier(contender.algorithm)))
    level = [c for c in contenders if _level(best, c)]
    simplest = min(tier(contender.algorithm) for contender in level)
    won = max(
        (contender for contender in level if tier(contender.algorithm) == simplest),
        key=lambda contender: contender.score,
    )
    if won is best:
        return won, f"{won.algorithm} has the best score, {won.score:.4f}, on validation."
    gap = difference(best.values, won.values)
    return won, (
        f"{won.algorithm} ({won.score:.4f}) is simpler than {best.algorithm}, which has the best "
        f"score ({best.score:.4f}), and not told apart from it: the difference is {gap.mean:.4f}, "
        f"from {gap.low:.4f} to {gap.high:.4f}."
    )


def _level(best: Contender, other: Contender) -> bool:
    gap = difference(best.values, other.values)
    return gap.low <= 0 or gap.mean <= NOISE * best.score
