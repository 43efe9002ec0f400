"""Both MovieLens layouts, on small made-up files and on ml-100k where it is at hand."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from engine.drafts import EntityDraft, InteractionDraft
from sources.movielens import MovieLensSource, film_attributes
from storage.exceptions import InvalidArgument

ML_100K = Path(__file__).parents[3] / "shared" / "data" / "ml-100k"


@pytest.fixture
def classic(tmp_path: Path) -> Path:
    """Two films, two users and two ratings as ml-100k keeps them."""
    (tmp_path / "u.genre").write_text("unknown|0\nAction|1\nComedy|2\n\n")
    films = "1|Café, Le (1995)|01-Jan-1995||http://a|0|1|1\n2|unknown||||1|0|0\n"
    (tmp_path / "u.item").write_text(films, encoding="latin-1")
    (tmp_path / "u.user").write_text("7|24|M|writer|85711\n8|30|F|other|T8H1N\n")
    (tmp_path / "u.data").write_text("7\t1\t4\t881250949\n8\t2\t1\t881250950\n")
    return tmp_path


@pytest.fixture
def latest(tmp_path: Path) -> Path:
    """Two films and two ratings as ml-latest keeps them."""
    (tmp_path / "movies.csv").write_text(
        'movieId,title,genres\n1,"Matrix, The (1999)",Action|Sci-Fi\n2,Untold,(no genres listed)\n',
        encoding="utf-8",
    )
    (tmp_path / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n1,1,3.5,964982703\n1,2,2.5,964982704\n"
    )
    return tmp_path


def flat(batches):
    return [row for batch in batches for row in batch]


def test_classic_films_have_titles_years_and_genres(classic):
    source = MovieLensSource(classic)

    assert flat(source.entities()) == [
        EntityDraft(
            "movie", "1", {"title": "Le Café", "genres": ["Action", "Comedy"], "year": 1995}
        ),
        EntityDraft("movie", "2", {"title": "unknown", "genres": []}),
    ]
    assert (source.entity_count, source.interaction_count) == (2, 2)


def test_classic_ratings_are_weighted_around_the_neutral_one(classic):
    first, second = flat(MovieLensSource(classic).interactions())

    assert first == InteractionDraft(
        user_id="7",
        entity_type="movie",
        entity_id="1",
        interaction_type="rating",
        interaction_id="ml:7:1",
        weight=1.5,
        metadata={"rating": 4},
        timestamp=datetime(1997, 12, 4, 15, 55, 49, tzinfo=UTC),
    )
    assert second.weight == -1.5


def test_classic_users_are_offered_apart(classic):
    first, second = flat(MovieLensSource(classic).user_entities())

    assert first.attributes == {
        "age": 24,
        "gender": "M",
        "occupation": "writer",
        "zip_code": "85711",
    }
    assert (second.entity_type, second.entity_id) == ("user", "8")


def test_latest_layout_is_read(latest):
    source = MovieLensSource(latest)

    films = flat(source.entities())
    assert [film.attributes for film in films] == [
        {"title": "The Matrix", "genres": ["Action", "Sci-Fi"], "year": 1999},
        {"title": "Untold", "genres": []},
    ]
    ratings = flat(source.interactions())
    assert [(r.interaction_id, r.weight, r.metadata) for r in ratings] == [
        ("ml:1:1", 1.0, {"rating": 3.5}),
        ("ml:1:2", 0.0, {"rating": 2.5}),
    ]
    assert (source.entity_count, source.interaction_count) == (2, 2)
    assert flat(source.user_entities()) == []


@pytest.mark.parametrize(
    ("written", "title", "year"),
    [
        ("Toy Story (1995)", "Toy Story", 1995),
        ("Blue Angel, The (Blaue Engel, Der) (1930)", "The Blue Angel (Der Blaue Engel)", 1930),
        ("Auberge espagnole, L' (2002)", "L'Auberge espagnole", 2002),
        ("Good, The Bad and The Ugly, The (1966)", "The Good, The Bad and The Ugly", 1966),
        ("Murder, My Sweet (1944)", "Murder, My Sweet", 1944),
        ("Third Giving (1995) (V)", "Third Giving", 1995),
        ("Wire, The (2002\u20132008)", "The Wire", 2002),
        ("2001: A Space Odyssey", "2001: A Space Odyssey", None),
    ],
)
def test_film_title_is_read_as_it_is_spoken(written, title, year):
    attributes = film_attributes(written, [])

    assert (attributes["title"], attributes.get("year")) == (title, year)


def test_missing_files_are_named(tmp_path):
    (tmp_path / "u.data").write_text("")
    with pytest.raises(InvalidArgument, match=r"u\.item, u\.genre missing"):
        MovieLensSource(tmp_path)


def test_broken_rating_is_named_by_file_and_line(classic):
    with (classic / "u.data").open("a") as lines:
        lines.write("7\tx\n")
    with pytest.raises(InvalidArgument, match=r"u\.data: line 3"):
        flat(MovieLensSource(classic).interactions())


@pytest.mark.skipif(not ML_100K.is_dir(), reason="ml-100k is not at hand")
def test_ml_100k_is_read_whole():
    source = MovieLensSource(ML_100K)

    films = flat(source.entities())
    assert len({film.entity_id for film in films}) == source.entity_count == 1682
    assert [film.entity_id for film in films if "year" not in film.attributes] == ["267"]
    ratings = flat(source.interactions())
    assert len({rating.interaction_id for rating in ratings}) == source.interaction_count == 100_000
    assert len(flat(source.user_entities())) == 943
