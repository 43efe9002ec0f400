"""What callers sent and what was acknowledged, and what of it is there at the end."""

from collections import Counter
from dataclasses import dataclass, field

import asyncpg

_STORED = """
SELECT interaction_id, user_id, entity_id, count(*) AS copies
FROM interactions WHERE tenant_id = 'default' AND starts_with(interaction_id, $1)
GROUP BY interaction_id, user_id, entity_id
"""
_PROFILES = """
SELECT user_id, interaction_count FROM user_profiles
WHERE tenant_id = 'default' AND starts_with(user_id, $1)
"""


@dataclass(frozen=True, slots=True)
class Like:
    """One interaction that a caller sends, under the same id until it is acknowledged."""

    id: str
    user: str
    film: str


@dataclass(frozen=True, slots=True)
class Row:
    """What a fault did to callers: a line of the table.

    Attributes:
        acknowledged: interactions of which a caller was told that they are stored.
        found: those of them that are in the event log at the end.
        lost: those that are not.
        doubled: interactions that are there twice, acknowledged or not.
        wrong: answers and profiles that contradict what was acknowledged, and errors that are none
            of the documented ones.
        failed: calls whose error the client, with its repetitions, handed on.
        degraded: answers that said themselves that they may be old.
    """

    fault: str
    rounds: int
    acknowledged: int
    found: int
    lost: int
    doubled: int
    wrong: int
    failed: int
    degraded: int


@dataclass
class Ledger:
    """Kept by the callers of one fault; ids of interactions and users begin with its name."""

    name: str
    sent: dict[str, Like] = field(default_factory=dict)
    acked: set[str] = field(default_factory=set)
    seen: dict[str, set[str]] = field(default_factory=dict)
    token: dict[str, str] = field(default_factory=dict)
    failed: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    answers: int = 0
    degraded: int = 0
    streams_ended: int = 0

    def send(self, like: Like) -> None:
        """Before it goes out."""
        self.sent[like.id] = like

    def acknowledge(self, like: Like, token: str) -> None:
        """When the service has said that it is stored."""
        self.acked.add(like.id)
        self.seen.setdefault(like.user, set()).add(like.film)
        self.token[like.user] = token

    async def settle(self, database_url: str, fault: str, rounds: int) -> Row:
        """Compares with the event log and the profiles, once no call is under way any more."""
        connection = await asyncpg.connect(database_url, timeout=30)
        try:
            stored = await connection.fetch(_STORED, f"{self.name}-")
            profiles = await connection.fetch(_PROFILES, f"{self.name}-")
        finally:
            await connection.close()
        copies: Counter[str] = Counter()
        logged: Counter[str] = Counter()
        for row in stored:
            copies[row["interaction_id"]] += row["copies"]
            logged[row["user_id"]] += row["copies"]
            like = self.sent.get(row["interaction_id"])
            if like is None or (like.user, like.film) != (row["user_id"], row["entity_id"]):
                self.wrong.append(f"stored, but never sent: {dict(row)}")
        counted = {row["user_id"]: row["interaction_count"] for row in profiles}
        for user in counted.keys() | logged.keys():
            if counted.get(user, 0) != logged[user]:
                self.wrong.append(
                    f"profile of {user} counts {counted.get(user)}, the log has {logged[user]}"
                )
        found = self.acked & copies.keys()
        return Row(
            fault=fault,
            rounds=rounds,
            acknowledged=len(self.acked),
            found=len(found),
            lost=len(self.acked) - len(found),
            doubled=sum(count > 1 for count in copies.values()),
            wrong=len(self.wrong),
            failed=self.failed.total(),
            degraded=self.degraded,
        )
