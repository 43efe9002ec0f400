"""What each method needs, read from the descriptors: a scope, and the tenants its request names."""

from collections.abc import Callable, Iterator

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from penchant.v1 import access_pb2

from engine.access import MODELS, OPERATOR, Principal

OPEN_SERVICES = frozenset(
    {
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }
)
"""Services that need nothing: they tell no more than this repository does, and who is alive."""

FOREIGN_SCOPES = {"google.longrunning.Operations": MODELS, "grpc.channelz.v1.Channelz": OPERATOR}
"""Scopes of services whose protos are not ours."""

_TENANT_FIELD = "tenant_id"


def declared_scope(service: str, method: str) -> str | None:
    """The scope that a method declares; None: it declares none, or is open to all."""
    if service in FOREIGN_SCOPES:
        return FOREIGN_SCOPES[service]
    try:
        found = descriptor_pool.Default().FindMethodByName(f"{service}.{method}")
    except KeyError:
        return None
    return found.GetOptions().Extensions[access_pb2.scope] or None


def needed_scope(service: str, method: str) -> str | None:
    """The scope that a method needs; None: it is open. One that declares none is the operator's."""
    if service in OPEN_SERVICES:
        return None
    return declared_scope(service, method) or OPERATOR


def tenant_check(service: str, method: str) -> Callable[[Message, Principal], None] | None:
    """A function that refuses requests in which a principal names another tenant than its own.

    A request names a tenant in its field `tenant_id`, or in that of a message that it holds. An
    empty one is another as well: nobody's is assumed, and to some methods it is the operator.

    Returns:
        None for methods whose requests name none.
    """
    try:
        asked = descriptor_pool.Default().FindMethodByName(f"{service}.{method}").input_type
    except KeyError:
        return None
    paths = list(_tenant_paths(asked))
    if not paths:
        return None

    def check(request: Message, principal: Principal) -> None:
        for path in paths:
            named = request
            for name in path:
                named = getattr(named, name)
            principal.require_tenant(str(named))

    return check


def _tenant_paths(message: Descriptor) -> Iterator[tuple[str, ...]]:
    for field in message.fields:
        if field.is_repeated:
            continue
        if field.name == _TENANT_FIELD and field.type == FieldDescriptor.TYPE_STRING:
            yield (field.name,)
        elif field.message_type is not None and _TENANT_FIELD in field.message_type.fields_by_name:
            yield (field.name, _TENANT_FIELD)
