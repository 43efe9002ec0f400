"""Items as columns: every bit comes back, and what is none of ours is refused as such."""

from dataclasses import replace

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.item_columns import columns_of, pack_rest, unpack_rest
from engine.items import Item, Reason, SourceScore

texts = st.text(max_size=8)
names = st.tuples(texts, texts)
real = st.floats(allow_nan=False)
shares = st.just(1.0) | st.floats(0, 1)
words = st.sampled_from(["content", "item_to_item", "model", "popular"])
reasons = st.builds(Reason, words, shares, st.lists(names, max_size=3).map(tuple))
said = st.builds(SourceScore, words, real, real, real)
items = st.builds(
    Item,
    st.integers(1, 40) | st.integers(1, 2**63 - 1),
    st.just(""),
    st.just(""),
    real,
    st.lists(reasons, max_size=3).map(tuple),
    source_scores=st.lists(said, max_size=3).map(tuple),
)
listed = st.lists(items, max_size=8).map(tuple)

ONE = Item(7, "book", "b", 0.5, (Reason("content", 0.25, (("book", "a"),)), Reason("model", 0.75)))
COLUMNS = msgpack.unpackb(pack_rest([ONE]))
SOURCES, NAMES, NUMBERS, SCORES, REASONS, ORIGINS = range(6)
SHARES, LEADS, BECAUSE, TOLD, TELLERS, DETAILS = range(6, 12)


@given(listed)
def test_items_come_back_as_they_were(wanted):
    assert unpack_rest(pack_rest(wanted)).items() == wanted


@given(listed, st.integers(0, 9), st.integers(0, 9))
def test_a_slice_of_items_is_those_items(wanted, start, end):
    part = unpack_rest(pack_rest(wanted))[start:end]
    assert part.items() == wanted[start:end]
    assert unpack_rest(part.pack()).items() == wanted[start:end]


@given(listed)
def test_items_look_as_the_caller_says(wanted):
    looks = [("book", f"b{place}", f'{{"n": {place}}}') for place in range(len(wanted))]
    assert columns_of(wanted).items(looks) == tuple(
        replace(item, entity_type=kind, entity_id=name, attributes=text)
        for item, (kind, name, text) in zip(wanted, looks, strict=True)
    )


def test_names_that_led_to_no_item_of_a_part_do_not_travel():
    other = replace(ONE, reasons=(Reason("content", 1.0, (("book", "elsewhere"),)),))
    assert b"elsewhere" not in columns_of([ONE, other])[:1].pack()


def test_no_items_are_no_bytes():
    assert (pack_rest([]), columns_of([]).pack(), unpack_rest(b"").items()) == (b"", b"", ())


@given(st.binary(max_size=60))
def test_random_bytes_are_no_items(packed):
    if packed:
        with pytest.raises(ValueError, match="no packed items"):
            unpack_rest(packed)


@given(listed.filter(bool), st.data())
def test_truncated_items_are_refused(wanted, data):
    packed = pack_rest(wanted)
    with pytest.raises(ValueError, match="no packed items"):
        unpack_rest(packed[: data.draw(st.integers(1, len(packed) - 1))])


@given(listed.filter(bool), st.data())
def test_damaged_items_are_others_or_refused(wanted, data):
    packed = bytearray(pack_rest(wanted))
    packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = unpack_rest(bytes(packed))
    except ValueError:
        return
    assert len(found.items()) == len(found)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (SOURCES, 1),
        (SOURCES, ["content"]),
        (SOURCES, [b"content", b"model"]),
        (NAMES, []),
        (NAMES, [["book"]]),
        (NAMES, [["book", 1]]),
        (NAMES, [1]),
        (NUMBERS, b""),
        (NUMBERS, b"\0" * 4),
        (NUMBERS, b"\0" * 8),
        (NUMBERS, b"\xff" * 8),
        (NUMBERS, [7]),
        (SCORES, b"\0" * 7),
        (SCORES, b"\0" * 16),
        (SCORES, 0.5),
        (REASONS, b"\1"),
        (REASONS, b"\2\0"),
        (ORIGINS, b"\0\2"),
        (ORIGINS, b"\0\x81"),
        (ORIGINS, b"\0"),
        (SHARES, b"\0" * 8),
        (SHARES, None),
        (LEADS, b"\0\0"),
        (LEADS, b"\1"),
        (BECAUSE, b"\1\0"),
        (BECAUSE, b"\0"),
        (TOLD, b"\1"),
        (TOLD, b""),
        (TELLERS, b"\0"),
        (DETAILS, b"\0" * 8),
        (DETAILS, b"\0" * 24),
    ],
)
def test_columns_that_do_not_fit_are_refused(column, value):
    bad = [*COLUMNS[:column], value, *COLUMNS[column + 1 :]]
    with pytest.raises(ValueError, match="no packed items"):
        unpack_rest(msgpack.packb(bad))


@pytest.mark.parametrize("packed", [COLUMNS[:-1], [*COLUMNS, b""], {}, 1, None])
def test_columns_too_few_or_too_many_are_refused(packed):
    with pytest.raises(ValueError, match="no packed items"):
        unpack_rest(msgpack.packb(packed))
