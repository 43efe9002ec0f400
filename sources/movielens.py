"""MovieLens data sets: films with genres and years, ratings as interactions.

Two layouts are known: ml-100k (`u.data`, `u.item`, `u.genre`, `u.user`) and that of ml-latest
(`movies.csv`, `ratings.csv`). Their terms of use come with them.
"""

import csv
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from engine.drafts import EntityDraft, InteractionDraft, Json
from sources.batches import in_batches
from storage.exceptions import InvalidArgument

NEUTRAL_RATING = 2.5
"""A rating's weight is what it is above this: 1 star repels, 5 stars attract most."""

# "Toy Story (1995)", "Prime Suspect (1995) (V)", "The Wire (2002-2008)"
_YEAR = re.compile(r"\s*\((\d{4})(?:[-\u2013]\d{0,4})?\)\s*(?:\([A-Z]+\)\s*)?$")
# An article set behind a comma, at the end of a title or of the other title in its parentheses.
_ARTICLE = re.compile(
    r"(?P<rest>[^()]+), "
    r"(?P<article>The|An?|Les?|La|L'|Der|Die|Das|Den?|Det|Een|Il|Lo|Gli|El|Los|Las|Une?|O|Os)"
    r"(?=\s*(?:[()]|$))"
)
_NO_GENRE = frozenset({"unknown", "(no genres listed)"})


def reading_order(title: str) -> str:
    """A title with its articles where they are read: "Blue Angel, The" as "The Blue Angel"."""

    def turned(match: re.Match[str]) -> str:
        rest, article = match["rest"], match["article"]
        start = "" if article.endswith("'") else " "
        return f"{article}{start}{rest}"

    return _ARTICLE.sub(turned, title)


def film_attributes(title: str, genres: list[str]) -> dict[str, Json]:
    """Title in reading order, year where the title ends with one, genres without "unknown"."""
    year = _YEAR.search(title)
    attributes: dict[str, Json] = {
        "title": reading_order(_YEAR.sub("", title).strip()),
        "genres": [genre for genre in genres if genre not in _NO_GENRE],
    }
    if year:
        attributes["year"] = int(year.group(1))
    return attributes


class MovieLensSource:
    """A MovieLens directory.

    Args:
        directory: in one of the two layouts.

    Raises:
        InvalidArgument: files are missing, which are named.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._classic = (directory / "u.data").is_file()
        needed = ("u.data", "u.item", "u.genre") if self._classic else ("movies.csv", "ratings.csv")
        missing = [name for name in needed if not (directory / name).is_file()]
        if missing:
            raise InvalidArgument.field(
                "DIR",
                f"{directory} is in neither MovieLens layout: {', '.join(missing)} missing "
                "(ml-100k has u.data, u.item, u.genre; ml-latest has movies.csv, ratings.csv)",
            )
        self.entity_count = self._lines("u.item" if self._classic else "movies.csv")
        self.interaction_count = self._lines("u.data" if self._classic else "ratings.csv")

    def entities(self) -> Iterator[list[EntityDraft]]:
        """Films, in batches of 1,000."""
        return in_batches(
            EntityDraft("movie", film_id, film_attributes(title, genres))
            for film_id, title, genres in (
                self._classic_films() if self._classic else self._latest_films()
            )
        )

    def user_entities(self) -> Iterator[list[EntityDraft]]:
        """What ml-100k tells of its users, as entities of type "user", in batches of 1,000.

        Nothing for a directory without `u.user`. `entities` leaves them out.
        """
        return in_batches(
            EntityDraft(
                "user",
                user_id,
                {"age": int(age), "gender": gender, "occupation": occupation, "zip_code": zip_code},
            )
            for user_id, age, gender, occupation, zip_code in self._classic_users()
        )

    def interactions(self) -> Iterator[list[InteractionDraft]]:
        """Ratings, in batches of 1,000; ids of user and film make a repetition known."""
        return in_batches(
            InteractionDraft(
                user_id=user_id,
                entity_type="movie",
                entity_id=film_id,
                interaction_type="rating",
                interaction_id=f"ml:{user_id}:{film_id}",
                weight=rating - NEUTRAL_RATING,
                metadata={"rating": int(rating) if rating.is_integer() else rating},
                timestamp=datetime.fromtimestamp(seconds, UTC),
            )
            for user_id, film_id, rating, seconds in self._ratings()
        )

    def _ratings(self) -> Iterator[tuple[str, str, float, int]]:
        name, delimiter = ("u.data", "\t") if self._classic else ("ratings.csv", ",")
        with (self._directory / name).open(encoding="utf-8", newline="") as lines:
            for number, row in enumerate(csv.reader(lines, delimiter=delimiter)):
                if not row or (number == 0 and not self._classic):
                    continue
                try:
                    user_id, film_id, rating, seconds = row
                    yield user_id, film_id, float(rating), int(seconds)
                except ValueError:
                    raise InvalidArgument.field(
                        name, f"line {number + 1} is no rating: {row}"
                    ) from None

    def _classic_films(self) -> Iterator[tuple[str, str, list[str]]]:
        with (self._directory / "u.genre").open(encoding="latin-1") as lines:
            names = [line.split("|")[0] for line in lines if line.strip()]
        with (self._directory / "u.item").open(encoding="latin-1") as lines:
            for line in filter(str.strip, lines):
                film_id, title, _, _, _, *flags = line.rstrip("\n").split("|")
                genres = [name for name, flag in zip(names, flags, strict=False) if flag == "1"]
                yield film_id, title, genres

    def _classic_users(self) -> Iterator[list[str]]:
        path = self._directory / "u.user"
        if self._classic and path.is_file():
            with path.open(encoding="latin-1") as lines:
                yield from (line.rstrip("\n").split("|") for line in filter(str.strip, lines))

    def _latest_films(self) -> Iterator[tuple[str, str, list[str]]]:
        with (self._directory / "movies.csv").open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                yield row["movieId"], row["title"], row["genres"].split("|")

    def _lines(self, name: str) -> int:
        with (self._directory / name).open("rb") as lines:
            count = sum(1 for line in lines if line.strip())
        return count if self._classic else max(0, count - 1)
