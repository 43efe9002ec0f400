"""Every method that the server has, health, reflection and channelz too, from the descriptors."""

from dataclasses import dataclass
from functools import cached_property

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from server.wiring import SERVICES  # with all descriptors, the foreign services' too

FOREIGN = (
    "grpc.health.v1.Health",
    "grpc.channelz.v1.Channelz",
    "grpc.reflection.v1alpha.ServerReflection",
)
_REFLECTION_V1 = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"


@dataclass(frozen=True)
class Method:
    """How a method is called, and what goes in and comes out."""

    path: str
    asked: Descriptor
    answered: Descriptor
    client_streams: bool
    server_streams: bool

    @property
    def name(self) -> str:
        service, _, name = self.path[1:].partition("/")
        return f"{service.rpartition('.')[2]}.{name}"

    @property
    def is_unary(self) -> bool:
        return not self.client_streams and not self.server_streams

    @cached_property
    def request(self) -> type[Message]:
        return message_factory.GetMessageClass(self.asked)

    @cached_property
    def response(self) -> type[Message]:
        return message_factory.GetMessageClass(self.answered)


def all_methods() -> list[Method]:
    """Both versions of reflection are there; v1 has the messages of v1alpha."""
    pool = descriptor_pool.Default()
    found = [
        Method(
            f"/{service}/{method.name}",
            method.input_type,
            method.output_type,
            method.client_streaming,
            method.server_streaming,
        )
        for service in (*(name for name, _, _ in SERVICES), *FOREIGN)
        for method in pool.FindServiceByName(service).methods
    ]
    last = found[-1]
    return [*found, Method(_REFLECTION_V1, last.asked, last.answered, True, True)]
