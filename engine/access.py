"""Who calls, and what they may do: scopes, principals, and the three questions asked of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from storage.exceptions import InvalidArgument, PermissionDenied

RECOMMEND = "recommend:read"
INTERACTIONS = "interactions:write"
ENTITIES = "entities:write"
MODELS = "models:admin"
TENANT_ADMIN = "tenant:admin"
OPERATOR = "operator"

SCOPES = frozenset({RECOMMEND, INTERACTIONS, ENTITIES, MODELS, TENANT_ADMIN, OPERATOR})
_IMPLIED = {TENANT_ADMIN: SCOPES - {OPERATOR}, OPERATOR: SCOPES}


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a call is from.

    Attributes:
        kind: what it was known by.
        actor: for logs and the audit: `key:` and a key's id, `jwt:` and a subject, or `anonymous`.
        tenant_id: the only tenant it may act for; None: it may act for every tenant.
        scopes: what it may do, what those given imply included (`implied`).
        expires_at: when it ends; None: never.
    """

    kind: Literal["key", "jwt", "anonymous"]
    actor: str
    tenant_id: str | None
    scopes: frozenset[str]
    expires_at: datetime | None = None

    def require(self, scope: str) -> None:
        """Raises PermissionDenied (SCOPE_MISSING) unless the scope is among those it has."""
        if scope not in self.scopes:
            raise PermissionDenied(
                f"This needs the scope {scope}.", reason="SCOPE_MISSING", metadata={"scope": scope}
            )

    def require_tenant(self, tenant_id: str) -> None:
        """Raises PermissionDenied (TENANT_MISMATCH) for another tenant than it is bound to.

        The answer is the same whether there is such a tenant or not.
        """
        if self.tenant_id is not None and tenant_id != self.tenant_id:
            raise PermissionDenied(
                "The key or token is bound to another tenant.", reason="TENANT_MISMATCH"
            )


ANONYMOUS = Principal("anonymous", "anonymous", None, SCOPES)
"""Everybody, while no key was made and no identity provider is configured."""


def implied(scopes: Iterable[str], *, of_tenant: bool) -> frozenset[str]:
    """Scopes with all that they imply; unknown ones, and operator of a tenant's, give nothing.

    Args:
        scopes: as stored or claimed.
        of_tenant: whether they are bound to one tenant.
    """
    allowed = SCOPES - {OPERATOR} if of_tenant else SCOPES
    given = allowed.intersection(scopes)
    return given.union(*(_IMPLIED.get(scope, ()) for scope in given))


def check_scopes(scopes: Iterable[str], tenant_id: str, field: str) -> tuple[str, ...]:
    """The scopes of a key to be made, each once and in byte order.

    Args:
        scopes: as given.
        tenant_id: whose key; empty: the operator's.
        field: path of the scopes in the proto.

    Raises:
        InvalidArgument: none is given, one is unknown, or operator for a tenant.
    """
    given = sorted(set(scopes))
    if not given:
        raise InvalidArgument.field(field, f"must name at least one of {', '.join(sorted(SCOPES))}")
    for scope in given:
        if scope not in SCOPES:
            raise InvalidArgument.field(field, f"{scope!r} is none of {', '.join(sorted(SCOPES))}")
    if tenant_id and OPERATOR in given:
        raise InvalidArgument.field(field, "a tenant's key cannot have the scope operator")
    return tuple(given)
