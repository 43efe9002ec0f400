"""The table from the domain's exceptions to statuses, row by row."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc import StatusCode
from penchant.v1.error_reason_pb2 import ErrorReason

from server.errors import INTERNAL_MESSAGE, STATUS_CODES, row_error, status_code, to_status
from storage import exceptions as domain

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTED = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.DESCRIPTOR.values_by_name}


def subclasses(base: type[domain.PenchantError]) -> Iterator[type[domain.PenchantError]]:
    for child in base.__subclasses__():
        yield child
        yield from subclasses(child)


EVERY_ERROR = sorted(set(subclasses(domain.PenchantError)), key=lambda error: error.__name__)


def info_of(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


@pytest.mark.parametrize("error", EVERY_ERROR)
def test_error_of_the_domain_has_a_code_and_a_documented_reason(
    error: type[domain.PenchantError],
) -> None:
    assert status_code(error()) not in {StatusCode.INTERNAL, StatusCode.UNKNOWN, StatusCode.OK}
    assert error.reason in DOCUMENTED
    status = to_status(error(), "r1")
    assert status.code == status_code(error()).value[0]
    assert status.message == (error.__doc__ or "").splitlines()[0]
    assert (info_of(status).reason, info_of(status).domain) == (error.reason, "penchant")


@pytest.mark.parametrize(
    ("error", "expected"), STATUS_CODES.items(), ids=lambda value: getattr(value, "__name__", "")
)
def test_code_is_that_of_the_class(error: type[domain.PenchantError], expected: StatusCode) -> None:
    assert status_code(error()) is expected


def test_reason_in_the_code_is_documented() -> None:
    written = {
        reason
        for package in ("server", "jobs", "sources", "engine", "storage")
        for file in (ROOT / package).rglob("*.py")
        for reason in re.findall(r'reason="([A-Z_]+)"', file.read_text())
    }
    assert written - DOCUMENTED == set()


def test_status_tells_the_fields_the_facts_and_the_wait() -> None:
    error = domain.ResourceExhausted(
        "Full.",
        reason="POOL_EXHAUSTED",
        violations=[domain.FieldViolation("a.b", "is wrong")],
        metadata={"limit": "3"},
        retry_after=1.5,
    )
    status = to_status(error, "r1")
    info, retry, bad = (
        info_of(status),
        error_details_pb2.RetryInfo(),
        error_details_pb2.BadRequest(),
    )
    assert status.details[1].Unpack(retry)
    assert status.details[2].Unpack(bad)
    assert (info.reason, dict(info.metadata)) == ("POOL_EXHAUSTED", {"limit": "3"})
    assert retry.retry_delay.ToMilliseconds() == 1500
    assert [(one.field, one.description) for one in bad.field_violations] == [("a.b", "is wrong")]


@pytest.mark.parametrize("error", [KeyError("secret"), domain.PenchantError("secret")])
def test_fault_tells_the_request_id_and_nothing_else(error: Exception) -> None:
    status = to_status(error, "r1")
    assert (status.code, status.message) == (StatusCode.INTERNAL.value[0], INTERNAL_MESSAGE)
    assert len(status.details) == 1
    assert info_of(status).reason == "INTERNAL"
    assert dict(info_of(status).metadata) == {"request_id": "r1"}


def test_reason_that_callers_cannot_know_becomes_that_of_the_class() -> None:
    status = to_status(domain.NotFound(reason="NOBODY_KNOWS"), "r1")
    assert info_of(status).reason == "NOT_FOUND"


def test_group_of_the_domains_errors_is_the_first() -> None:
    group = ExceptionGroup("", [domain.NotFound("One."), domain.Aborted("Two.")])
    assert to_status(group, "r1").message == "One."
    assert to_status(ExceptionGroup("", [domain.NotFound(), KeyError()]), "r1").code == 13


def test_status_fits_into_the_metadata_whatever_it_tells() -> None:
    error = domain.InvalidArgument(
        "ä" * 5000,
        violations=[domain.FieldViolation("f" * 1000, "\ud800é" * 1000) for _ in range(100)],
        metadata={"value": "x" * 5000},
    )
    status = to_status(error, "r1")
    on_the_wire = status.ByteSize() * 4 / 3 + 3 * len(status.message.encode())
    assert on_the_wire < 8000


def test_row_error_is_what_a_call_with_the_row_alone_would_get() -> None:
    row = row_error(3, domain.InvalidArgument.field("entity.entity_id", "must not be empty"))
    assert (row.index, row.code, row.reason) == (3, 3, "INVALID_ARGUMENT")
    assert row.field == "entity.entity_id"
    assert row.message == "entity.entity_id: must not be empty"


def test_row_error_of_a_fault_tells_nothing() -> None:
    row = row_error(0, KeyError("secret"))
    assert (row.code, row.reason, row.message) == (13, "INTERNAL", INTERNAL_MESSAGE)
