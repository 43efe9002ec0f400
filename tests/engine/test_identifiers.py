"""Checks of what callers send."""

from datetime import UTC, datetime, timedelta

import pytest

from engine.identifiers import (
    check_attributes_size,
    check_depth,
    check_id,
    check_page_size,
    check_tenant_id,
    check_timestamp,
    check_weight,
)
from storage.exceptions import InvalidArgument

NOW = datetime(2024, 5, 1, tzinfo=UTC)


def nested(depth):
    value = 1
    for level in range(depth):
        value = {"a": value} if level % 2 else [value]
    return value


@pytest.mark.parametrize("value", ["a", "é" * 127, "a b", "电影-7", "x" * 255, "\u2028"])
def test_id_when_allowed_is_returned(value):
    assert check_id(value, "entity.entity_id") == value


@pytest.mark.parametrize(
    "value", ["", "x" * 256, "é" * 128, "a\nb", "\x00", "\x7f", "\x85", "\ud800"], ids=ascii
)
def test_id_when_wrong_names_the_field(value):
    with pytest.raises(InvalidArgument) as caught:
        check_id(value, "entity.entity_id")
    assert [violation.field for violation in caught.value.violations] == ["entity.entity_id"]


@pytest.mark.parametrize("value", ["default", "a_b-9", "0" * 63])
def test_tenant_id_when_allowed_is_returned(value):
    assert check_tenant_id(value) == value


@pytest.mark.parametrize("value", ["", "A", "a b", "é", "0" * 64, "a\n"], ids=ascii)
def test_tenant_id_when_wrong_is_refused(value):
    with pytest.raises(InvalidArgument, match="tenant_id"):
        check_tenant_id(value)


def test_attributes_size_at_the_limit_is_allowed():
    assert len(check_attributes_size(b"x" * 65536)) == 65536


def test_attributes_size_above_the_limit_is_refused():
    with pytest.raises(InvalidArgument, match="65537 bytes"):
        check_attributes_size(b"x" * 65537)


@pytest.mark.parametrize("depth", [0, 1, 16])
def test_depth_within_the_limit_is_allowed(depth):
    value = nested(depth)
    assert check_depth(value, 16, "attributes") is value


@pytest.mark.parametrize("depth", [17, 50_000])
def test_depth_beyond_the_limit_is_refused(depth):
    with pytest.raises(InvalidArgument, match="nested deeper than 16"):
        check_depth(nested(depth), 16, "attributes")


@pytest.mark.parametrize("value", [datetime(1970, 1, 1, tzinfo=UTC), NOW + timedelta(days=1)])
def test_timestamp_at_the_limits_is_allowed(value):
    assert check_timestamp(value, NOW, "occurred_at") == value


@pytest.mark.parametrize(
    "value",
    [
        datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC),
        NOW + timedelta(days=1, microseconds=1),
        datetime.max.replace(tzinfo=UTC),
    ],
)
def test_timestamp_beyond_the_limits_is_refused(value):
    with pytest.raises(InvalidArgument, match="occurred_at"):
        check_timestamp(value, NOW, "occurred_at")


@pytest.mark.parametrize("value", [0.0, -1e6, 1e6])
def test_weight_when_allowed_is_returned(value):
    assert check_weight(value, "weight") == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e6 + 1])
def test_weight_when_wrong_is_refused(value):
    with pytest.raises(InvalidArgument, match="weight"):
        check_weight(value, "weight")


@pytest.mark.parametrize(("value", "expected"), [(0, 20), (1, 1), (1000, 1000), (5000, 1000)])
def test_page_size_is_coerced(value, expected):
    assert check_page_size(value, 20) == expected


def test_page_size_when_negative_is_refused():
    with pytest.raises(InvalidArgument, match="page_size"):
        check_page_size(-1, 20)
