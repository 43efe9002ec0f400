"""The demo's catalogue: made-up books, and readers whose tastes are known.

Everything follows from a seed: the same seed makes the same books, readers and interactions.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from engine.drafts import EntityDraft, InteractionDraft
from sources.batches import in_batches

GENRES = (
    "science fiction", "fantasy", "crime", "romance", "horror", "history",
    "biography", "travel", "cooking", "poetry", "philosophy", "adventure",
)  # fmt: skip
_ADJECTIVES = (
    "Silent", "Crimson", "Forgotten", "Hidden", "Last", "Broken", "Golden", "Distant", "Burning",
    "Hollow", "Restless", "Gentle", "Winter", "Salt", "Paper", "Borrowed", "Midnight", "Narrow",
)  # fmt: skip
_NOUNS = {
    "science fiction": ("Orbit", "Engine", "Colony", "Signal", "Star", "Machine"),
    "fantasy": ("Crown", "Dragon", "Spell", "Kingdom", "Raven", "Tower"),
    "crime": ("Alibi", "Witness", "Verdict", "Motive", "Harbour", "Case"),
    "romance": ("Letter", "Summer", "Promise", "Waltz", "Heart", "Garden"),
    "horror": ("Cellar", "Whisper", "Hunger", "Mirror", "Grave", "Fog"),
    "history": ("Empire", "Siege", "Century", "Treaty", "Archive", "Fleet"),
    "biography": ("Life", "Portrait", "Years", "Apprentice", "Voice", "Witness"),
    "travel": ("Road", "Coast", "Pass", "Island", "Railway", "Border"),
    "cooking": ("Kitchen", "Table", "Harvest", "Salt", "Bread", "Orchard"),
    "poetry": ("Verses", "Songs", "Silence", "Rivers", "Birds", "Light"),
    "philosophy": ("Doubt", "Reason", "Mind", "Question", "Limit", "Virtue"),
    "adventure": ("Expedition", "Summit", "Reef", "Map", "Storm", "Treasure"),
}
_PLACES = (
    "Avenmoor",
    "Ostrava Bay",
    "Kelle",
    "the North",
    "Lisbet",
    "Tarn",
    "Mirevale",
    "Dun Arra",
)
_FIRST = ("Ines", "Tobias", "Mara", "Henrik", "Oona", "Pavel", "Lucia", "Emil", "Sana", "Ruben")
_LAST = (
    "Falk", "Moreau", "Lindqvist", "Abara", "Castellan", "Novik", "Ferro", "Okafor", "Brandt",
    "Silva", "Haddad", "Kovar", "Weiss", "Tanaka", "Bell",
)  # fmt: skip
_LANGUAGES = ("en", "en", "en", "de", "fr", "es")
_DAYS = 60


@dataclass(frozen=True, slots=True)
class Book:
    """A made-up book."""

    entity_id: str
    title: str
    genres: tuple[str, ...]
    author: str
    year: int
    pages: int
    language: str
    popularity: float


@dataclass(frozen=True, slots=True)
class Reader:
    """A reader, and what they like and do not like."""

    user_id: str
    loved: tuple[str, ...]
    author: str
    disliked: str


NAMED_READERS = {
    "ada": (("science fiction", "philosophy"), "romance"),
    "ben": (("crime", "history"), "fantasy"),
    "chloe": (("romance", "cooking"), "horror"),
}
"""The readers that the demo shows: loved genres and the disliked one."""


class DemoCatalogue:
    """Books and readers of one seed.

    Args:
        seed: decides everything.
        books: how many books.
        readers: how many readers, the named ones among them.
    """

    def __init__(self, seed: int = 7, books: int = 2000, readers: int = 300) -> None:
        self._seed = seed
        dice = random.Random(seed)  # noqa: S311 - a catalogue is no secret
        authors = [f"{first} {last}" for first in _FIRST for last in _LAST]
        homes = {author: dice.choice(GENRES) for author in authors}
        by_home: dict[str, list[str]] = {}
        for author, genre in homes.items():
            by_home.setdefault(genre, []).append(author)
        self.books = [self._book(dice, number, by_home, authors) for number in range(books)]
        self._authors = authors
        self._readers = {r.user_id: r for r in self._make_readers(dice, readers, by_home)}

    @staticmethod
    def _book(
        dice: random.Random, number: int, by_home: dict[str, list[str]], authors: list[str]
    ) -> Book:
        genre = dice.choice(GENRES)
        second = dice.choice(GENRES)
        genres = (genre,) if second == genre or dice.random() < 0.6 else (genre, second)
        at_home = by_home.get(genre) or authors
        adjective, noun = dice.choice(_ADJECTIVES), dice.choice(_NOUNS[genre])
        title = dice.choice(
            (
                f"The {adjective} {noun}",
                f"{adjective} {noun}",
                f"The {noun} of {dice.choice(_PLACES)}",
                f"{'An' if noun[0] in 'AEIOU' else 'A'} {noun} in {dice.choice(_PLACES)}",
            )
        )
        return Book(
            entity_id=f"book-{number + 1:04}",
            title=title,
            genres=genres,
            author=dice.choice(at_home if dice.random() < 0.85 else authors),
            year=dice.randint(1950, 2025),
            pages=dice.randint(90, 900),
            language=dice.choice(_LANGUAGES),
            # Zipf's law: a few books are met by many readers.
            popularity=1.0 / (1 + dice.randrange(400)) ** 0.8,
        )

    @staticmethod
    def _make_readers(
        dice: random.Random, count: int, by_home: dict[str, list[str]]
    ) -> Iterator[Reader]:
        for user_id, (loved, disliked) in NAMED_READERS.items():
            yield Reader(user_id, loved, dice.choice(by_home.get(loved[0]) or ["nobody"]), disliked)
        for number in range(count - len(NAMED_READERS)):
            first, second, disliked = dice.sample(GENRES, 3)
            author = dice.choice(by_home.get(first) or ["nobody"])
            yield Reader(f"reader-{number + 1:03}", (first, second), author, disliked)

    def reader(self, user_id: str) -> Reader:
        """A reader by id; KeyError when there is none."""
        return self._readers[user_id]

    @property
    def readers(self) -> list[Reader]:
        """All readers, the named ones first."""
        return list(self._readers.values())

    def entities(self) -> Iterator[list[EntityDraft]]:
        """The books, in batches of 500."""
        return in_batches(
            (
                EntityDraft(
                    "book",
                    book.entity_id,
                    {
                        "title": book.title,
                        "genres": list(book.genres),
                        "author": book.author,
                        "year": book.year,
                        "pages": book.pages,
                        "language": book.language,
                    },
                )
                for book in self.books
            ),
            500,
        )

    def interactions(self, now: datetime) -> Iterator[list[InteractionDraft]]:
        """What the readers did in the 60 days before `now`, in batches of 1,000."""
        return in_batches(
            interaction for reader in self.readers for interaction in self._acts(reader, now)
        )

    def _acts(self, reader: Reader, now: datetime) -> Iterator[InteractionDraft]:
        dice = random.Random(f"{self._seed}:{reader.user_id}")  # noqa: S311 - as above
        weights = [self._attraction(reader, book) * book.popularity for book in self.books]
        met = dict.fromkeys(dice.choices(range(len(self.books)), weights, k=dice.randint(30, 55)))
        for place, index in enumerate(met):
            book = self.books[index]
            likes = self._attraction(reader, book) >= 1.0
            kind = dice.choices(("view", "like", "purchase"), (2, 4, 2) if likes else (8, 1, 0))[0]
            yield InteractionDraft(
                user_id=reader.user_id,
                entity_type="book",
                entity_id=book.entity_id,
                interaction_type=kind,
                interaction_id=f"demo:{reader.user_id}:{place}",
                timestamp=now - timedelta(seconds=dice.uniform(60, _DAYS * 86400)),
            )

    @staticmethod
    def _attraction(reader: Reader, book: Book) -> float:
        if reader.disliked in book.genres:
            return 0.002
        loved = sum(genre in reader.loved for genre in book.genres)
        return (0.04 + loved) * (3.0 if loved and book.author == reader.author else 1.0)
