"""Scopes, what they imply, and what a principal may do."""

import pytest

from engine.access import ANONYMOUS, SCOPES, Principal, check_scopes, implied
from storage.exceptions import InvalidArgument, PermissionDenied

PLAIN = ["entities:write", "interactions:write", "models:admin", "recommend:read"]


@pytest.mark.parametrize("scope", PLAIN)
def test_plain_scope_implies_itself_alone(scope: str) -> None:
    assert implied([scope], of_tenant=True) == implied([scope], of_tenant=False) == {scope}


def test_tenant_admin_implies_all_of_its_tenant() -> None:
    assert implied(["tenant:admin"], of_tenant=True) == SCOPES - {"operator"}


def test_operator_implies_everything() -> None:
    assert implied(["operator"], of_tenant=False) == SCOPES


@pytest.mark.parametrize("given", [["operator"], ["nonsense"], ["Operator"], []])
def test_scope_that_a_tenant_cannot_have_gives_nothing(given: list[str]) -> None:
    assert implied(given, of_tenant=True) == frozenset()


def test_scopes_of_a_key_are_sorted_and_named_once() -> None:
    given = ["recommend:read", "models:admin", "recommend:read"]
    assert check_scopes(given, "a", "scopes") == ("models:admin", "recommend:read")


@pytest.mark.parametrize(
    ("given", "tenant_id"),
    [([], "a"), ([], ""), (["all"], "a"), (["operator"], "a"), (["recommend:read", ""], "")],
)
def test_scopes_that_cannot_be_are_refused(given: list[str], tenant_id: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_scopes(given, tenant_id, "api_key.scopes")
    assert caught.value.violations[0].field == "api_key.scopes"


def test_missing_scope_is_named() -> None:
    reader = Principal("key", "key:x", "a", frozenset({"recommend:read"}))
    reader.require("recommend:read")
    with pytest.raises(PermissionDenied) as caught:
        reader.require("entities:write")
    assert (caught.value.reason, caught.value.metadata) == (
        "SCOPE_MISSING",
        {"scope": "entities:write"},
    )


@pytest.mark.parametrize("named", ["b", "", "A", "a "])
def test_other_tenant_is_refused_in_the_same_words(named: str) -> None:
    bound = Principal("key", "key:x", "a", SCOPES)
    bound.require_tenant("a")
    with pytest.raises(PermissionDenied) as caught:
        bound.require_tenant(named)
    assert caught.value.reason == "TENANT_MISMATCH"
    assert caught.value.message == "The key or token is bound to another tenant."


def test_anonymous_may_do_everything_for_every_tenant() -> None:
    for scope in SCOPES:
        ANONYMOUS.require(scope)
    ANONYMOUS.require_tenant("whichever")
