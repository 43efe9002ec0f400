"""Items as columns: the part of a list that later pages show, in caches and page tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from engine import native
from engine.items import Item, Reason, SourceScore
from storage.entities import EntityKey, Look

_UNKNOWN: Look = ("", "", "{}")
_WHOLE = 0x80  # on a reason's source: the share is 1, and is not packed
_SOURCES = 0x7F  # as many as that flag leaves room for
_SMALL = 2**32  # numbers of entities below it take half the room


@dataclass(frozen=True, slots=True)
class ItemColumns:
    """n items with r reasons, which name b entities, and with t scores of sources.

    Each item's and each reason's part of the columns behind it follows the former one's. The items'
    own names and attributes are not here: later pages look them up by number.

    Attributes:
        sources: names; other columns hold places in them.
        names: of the entities that led to items; `because` holds places in them.
        numbers: int64 (n,).
        scores: float64 (n,).
        reasons: uint8 (n,), how many each item has.
        origins: uint8 (r,), the source of each.
        shares: float64 (r,).
        leads: uint8 (r,), how many entities each names.
        because: uint16 (b,).
        told: uint8 (n,), how many scores of sources each item has.
        tellers: uint8 (t,), the source of each.
        details: float64 (t, 3): raw, normalized, weight.
    """

    sources: Sequence[str]
    names: Sequence[EntityKey]
    numbers: NDArray[np.int64]
    scores: NDArray[np.float64]
    reasons: NDArray[np.uint8]
    origins: NDArray[np.uint8]
    shares: NDArray[np.float64]
    leads: NDArray[np.uint8]
    because: NDArray[np.uint16]
    told: NDArray[np.uint8]
    tellers: NDArray[np.uint8]
    details: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, wanted: slice) -> "ItemColumns":
        """Some of the items; the slice goes forward, one by one."""
        start, end, _ = wanted.indices(len(self))
        end = max(start, end)
        reasons, because, told = self._spans(start, end)
        return ItemColumns(
            self.sources,
            self.names,
            self.numbers[start:end],
            self.scores[start:end],
            self.reasons[start:end],
            self.origins[reasons],
            self.shares[reasons],
            self.leads[reasons],
            self.because[because],
            self.told[start:end],
            self.tellers[told],
            self.details[told],
        )

    def _spans(self, start: int, end: int) -> tuple[slice, slice, slice]:
        """Where reasons, the entities that they name, and scores of some items stand."""
        if native.compiled:
            return native.kernels.spans(self.reasons, self.leads, self.told, start, end)
        reasons = _span(self.reasons, start, end)
        because = _span(self.leads, reasons.start, reasons.stop)
        return reasons, because, _span(self.told, start, end)

    def items(self, looks: Sequence[Look] | None = None) -> tuple[Item, ...]:
        """The items, with names and attributes where those are given."""
        names = [self.names[place] for place in self.because.tolist()]
        sources = [self.sources[place] for place in self.origins.tolist()]
        reasons = [
            Reason(source, share, tuple(names[led]))
            for source, share, led in zip(
                sources, self.shares.tolist(), _spans(self.leads), strict=True
            )
        ]
        told = [
            SourceScore(self.sources[place], *said)
            for place, said in zip(self.tellers.tolist(), self.details.tolist(), strict=True)
        ]
        columns = zip(
            self.numbers.tolist(),
            self.scores.tolist(),
            [_UNKNOWN] * len(self) if looks is None else looks,
            _spans(self.reasons),
            _spans(self.told),
            strict=True,
        )
        return tuple(
            Item(number, kind, name, score, tuple(reasons[why]), text, tuple(told[said]))
            for number, score, (kind, name, text), why, said in columns
        )

    def pack(self) -> bytes:
        """The columns as bytes; b"" for no items."""
        if not len(self):
            return b""
        named, numbers, flagged, shares, because = self._packed()
        packed: bytes = msgpack.packb(
            [
                self.sources,
                [self.names[place] for place in named],
                numbers,
                self.scores.astype("<f8", copy=False).tobytes(),
                self.reasons.tobytes(),
                flagged,
                shares,
                self.leads.tobytes(),
                because,
                self.told.tobytes(),
                self.tellers.tobytes(),
                self.details.astype("<f8", copy=False).tobytes(),
            ]
        )
        return packed

    def _packed(self) -> tuple[list[int], bytes, bytes, bytes, bytes]:
        """The places of the names that are needed, and four columns as they are packed.

        Those are the numbers, the origins with a flag for a share of 1, the other shares, and
        places in the needed names.
        """
        if native.compiled:
            return native.kernels.packed(
                self.numbers, self.origins, self.shares, self.because, len(self.names)
            )
        small = int(self.numbers.max()) < _SMALL
        whole = self.shares == 1.0
        named, because = np.unique(self.because, return_inverse=True)
        return (
            named.tolist(),
            self.numbers.astype("<u4" if small else "<i8").tobytes(),
            (self.origins | (whole * np.uint8(_WHOLE))).tobytes(),
            self.shares[~whole].astype("<f8").tobytes(),
            because.astype("<u2").tobytes(),
        )


def columns_of(items: Sequence[Item]) -> ItemColumns:
    """Items, but for their names and attributes, as columns."""
    reasons = [reason for item in items for reason in item.reasons]
    said = [score for item in items for score in item.source_scores]
    sources = {
        name: place
        for place, name in enumerate(
            dict.fromkeys([r.source for r in reasons] + [s.source for s in said])
        )
    }
    because = [name for reason in reasons for name in reason.because_of]
    names = {name: place for place, name in enumerate(dict.fromkeys(because))}
    return ItemColumns(
        list(sources),
        list(names),
        np.array([item.entity_no for item in items], np.int64),
        np.array([item.score for item in items], np.float64),
        np.array([len(item.reasons) for item in items], np.uint8),
        np.array([sources[reason.source] for reason in reasons], np.uint8),
        np.array([reason.share for reason in reasons], np.float64),
        np.array([len(reason.because_of) for reason in reasons], np.uint8),
        np.array([names[name] for name in because], np.uint16),
        np.array([len(item.source_scores) for item in items], np.uint8),
        np.array([sources[score.source] for score in said], np.uint8),
        np.array([(s.raw, s.normalized, s.weight) for s in said], np.float64).reshape(-1, 3),
    )


def pack_rest(items: Sequence[Item]) -> bytes:
    """Items of later pages in small; b"" for none.

    They go without names and attributes, which are read again when the page is asked for.
    """
    return columns_of(items).pack() if items else b""


def unpack_rest(packed: bytes) -> ItemColumns:
    """The items of `pack_rest` or `ItemColumns.pack`, as `ItemColumns` has them.

    Raises:
        ValueError: it is neither's.
    """
    if not packed:
        return columns_of(())
    try:
        return _checked(*msgpack.unpackb(packed))
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        raise ValueError("no packed items") from error


def _checked(
    sources: Any,
    names: Any,
    numbers: bytes,
    scores: bytes,
    reasons: bytes,
    flagged: bytes,
    shares: bytes,
    leads: bytes,
    because: bytes,
    told: bytes,
    tellers: bytes,
    details: bytes,
) -> ItemColumns:
    """The columns of what was packed, which may be anything."""
    found = ItemColumns(
        _texts(sources),
        [(kind, name) for kind, name in map(_texts, names)],
        _numbers(numbers, len(scores) // 8),
        np.frombuffer(scores, "<f8"),
        np.frombuffer(reasons, np.uint8),
        np.frombuffer(flagged, np.uint8) & np.uint8(_SOURCES),
        _shares(np.frombuffer(flagged, np.uint8), np.frombuffer(shares, "<f8")),
        np.frombuffer(leads, np.uint8),
        np.frombuffer(because, "<u2"),
        np.frombuffer(told, np.uint8),
        np.frombuffer(tellers, np.uint8),
        np.frombuffer(details, "<f8").reshape(-1, 3),
    )
    if not (
        len(found.scores) == len(found.numbers) == len(found.reasons) == len(found.told)
        and int(found.reasons.sum()) == len(found.origins) == len(found.leads)
        and int(found.leads.sum()) == len(found.because)
        and int(found.told.sum()) == len(found.tellers) == len(found.details)
        and (found.numbers > 0).all()
        and _below(found.origins, len(found.sources))
        and _below(found.tellers, len(found.sources))
        and _below(found.because, len(found.names))
    ):
        raise ValueError("columns that do not fit")
    return found


def _texts(found: Any) -> list[str]:
    if not (isinstance(found, list) and all(isinstance(text, str) for text in found)):
        raise ValueError("no texts")
    return found


def _numbers(packed: bytes, count: int) -> NDArray[np.int64]:
    kind = "<u4" if len(packed) == 4 * count else "<i8"
    return np.frombuffer(packed, kind).astype(np.int64)


def _shares(flagged: NDArray[np.uint8], packed: NDArray[np.float64]) -> NDArray[np.float64]:
    shares = np.ones(len(flagged))
    parts = np.flatnonzero(flagged < _WHOLE)
    if len(parts) != len(packed):
        raise ValueError("a share too many, or too few")
    shares[parts] = packed
    return shares


def _below(places: NDArray[Any], count: int) -> bool:
    return not len(places) or int(places.max()) < count


def _span(lengths: NDArray[np.uint8], start: int, end: int) -> slice:
    """Where the parts of start to end lie in what the lengths are of."""
    first = int(lengths[:start].sum())
    return slice(first, first + int(lengths[start:end].sum()))


def _spans(lengths: NDArray[np.uint8]) -> list[slice]:
    """Where each part lies in what the lengths are of."""
    return [slice(*ends) for ends in pairwise(accumulate(lengths.tolist(), initial=0))]
