"""Verifying stored data: artefacts against checksums, profiles against the event log, indexes."""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from engine.decay import half_life_to_rate
from engine.tenants import TenantDirectory
from engine.tombstones import Tombstones
from storage.artefacts import ArtefactStore, content_hash
from storage.integrity import ArtefactRef, Found, IntegrityStore, ProfileCheck
from storage.tenants import Tenant

MAX_PROFILES = 10_000
"""Of more, about so many are drawn, other ones each time."""

MAX_EXAMPLES = 10
LEAST_COSINE = 1 - 1e-4
MOST_SCALE_ERROR = 1e-3

_ROUNDING = 1e-4  # of what was added up, without the signs
_NOTHING = 1e-9
_DOUBT_SECS = 60.0

_REMEDIES = {
    "model_artefacts": "restore the files from a backup, or delete the versions and train anew",
    "serving_version": "promote a version that can serve, or roll back",
    "profile_counts": "have the profiles made anew (Integrity in docs/operations.md)",
    "profile_accumulators": "have the profiles made anew (Integrity in docs/operations.md)",
    "idempotency_keys": "repeated ids among these would be stored twice; a window made longer"
    " lately needs its length to pass",
    "orphans": "delete the rows as the schema's owner; ask first how they came",
    "indexes": "REINDEX INDEX CONCURRENTLY those that are invalid, DROP those that end in _ccnew",
    "tombstones": "call EraseUser for these users again",
}


@dataclass(frozen=True, slots=True)
class IntegrityCheck:
    """One thing that was verified.

    Attributes:
        examined: how many things were looked at; of users beyond 10,000 it is a sample.
        problems: how many are wrong.
        examples: some of these, at most 10; users' ids are hashed.
        remedy: what to do about them; "" where all is well.
    """

    check: str
    examined: int
    problems: int
    examples: tuple[str, ...]
    remedy: str


