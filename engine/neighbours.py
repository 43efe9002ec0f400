"""Item-to-item neighbours: entities that the same users interacted with.

The cosine between entities, each a vector over users, as in Sarwar, Karypis, Konstan, Riedl:
"Item-Based Collaborative Filtering Recommendation Algorithms", WWW 2001.
"""

from collections.abc import Iterator

import numpy as np
from implicit.nearest_neighbours import ItemItemRecommender
from numpy.typing import NDArray
from scipy.sparse import coo_matrix

NEIGHBOURS = 50


def cosine_neighbours(
    users: NDArray[np.int32],
    entities: NDArray[np.int64],
    weights: NDArray[np.float32],
    k: int = NEIGHBOURS,
    threads: int = 1,
) -> Iterator[tuple[int, list[int], list[float]]]:
    """The strongest neighbours of every entity that has any.

    Weights count as log(1 + weight), so that nobody's hundredth visit outweighs all others; pairs
    without a positive weight do not count. The work is done before this returns, in native code
    that leaves other threads alone; only turning the result into rows is left to the iteration.

    Args:
        users: int32, numbers from 0, one a (user, entity) pair.
        entities: int64 entity numbers, the same length.
        weights: float32, the same length.
        k: most neighbours an entity.
        threads: of the similarity computation.

    Returns:
        (entity number, neighbours' numbers, their cosines in (0, 1]), cosines falling, equal ones
        by number.
    """
    positive = weights > 0
    if not positive.any():
        return iter(())
    numbers, columns = np.unique(entities[positive], return_inverse=True)
    counts = coo_matrix(
        (np.log1p(weights[positive]).astype(np.float64), (users[positive], columns)),
        shape=(int(users.max()) + 1, len(numbers)),
    ).tocsr()
    # Unit columns: the product of two is their cosine. (implicit's own CosineRecommender does the
    # same, and warns of the format that it makes itself.)
    counts.data /= np.sqrt(np.bincount(counts.indices, counts.data**2))[counts.indices]
    # Each entity is its own nearest one.
    model = ItemItemRecommender(K=k + 1, num_threads=threads)
    model.fit(counts, show_progress=False)
    return _rows(
        numbers, model.similarity.indptr, model.similarity.indices, model.similarity.data, k
    )


def _rows(
    numbers: NDArray[np.int64],
    starts: NDArray[np.int32],
    indices: NDArray[np.int32],
    scores: NDArray[np.float64],
    k: int,
) -> Iterator[tuple[int, list[int], list[float]]]:
    for row, number in enumerate(numbers):
        near = indices[starts[row] : starts[row + 1]]
        how = scores[starts[row] : starts[row + 1]]
        others = (near != row) & (how > 0)
        near, how = near[others], np.minimum(how[others], 1.0)
        best = np.lexsort((near, -how))[:k]
        if len(best):
            yield int(number), numbers[near[best]].tolist(), how[best].tolist()
