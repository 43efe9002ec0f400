"""Reflection, v1 and v1alpha: callers such as grpcurl need no proto file.

grpcio-reflection has v1alpha alone; v1 has the same messages in another package.
"""

from collections.abc import Iterable

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.reflection import SERVICE_NAME as V1ALPHA
from grpc_reflection.v1alpha.reflection import aio as reflection_aio

V1 = "grpc.reflection.v1.ServerReflection"


def add_reflection(server: grpc.aio.Server, services: Iterable[str]) -> None:
    """Registers both versions, which list each other and the given services.

    Args:
        server: not started yet.
        services: full names; their descriptors must be in the default pool.
    """
    _describe_v1()
    servicer = reflection_aio.ReflectionServicer((*services, V1, V1ALPHA))
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
    info = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(V1, {"ServerReflectionInfo": info}),)
    )


def _describe_v1() -> None:
    """Puts v1's descriptors into the default pool: v1alpha's, renamed."""
    file = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    old, new = file.package, "grpc.reflection.v1"
    file.name, file.package = "grpc/reflection/v1/reflection.proto", new
    fields = (field for message in file.message_type for field in message.field)
    for field in (field for field in fields if field.type_name):
        field.type_name = field.type_name.replace(f".{old}.", f".{new}.")
    for method in file.service[0].method:
        method.input_type = method.input_type.replace(f".{old}.", f".{new}.")
        method.output_type = method.output_type.replace(f".{old}.", f".{new}.")
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
