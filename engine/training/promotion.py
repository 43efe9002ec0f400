"""Whether a new version may take the place of the one that serves."""

import math
from collections.abc import Mapping

METRIC = "ndcg@20"


def not_worse(
    new_metrics: Mapping[str, float],
    serving_metrics: Mapping[str, float],
    metric: str = METRIC,
) -> tuple[bool, str]:
    """Whether a version is not worse than the serving one by more than the interval.

    It is worse when its figure lies below the lower bound of the serving version's interval.
    Versions without figures, or with figures that are not finite, count as not worse.

    Args:
        new_metrics: of the new version; bounds end in ".low" and ".high".
        serving_metrics: of the serving one; empty when none serves.
        metric: what to compare by.

    Returns:
        The answer and a sentence that says why.
    """
    new, serving = new_metrics.get(metric), serving_metrics.get(metric)
    if serving is None or not math.isfinite(serving):
        return True, f"The serving version has no {metric} to compare with."
    if new is None or not math.isfinite(new):
        return True, f"The new version has no {metric} to compare with."
    low = serving_metrics.get(f"{metric}.low", serving)
    if not math.isfinite(low):
        low = serving
    said = f"{metric} is {new:.4f}, the serving version's {serving:.4f} (from {low:.4f})"
    if new >= low:
        return True, f"{said}: not worse beyond the interval."
    return False, f"{said}: worse beyond the interval."