class Integrity:
    """Verifies what is stored, without keeping anybody from writing.

    Args:
        hash_user: what stands for a user of a tenant in examples.
        idempotency_window_days: for which ids of interactions must be remembered.
    """

    def __init__(
        self,
        tenants: TenantDirectory,
        store: IntegrityStore,
        artefacts: ArtefactStore,
        tombstones: Tombstones,
        hash_user: Callable[[str, str], str],
        idempotency_window_days: int,
    ) -> None:
        self._tenants = tenants
        self._store = store
        self._artefacts = artefacts
        self._tombstones = tombstones
        self._hash_user = hash_user
        self._window_days = idempotency_window_days
        self._turn = asyncio.Lock()

    async def verify(self, tenant: Tenant) -> list[IntegrityCheck]:
        """All checks of one tenant; one tenant at a time, others wait.

        Raises:
            NotFound: the tenant is being erased.
        """
        store = self._store
        checks: dict[str, Callable[[Tenant], Awaitable[Found]]] = {
            "model_artefacts": self._artefacts_of,
            "serving_version": store.serving_version,
            "profile_counts": store.profile_counts,
            "profile_accumulators": self._accumulators,
            "idempotency_keys": self._keys,
            "orphans": store.orphans_of,
            "indexes": store.indexes,
            "tombstones": self._erased,
        }
        found = []
        async with self._turn:
            for name, check in checks.items():
                result = await self._tenants.run(tenant, check)
                if name in {"profile_counts", "profile_accumulators", "tombstones"}:
                    result = self._without_users(tenant, result)
                found.append(_check(name, result))
        return found

    async def verify_all(self) -> IntegrityCheck:
        """Rows of tenants that do not exist, in all tables."""
        return _check("orphans", await self._store.orphans())

    def _without_users(self, tenant: Tenant, found: Found) -> Found:
        hashed = (self._hash_user(tenant.tenant_id, user_id) for user_id in found.examples)
        return replace(found, examples=tuple(hashed))

    async def _keys(self, tenant: Tenant) -> Found:
        return await self._store.missing_keys(tenant, self._window_days)

    async def _artefacts_of(self, tenant: Tenant) -> Found:
        versions = await self._store.active_versions(tenant)
        problems: dict[ArtefactRef, str] = {}
        for version in versions:
            problem = await asyncio.to_thread(self._problem, version)
            if problem:
                problems[version] = problem
        if problems:
            # One that was deleted meanwhile may have lost its file.
            left = set(await self._store.active_versions(tenant))
            problems = {v: problem for v, problem in problems.items() if v in left}
        return _found(len(versions), [f"{v.label}: {p}" for v, p in problems.items()])

    def _problem(self, version: ArtefactRef) -> str:
        """What is wrong with an artefact, in a thread."""
        try:
            path = self._artefacts.path(version.content_hash)
            size = path.stat().st_size
            if size != version.size_bytes:
                return f"{size} bytes in place of {version.size_bytes}"
            if content_hash(path) != version.content_hash:
                return "the content does not have its checksum"
        except FileNotFoundError:
            return "the file is missing"
        except (OSError, ValueError) as error:
            return f"cannot be read: {type(error).__name__}"
        return ""

    async def _accumulators(self, tenant: Tenant) -> Found:
        count = await self._store.count_profiles(tenant)
        share = min(1.0, MAX_PROFILES / max(count, 1))
        seed = random.getrandbits(31)
        rate = half_life_to_rate(tenant.profile_half_life_secs)
        after, examined = "", 0
        wrong: list[str] = []
        while page := await self._store.profiles(tenant, after, share, seed, _DOUBT_SECS):
            for profile in page:
                if profile.settled:
                    good = is_sound(profile, rate)
                    examined += good or profile.sure
                    if not good and profile.sure:
                        wrong.append(profile.user_id)
            after = page[-1].user_id
        return _found(examined, wrong)

    async def _erased(self, tenant: Tenant) -> Found:
        erasures = {e.user_hash: e for e in await self._store.erasures(tenant)}
        wrong: list[str] = []
        after = ""
        while erasures and (page := await self._store.users_in_log(tenant, after)):
            for user_id, first_at in page:
                erasure = erasures.get(self._tombstones.hash(tenant.tenant_id, user_id))
                if erasure and (not erasure.readmitted or first_at <= erasure.erased_at):
                    wrong.append(user_id)
            after = page[-1][0]
            await asyncio.sleep(0)
        return _found(len(erasures), wrong)


def is_sound(profile: ProfileCheck, rate: float) -> bool:
    """Whether an accumulator is, but for rounding, what the log makes of it; rate in 1/s."""
    size = 1 if profile.kept is None else len(profile.kept)
    size = size if profile.expected is None else len(profile.expected)
    kept = np.zeros(size) if profile.kept is None else profile.kept.astype(np.float64)
    expected = np.zeros(size) if profile.expected is None else profile.expected.astype(np.float64)
    if kept.shape != expected.shape:
        return False
    # Both as seen from the landmark of the one that is kept.
    exponent = rate * (profile.expected_landmark - profile.kept_landmark)
    factor = math.exp(max(-700.0, min(700.0, exponent)))
    expected = expected * factor
    error = float(np.linalg.norm(kept - expected))
    if error <= _ROUNDING * profile.mass * factor + _NOTHING:
        return True
    kept_norm, expected_norm = float(np.linalg.norm(kept)), float(np.linalg.norm(expected))
    if not (kept_norm and expected_norm):
        return False
    cosine = float(kept @ expected) / (kept_norm * expected_norm)
    return cosine >= LEAST_COSINE and abs(kept_norm / expected_norm - 1) <= MOST_SCALE_ERROR


def _found(examined: int, wrong: Iterable[str]) -> Found:
    all_wrong = tuple(wrong)
    return Found(examined, len(all_wrong), all_wrong[:MAX_EXAMPLES])


def _check(name: str, found: Found) -> IntegrityCheck:
    remedy = _REMEDIES[name] if found.problems else ""
    return IntegrityCheck(
        name, found.examined, found.problems, found.examples[:MAX_EXAMPLES], remedy
    )
