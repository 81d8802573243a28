"""What a device says of itself."""

from __future__ import annotations

from device_agent.codec.artifacts import FORMATS
from device_agent.codec.fields import enum_from_pb, optional
from device_agent.contract.device import Channel, DeviceInfo, MissingSensor, Quantity, RuntimeInfo
from device_agent.wire.v1 import agent_pb2 as pb

QUANTITIES = {
    Quantity.TEMPERATURE: pb.QUANTITY_TEMPERATURE,
    Quantity.FREQUENCY: pb.QUANTITY_FREQUENCY,
    Quantity.POWER: pb.QUANTITY_POWER,
    Quantity.ENERGY: pb.QUANTITY_ENERGY,
    Quantity.MEMORY: pb.QUANTITY_MEMORY,
    Quantity.FRACTION: pb.QUANTITY_FRACTION,
    Quantity.COUNT: pb.QUANTITY_COUNT,
    Quantity.FLAGS: pb.QUANTITY_FLAGS,
}


def channel_to_pb(channel: Channel) -> pb.Channel:
    return pb.Channel(
        name=channel.name,
        quantity=QUANTITIES[channel.quantity],
        site=channel.site,
        source=channel.source,
        meter=channel.meter,
        part_of=channel.part_of,
        interval_s=channel.interval_s,
        resolution=channel.resolution,
        note=channel.note,
    )


def channel_from_pb(message: pb.Channel) -> Channel:
    return Channel(
        name=message.name,
        quantity=enum_from_pb(QUANTITIES, message.quantity, "quantity"),
        site=message.site,
        source=message.source,
        meter=optional(message, "meter"),
        part_of=optional(message, "part_of"),
        interval_s=optional(message, "interval_s"),
        resolution=optional(message, "resolution"),
        note=optional(message, "note"),
    )


def missing_sensor_to_pb(missing: MissingSensor) -> pb.MissingSensor:
    return pb.MissingSensor(kind=missing.kind, reason=missing.reason)


def missing_sensor_from_pb(message: pb.MissingSensor) -> MissingSensor:
    return MissingSensor(kind=message.kind, reason=message.reason)


def runtime_info_to_pb(info: RuntimeInfo) -> pb.RuntimeInfo:
    return pb.RuntimeInfo(
        name=info.name,
        version=info.version,
        formats=[FORMATS[format] for format in info.formats],
        providers=info.providers,
        max_onnx_opset=info.max_onnx_opset,
        max_onnx_ir=info.max_onnx_ir,
        unavailable=info.unavailable,
    )


def runtime_info_from_pb(message: pb.RuntimeInfo) -> RuntimeInfo:
    return RuntimeInfo(
        name=message.name,
        version=optional(message, "version"),
        formats=tuple(enum_from_pb(FORMATS, number, "artifact format") for number in message.formats),
        providers=tuple(message.providers),
        max_onnx_opset=optional(message, "max_onnx_opset"),
        max_onnx_ir=optional(message, "max_onnx_ir"),
        unavailable=optional(message, "unavailable"),
    )


def describe_request_to_pb() -> pb.DescribeRequest:
    return pb.DescribeRequest()


def device_info_to_pb(info: DeviceInfo) -> pb.DescribeResponse:
    return pb.DescribeResponse(
        device_id=info.device_id,
        agent_version=info.agent_version,
        contract_version=info.contract_version,
        profile=info.profile,
        board=info.board,
        architecture=info.architecture,
        cpu=info.cpu,
        cores=info.cores,
        memory_bytes=info.memory_bytes,
        operating_system=info.operating_system,
        kernel=info.kernel,
        python=info.python,
        governor=info.governor,
        default_threads=info.default_threads,
        runtimes=[runtime_info_to_pb(runtime) for runtime in info.runtimes],
        channels=[channel_to_pb(channel) for channel in info.channels],
        missing_sensors=[missing_sensor_to_pb(missing) for missing in info.missing_sensors],
    )


def device_info_from_pb(message: pb.DescribeResponse) -> DeviceInfo:
    return DeviceInfo(
        device_id=message.device_id,
        agent_version=message.agent_version,
        contract_version=message.contract_version,
        profile=optional(message, "profile"),
        board=message.board,
        architecture=message.architecture,
        cpu=message.cpu,
        cores=message.cores,
        memory_bytes=message.memory_bytes,
        operating_system=message.operating_system,
        kernel=message.kernel,
        python=message.python,
        governor=optional(message, "governor"),
        default_threads=message.default_threads,
        runtimes=tuple(runtime_info_from_pb(runtime) for runtime in message.runtimes),
        channels=tuple(channel_from_pb(channel) for channel in message.channels),
        missing_sensors=tuple(missing_sensor_from_pb(missing) for missing in message.missing_sensors),
    )
