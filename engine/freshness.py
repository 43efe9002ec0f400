"""Freshness tokens: the number of the PostgreSQL transaction that an answer must know of.

An ingest is acknowledged after its COMMIT with its transaction's number; every answer is checked
against the primary's present versions, so any answer computed or looked up later knows of it (the
idea of Zanzibar's zookies, Pang et al., USENIX ATC 2019).
"""

import base64
import binascii
import struct
from collections.abc import Iterable

from storage.exceptions import InvalidArgument
from storage.tenants import Tenant

_LAYOUT = struct.Struct(">BIQ")
_VERSION = 1


def encode_freshness(tenant: Tenant, transaction_id: int) -> str:
    """The token of a transaction; "" for none (0)."""
    if not transaction_id:
        return ""
    packed = _LAYOUT.pack(_VERSION, tenant.tenant_no, transaction_id)
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def check_freshness(tenant: Tenant, token: str, field: str = "at_least_as_fresh") -> int:
    """The transaction that a token names; 0 for "".

    Raises:
        InvalidArgument: no token of this service, or another tenant's.
    """
    if not token:
        return 0
    try:
        packed = base64.urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
        version, tenant_no, transaction_id = _LAYOUT.unpack(packed)
    except (UnicodeEncodeError, binascii.Error, struct.error):
        version = tenant_no = transaction_id = 0
    if version != _VERSION or tenant_no != tenant.tenant_no:
        raise InvalidArgument.field(field, "is no freshness token of this tenant")
    return int(transaction_id)


def latest(tenant: Tenant, tokens: Iterable[str]) -> str:
    """Of some of a tenant's tokens the one that covers all.

    It need not be the last that was given: transactions may end in another order than they began.
    """
    return encode_freshness(
        tenant, max((check_freshness(tenant, token) for token in set(tokens)), default=0)
    )
