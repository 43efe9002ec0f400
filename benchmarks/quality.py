"""The quality of served answers: trains over gRPC, asks Recommend for every user, judges the lists.

`python -m benchmarks.quality --train F [--valid F] --test F`. Prints one line of JSON to stdout;
progress goes to stderr.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from google.protobuf.json_format import MessageToJson
from penchant.v1.model_pb2 import ModelVersion
from penchant.v1.recommendation_pb2_grpc import RecommendationServiceStub

from benchmarks import service
from benchmarks.console import Advance, Steps
from benchmarks.quality_data import (
    BadFile,
    Ids,
    K,
    Rows,
    judge,
    read,
    sets_by_user,
    times_of,
    weights_of,
)

if TYPE_CHECKING:
    from penchant.v1.recommendation_pb2_grpc import RecommendationServiceAsyncStub

MODEL = "quality"
NONE = "none"
AUTO = "auto"

_CALLERS = 16
_CHANNELS = 8
_CALL_SECS = 60.0
_ATTEMPTS = 5
_AGAIN = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
)


@dataclass(frozen=True, slots=True)
class Data:
    """What the files hold, over the same codes."""

    users: Ids
    items: Ids
    train: Rows
    valid: Rows | None
    test: Rows

    @classmethod
    def read(cls, arguments: argparse.Namespace) -> "Data":
        """Reads all files.

        Raises:
            BadFile: one cannot be.
        """
        users, items = Ids(), Ids()

        def part(path: Path) -> Rows:
            return read(path, arguments.format, users, items)

        train = part(arguments.train)
        valid = part(arguments.valid) if arguments.valid else None
        if not len(train):
            raise BadFile(f"{arguments.train}: there is no interaction in it")
        return cls(users, items, train, valid, part(arguments.test))

    @property
    def known(self) -> list[Rows]:
        """What is trained on in the end."""
        return [self.train] if self.valid is None else [self.train, self.valid]

    def log(self, ratings: str) -> tuple[service.Log, int | None]:
        """The interactions to ingest, and the instant from which they are for validation."""
        times = times_of(self.train, self.valid, int(time.time()))
        together = [weights_of(rows, ratings) for rows in self.known]
        weights = [part for part in together if part is not None]
        log = service.Log(
            self.users.names,
            self.items.names,
            np.concatenate([rows.users for rows in self.known]),
            np.concatenate([rows.items for rows in self.known]),
            np.concatenate([times.train, times.valid]),
            np.concatenate(weights) if len(weights) == len(together) else None,
        )
        return log, times.holdout_after


@dataclass(frozen=True, slots=True)
class Served:
    """What Recommend answered, and the milliseconds that each call took, in no order."""

    lists: Mapping[str, Sequence[str]]
    took_ms: Sequence[float]


async def ask_all(
    channels: Sequence[grpc.aio.Channel], users: Sequence[str], advance: Advance
) -> Served:
    """Asks Recommend for each user, some calls under way at a time."""
    lists: dict[str, list[str]] = {}
    took_ms: list[float] = []
    waiting = iter(users)

    async def caller(channel: grpc.aio.Channel) -> None:
        stub = RecommendationServiceStub(channel)
        for user in waiting:
            began = time.perf_counter()
            lists[user] = await _ask(stub, user)
            took_ms.append((time.perf_counter() - began) * 1000)
            advance(len(took_ms))

    await service.together(caller(channels[n % len(channels)]) for n in range(_CALLERS))
    return Served(lists, took_ms)


async def _ask(stub: "RecommendationServiceAsyncStub", user: str) -> list[str]:
    request = service.recommend_request(user, K)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            answer = await stub.Recommend(request, metadata=service.METADATA, timeout=_CALL_SECS)
        except grpc.aio.AioRpcError as error:
            if error.code() not in _AGAIN or attempt == _ATTEMPTS:
                raise
            await asyncio.sleep(0.2 * 2**attempt)
        else:
            break
    return [item.entity.entity_id for item in answer.items]


def hyperparameters(arguments: argparse.Namespace, holdout_after: int | None) -> dict[str, Any]:
    """Those given, and for auto the budget and the validation part."""
    given: dict[str, Any] = {}
    if arguments.model == AUTO:
        given["seconds"] = arguments.seconds
        if holdout_after is not None:
            given["holdout_after"] = holdout_after
    given.update(arguments.hyperparameters)
    return given


async def run(arguments: argparse.Namespace, data: Data, steps: Steps) -> dict[str, Any]:
    """The whole measurement.

    Raises:
        service.Refused: an interaction or the training was.
        grpc.aio.AioRpcError: a call failed.
    """
    log, holdout_after = data.log(arguments.ratings)
    wanted = sets_by_user([data.test], len(data.users.names))
    seen = sets_by_user(data.known, len(data.users.names))
    asked = [code for code, items in enumerate(wanted) if items]
    names = [data.users.names[code] for code in asked]
    seconds: dict[str, float] = {}
    version: ModelVersion | None = None
    with tempfile.TemporaryDirectory(prefix="penchant-quality-") as directory:
        steps.say("starting PostgreSQL, Redis and the service")
        async with (
            service.service(Path(directory), arguments.workers) as settings,
            service.channels(f"127.0.0.1:{settings.port}", _CHANNELS) as channels,
        ):
            await service.create_tenant(channels[0])
            began = time.monotonic()
            with steps.step(f"ingesting {len(log.users)} interactions", len(log.users)) as advance:
                await service.ingest(channels, log, advance)
            seconds["ingest"] = time.monotonic() - began
            await service.prepare(settings, everything=arguments.model == NONE)
            if arguments.model != NONE:
                began = time.monotonic()
                await service.create_model(
                    channels[0], MODEL, arguments.model, hyperparameters(arguments, holdout_after)
                )
                with steps.step(f"training {arguments.model}", 1) as advance:
                    version = await service.train(channels[0], MODEL, advance)
                seconds["fit"] = time.monotonic() - began
                await service.until_served(channels, names[0], version)
            began = time.monotonic()
            with steps.step(f"asking for {len(asked)} users", len(asked)) as advance:
                served = await ask_all(
                    channels, [data.users.names[code] for code in asked], advance
                )
            seconds["serving"] = time.monotonic() - began
    if arguments.answers:
        write_answers(arguments.answers, served)
    if arguments.report and version is not None:
        arguments.report.write_text(MessageToJson(version.report), encoding="utf-8")
    judged = judge(
        (
            [data.items.codes.get(item, -1) for item in served.lists[name]],
            wanted[code] - seen[code],
        )
        for name, code in zip(names, asked, strict=True)
    )
    p50, p99 = np.percentile(served.took_ms, [50, 99]).tolist()
    return {
        f"recall@{K}": judged.recall.mean,
        f"ndcg@{K}": judged.ndcg.mean,
        "intervals": {
            f"recall@{K}": [judged.recall.low, judged.recall.high],
            f"ndcg@{K}": [judged.ndcg.low, judged.ndcg.high],
        },
        "users": judged.users,
        "model": NONE if version is None else version.algorithm,
        "settings": None if version is None else service.settings_of(version),
        "asked_for": arguments.model,
        "interactions": len(log.users),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "p50_ms": p50,
        "p99_ms": p99,
        "peak_memory_bytes": None if version is None else version.peak_memory_bytes,
        "validation": None
        if version is None
        else {name: value for name, value in sorted(version.metrics.items()) if f"@{K}" in name},
    }


def write_answers(path: Path, served: Served) -> None:
    """One JSON object a line: a user and the user's list, best first."""
    with path.open("w", encoding="utf-8") as lines:
        for user, items in served.lists.items():
            lines.write(json.dumps({"user": user, "items": items}, ensure_ascii=False) + "\n")


