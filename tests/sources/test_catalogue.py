"""The demo's catalogue: the same for the same seed, and readers who follow their tastes."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from sources.catalogue import DemoCatalogue

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def catalogue() -> DemoCatalogue:
    return DemoCatalogue()


@pytest.fixture(scope="module")
def acts(catalogue):
    return [act for batch in catalogue.interactions(NOW) for act in batch]


def test_catalogue_has_the_promised_size(catalogue, acts):
    drafts = [draft for batch in catalogue.entities() for draft in batch]

    assert len({draft.entity_id for draft in drafts}) == 2000
    assert len(catalogue.readers) == 300
    assert len({book.author for book in catalogue.books}) == 150
    assert 10_000 <= len(acts) <= 15_000
    assert len({act.interaction_id for act in acts}) == len(acts)
    assert all(NOW - timedelta(days=60) <= act.timestamp < NOW for act in acts)


def test_catalogue_of_one_seed_is_always_the_same():
    def made(seed: int):
        catalogue = DemoCatalogue(seed, books=50, readers=5)
        return [list(catalogue.entities()), list(catalogue.interactions(NOW))]

    assert made(1) == made(1)
    assert made(1) != made(2)


@pytest.mark.parametrize("seed", [7, 8, 9])
def test_liked_books_follow_the_readers_taste(seed):
    catalogue = DemoCatalogue(seed)
    genres = {book.entity_id: book.genres for book in catalogue.books}
    liked = [
        (catalogue.reader(act.user_id), genres[act.entity_id])
        for batch in catalogue.interactions(NOW)
        for act in batch
        if act.interaction_type in {"like", "purchase"}
    ]

    loved = sum(any(genre in reader.loved for genre in of) for reader, of in liked)
    disliked = sum(reader.disliked in of for reader, of in liked)
    assert loved / len(liked) > 0.9
    assert disliked / len(liked) < 0.02


def test_popularity_is_skewed(acts):
    counts = sorted(Counter(act.entity_id for act in acts).values(), reverse=True)

    assert sum(counts[:200]) > 0.35 * len(acts)
    assert len(counts) > 1000


def test_named_readers_love_different_genres(catalogue):
    tastes = [set(catalogue.reader(name).loved) for name in ("ada", "ben", "chloe")]

    assert all(len(taste) == 2 for taste in tastes)
    assert len(set().union(*tastes)) == 6


def test_readers_love_an_author_who_exists(catalogue):
    authors = {book.author for book in catalogue.books}

    assert {reader.author for reader in catalogue.readers} <= authors
