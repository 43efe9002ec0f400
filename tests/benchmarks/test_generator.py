"""The published generator: the same at every run, larger catalogues begin like smaller ones."""

import hashlib
import itertools

import numpy as np

from benchmarks import generator


def test_larger_catalogue_begins_with_the_smaller_one() -> None:
    small = next(generator.entities(300, 16))
    large = list(generator.entities(10_500, 16))
    assert [len(block.names) for block in large] == [10_000, 500]
    assert large[0].names[:300] == small.names
    assert large[0].attributes[:300] == small.attributes
    assert np.array_equal(large[0].vectors[:300], small.vectors)


def test_vectors_have_length_one() -> None:
    lengths = np.linalg.norm(next(generator.entities(50, 64)).vectors.astype(np.float64), axis=1)
    assert np.allclose(lengths, 1, atol=1e-2)


def test_catalogue_stays_as_it_was_published() -> None:
    """A change of the generator makes recorded figures incomparable: it must be meant."""
    block = next(generator.entities(100, 8))
    assert block.names[7] == "item-0000007"
    text = b"".join(block.attributes)
    assert hashlib.blake2b(text, digest_size=8).hexdigest() == "dbe880b7caeb700a"
    expected = [0.08, 0.79, -0.35, 0.07, 0.22, 0.12, -0.07, 0.42]
    assert np.allclose(block.vectors[0].astype(float), expected, atol=0.02)


def test_tastes_know_only_what_every_catalogue_has() -> None:
    taste = generator.tastes(50, 30)
    assert taste.items.max() < generator.KNOWN
    assert np.unique(taste.users).tolist() == list(range(50))
    assert taste.age_secs.min() > 0


def test_tastes_stay_within_a_small_catalogue() -> None:
    assert generator.tastes(4, 5, known=50).items.max() < 50


def test_tastes_are_no_pair_twice() -> None:
    taste = generator.tastes(50, 30, known=1_000)
    pairs = list(zip(taste.users.tolist(), taste.items.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    counts = {user: len(list(rows)) for user, rows in itertools.groupby(p[0] for p in pairs)}
    assert min(counts.values()) > 10
