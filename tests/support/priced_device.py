"""A device that charges known prices: what its agent would answer is computed from the ONNX files themselves, at once.

For tests of what the host makes of measurements. Times follow from the shapes alone, so every run of a test sees the same ones;
outputs are ONNX Runtime's. That real agents answer in the same way is for tests with a real agent to show.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime

from device_agent.contract.artifact import ArtifactFormat
from device_agent.contract.device import CONTRACT_VERSION, DeviceInfo, RuntimeInfo
from device_agent.contract.measurement import (
    ArtifactResult,
    Measurement,
    MeasureResult,
    NodeTime,
    Run,
    RunKind,
    Verdict,
    VerdictCode,
)
from device_agent.contract.settings import MeasureRequest, Settings
from device_agent.worker.order import blocks
from host.compress.session import environment
from host.fleet.client import AgentClient
from host.fleet.devices import Device
from host.fleet.upload import PushReport, describe_file
from host.results.store import ResultStore
from host.search.granularity import Granularity, Role, Step
from host.search.network import LayerKind

#: Channels are computed in blocks of so many.
BLOCK = 8
#: Blocks of turns in every measurement, two turns of three runs each: enough for an interval.
BLOCKS, TURN_RUNS = 12, 3
NODE_NS, MAC_NS, ELEMENT_NS = 2_000.0, 0.1, 0.2


class PricedClient:
    """What AgentClient offers to a compression. `int8` is the time of a product of int8, that of a float one being 1.

    `measurements` and `inferences` count the calls.
    """

    def __init__(self, *, int8: float = 1.2, architecture: str = "x86_64") -> None:
        self.measurements = self.inferences = 0
        self._int8, self._architecture = int8, architecture
        self._files: dict[str, bytes] = {}

    def describe(self) -> DeviceInfo:
        runtime = RuntimeInfo(
            name="onnxruntime",
            version=onnxruntime.__version__,
            formats=(ArtifactFormat.ONNX,),
            providers=("CPUExecutionProvider",),
            max_onnx_opset=21,
            max_onnx_ir=10,
        )
        return DeviceInfo(
            device_id="priced",
            agent_version="0",
            contract_version=CONTRACT_VERSION,
            profile=None,
            board="A board with a price list",
            architecture=self._architecture,
            cpu="made up",
            cores=2,
            memory_bytes=2**30,
            operating_system="Linux",
            kernel="6",
            python="3.11",
            governor="performance",
            default_threads=1,
            runtimes=(runtime,),
            channels=(),
        )

    def push(self, path: Path, *, name: str | None = None) -> PushReport:
        artifact = describe_file(path, name)
        self._files[artifact.sha256] = path.read_bytes()
        return PushReport(artifact=artifact, bytes_sent=0, seconds=0.0)

    def measure(self, request: MeasureRequest, *, on_event: Any = None) -> Measurement:
        self.measurements += 1
        nodes = [self._nodes(sha256) for sha256 in request.artifacts]
        totals = [sum(node.median_ns for node in each) for each in nodes]
        runs, now_ns = [], 0
        for turn, artifact in enumerate(place for block in islice(blocks(len(nodes)), BLOCKS) for place in block):
            for index in range(TURN_RUNS):
                latency_ns = round(totals[artifact] * (1 + 0.001 * math.sin(turn + 7 * index)))
                kind = RunKind.SETTLING if index == 0 and len(nodes) > 1 else RunKind.TIMED
                runs.append(
                    Run(
                        artifact=artifact, kind=kind, turn=turn, start_ns=now_ns, latency_ns=latency_ns, disturbed=False
                    )
                )
                now_ns += latency_ns
        return Measurement(
            request=request,
            result=MeasureResult(
                runtime="onnxruntime",
                runtime_version=onnxruntime.__version__,
                threads=1,
                artifacts=tuple(
                    ArtifactResult(
                        sha256=sha256,
                        load_ns=1_000_000,
                        provider="CPUExecutionProvider",
                        provider_share=1.0,
                        peak_memory_bytes=len(self._files[sha256]) + 1_000_000 if len(nodes) == 1 else None,
                        peak_rss_bytes=None,
                        nodes=each if request.profile_nodes else None,
                        verdicts=(Verdict(code=VerdictCode.STABLE),),
                    )
                    for sha256, each in zip(request.artifacts, nodes, strict=True)
                ),
                device_time_ns=now_ns,
                steal_fraction=0.0,
            ),
            runs=tuple(runs),
            readings=(),
        )

    def infer(
        self, sha256: str, settings: Settings, batches: Iterable[Mapping[str, np.ndarray]]
    ) -> Iterator[dict[str, np.ndarray]]:
        self.inferences += 1
        session = onnxruntime.InferenceSession(self._files[sha256], providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        for batch in batches:
            yield dict(zip(names, session.run(names, dict(batch)), strict=True))

    def _nodes(self, sha256: str) -> tuple[NodeTime, ...]:
        model = onnx.shape_inference.infer_shapes(onnx.load_from_string(self._files[sha256]))
        makers = {name: node.op_type for node in model.graph.node for name in node.output}
        shapes = {value.name: tuple(value.dims) for value in model.graph.initializer}
        for value in (*model.graph.input, *model.graph.value_info, *model.graph.output):
            shapes[value.name] = tuple(each.dim_value for each in value.type.tensor_type.shape.dim)
        inputs = {name: node.input[0] for node in model.graph.node for name in node.output if node.input}
        constants = {value.name for value in model.graph.initializer}
        times: list[tuple[onnx.NodeProto, float]] = []
        for node in model.graph.node:
            kind = node.op_type.removesuffix("Integer")
            if kind in ("Conv", "Gemm", "MatMul"):
                quantized = makers.get(node.input[1]) == "DequantizeLinear"
                weight = shapes[inputs[node.input[1]] if quantized else node.input[1]]
                places = math.prod(shapes[node.output[0]][2:])
                products = math.prod(BLOCK * math.ceil(size / BLOCK) for size in weight[:2]) * math.prod(weight[2:])
                factor = self._int8 if quantized else 3.0 if kind != node.op_type else 1.0
                times.append((node, NODE_NS + MAC_NS * factor * places * products))
            elif node.op_type not in ("Relu", "Clip", "Constant") and node.input and node.input[0] not in constants:
                moved = 0 if node.op_type.endswith("izeLinear") else math.prod(shapes.get(node.output[0], (1,)))
                times.append((node, ELEMENT_NS * moved))
        total = sum(time for _, time in times)
        return tuple(
            NodeTime(
                name=node.name or node.output[0],
                op_type=node.op_type,
                median_ns=time,
                share=time / total,
                runs=BLOCKS,
                sources=(node.name or node.output[0],),
            )
            for node, time in times
        )


def priced_device(**prices: Any) -> Device:
    """Return a device named bench with the prices of PricedClient."""
    client = PricedClient(**prices)
    return Device(name="bench", client=cast(AgentClient, client), info=client.describe())


def answer_granularity(store: ResultStore, device: Device, settings: Settings) -> None:
    """Keep in the store what the device would say of widths in float32 and in int8, so that nobody asks it."""
    for precision in ("float32", "int8-static u8s87", "int8-static u8u88"):
        where = environment(device.info, settings, precision)
        for kind in LayerKind:
            for role in Role:
                step = Step(multiple=BLOCK, over_next={}, decided=True)
                fact = Granularity(steps={(kind, role): step}).to_dict()
                store.put_device_fact(json.dumps(where, sort_keys=True), f"granularity {kind.value} {role.value}", fact)
