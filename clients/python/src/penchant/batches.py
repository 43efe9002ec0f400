"""Cutting what the caller hands in into requests of a size that the service takes."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from penchant import requests
from penchant.v1.interaction_pb2 import IngestInteractionsRequest
from penchant.values import BatchUpserted, EntityDraft, Interaction

# BatchUpsertEntities takes no more rows
UPSERT_ROWS = 1000

Row = Interaction | Sequence[Interaction]
"""One interaction, gathered with its neighbours, or a batch that is sent as it is."""


def in_rows(drafts: Iterable[EntityDraft], size: int) -> Iterator[list[EntityDraft]]:
    """Lists of `size`, the last one shorter."""
    rows = iter(drafts)
    while chunk := list(islice(rows, size)):
        yield chunk


def joined(answers: Sequence[BatchUpserted], size: int) -> BatchUpserted:
    """The answers to lists of `size` as one; its errors count over the whole input."""
    return BatchUpserted(
        upserted_count=sum(answer.upserted_count for answer in answers),
        errors=tuple(
            replace(error, index=number * size + error.index)
            for number, answer in enumerate(answers)
            for error in answer.errors
        ),
    )


class IngestBatches:
    """Gathers rows into numbered batches.

    Args:
        batch_size: interactions a batch, 1 to 10,000.
    """

    def __init__(self, batch_size: int) -> None:
        if not 1 <= batch_size <= 10_000:
            raise ValueError("batch_size must lie between 1 and 10,000")
        self._batch_size = batch_size
        self._waiting: list[Interaction] = []
        self._sequence = 0

    def add(self, row: Row) -> Iterator[IngestInteractionsRequest]:
        """The batches that `row` completes."""
        if not isinstance(row, Interaction):
            yield from self.flush()
            if row:
                yield self._request(row)
            return
        self._waiting.append(row)
        if len(self._waiting) == self._batch_size:
            yield from self.flush()

    def flush(self) -> Iterator[IngestInteractionsRequest]:
        """The batch of what waits, if anything does."""
        if self._waiting:
            rows, self._waiting = self._waiting, []
            yield self._request(rows)

    def _request(self, rows: Sequence[Interaction]) -> IngestInteractionsRequest:
        request = IngestInteractionsRequest(
            sequence=self._sequence, interactions=map(requests.interaction, rows)
        )
        self._sequence += 1
        return request


class IngestSource:
    """A stream's requests; a failure of the caller's rows ends it early and is kept for `check`.

    gRPC would swallow an exception of the request iterator. This way what was already sent is
    acknowledged first, and then the caller sees their own error.
    """

    def __init__(self, rows: Iterable[Row] | AsyncIterable[Row], batch_size: int) -> None:
        self._rows = rows
        self._batches = IngestBatches(batch_size)
        self._failure: Exception | None = None

    def __iter__(self) -> Iterator[IngestInteractionsRequest]:
        if isinstance(self._rows, AsyncIterable):
            raise TypeError("an async iterable needs the async client")
        try:
            for row in self._rows:
                yield from self._batches.add(row)
            yield from self._batches.flush()
        except Exception as failure:  # noqa: BLE001 - the caller's own code; raised again by check
            self._failure = failure

    async def __aiter__(self) -> AsyncIterator[IngestInteractionsRequest]:
        if not isinstance(self._rows, AsyncIterable):
            for request in self:
                yield request
            return
        try:
            async for row in self._rows:
                for request in self._batches.add(row):
                    yield request
            for request in self._batches.flush():
                yield request
        except Exception as failure:  # noqa: BLE001 - the caller's own code; raised again by check
            self._failure = failure

    def check(self) -> None:
        """Raises what ended the rows early, if something did."""
        if self._failure is not None:
            raise self._failure