def _object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("a JSON object is wanted")
    return value


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--train", type=Path, required=True, help="plain or .gz, as all files")
    parser.add_argument("--valid", type=Path, help="what auto chooses by; trained on in the end")
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument(
        "--format",
        choices=("adjacency", "tsv"),
        help="a user with items, or user, item[, rating[, unix time]]; default: by the first line",
    )
    parser.add_argument("--model", default=AUTO, help="an algorithm, auto, or none for no model")
    parser.add_argument("--report", type=Path, help="file for what auto tried, JSON")
    parser.add_argument("--answers", type=Path, help="file for the lists, JSON lines")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=780.0, help="time budget of auto")
    parser.add_argument(
        "--ratings",
        choices=("ignore", "stars", "weights", "auto"),
        default="ignore",
        help="ignore: any interaction is one, as what is to be found is judged; stars: weights are "
        "what is above 2.5; weights: as they are; auto: stars if within 0.5 and 5, else weights",
    )
    parser.add_argument(
        "--hyperparameters", type=_object, default={}, help="of the model, a JSON object"
    )
    return parser.parse_args(words)


def main() -> None:
    """Runs and prints; a file or a step that fails is one sentence and exit code 1."""
    arguments = parse()
    steps = Steps()
    try:
        with steps.step("reading", 1):
            data = Data.read(arguments)
        result = asyncio.run(run(arguments, data, steps))
    except (BadFile, service.Refused) as error:
        sys.exit(f"quality: {error}")
    except grpc.aio.AioRpcError as error:
        sys.exit(f"quality: {error.code().name}: {error.details()}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
