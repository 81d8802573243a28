from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ArtifactFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ARTIFACT_FORMAT_UNSPECIFIED: _ClassVar[ArtifactFormat]
    ARTIFACT_FORMAT_ONNX: _ClassVar[ArtifactFormat]
    ARTIFACT_FORMAT_TFLITE: _ClassVar[ArtifactFormat]
    ARTIFACT_FORMAT_NPZ: _ClassVar[ArtifactFormat]

class Quantity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    QUANTITY_UNSPECIFIED: _ClassVar[Quantity]
    QUANTITY_TEMPERATURE: _ClassVar[Quantity]
    QUANTITY_FREQUENCY: _ClassVar[Quantity]
    QUANTITY_POWER: _ClassVar[Quantity]
    QUANTITY_ENERGY: _ClassVar[Quantity]
    QUANTITY_MEMORY: _ClassVar[Quantity]
    QUANTITY_FRACTION: _ClassVar[Quantity]
    QUANTITY_COUNT: _ClassVar[Quantity]
    QUANTITY_FLAGS: _ClassVar[Quantity]

class CpuGroup(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CPU_GROUP_UNSPECIFIED: _ClassVar[CpuGroup]
    CPU_GROUP_BIG: _ClassVar[CpuGroup]
    CPU_GROUP_LITTLE: _ClassVar[CpuGroup]

class GraphOptimization(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GRAPH_OPTIMIZATION_UNSPECIFIED: _ClassVar[GraphOptimization]
    GRAPH_OPTIMIZATION_DISABLED: _ClassVar[GraphOptimization]
    GRAPH_OPTIMIZATION_BASIC: _ClassVar[GraphOptimization]
    GRAPH_OPTIMIZATION_EXTENDED: _ClassVar[GraphOptimization]
    GRAPH_OPTIMIZATION_ALL: _ClassVar[GraphOptimization]

class InputKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INPUT_KIND_UNSPECIFIED: _ClassVar[InputKind]
    INPUT_KIND_RANDOM: _ClassVar[InputKind]
    INPUT_KIND_ZEROS: _ClassVar[InputKind]
    INPUT_KIND_DATA: _ClassVar[InputKind]

class Phase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PHASE_UNSPECIFIED: _ClassVar[Phase]
    PHASE_STARTING: _ClassVar[Phase]
    PHASE_LOADING: _ClassVar[Phase]
    PHASE_WARM_UP: _ClassVar[Phase]
    PHASE_TIMING: _ClassVar[Phase]
    PHASE_PROFILING: _ClassVar[Phase]
    PHASE_IDLE: _ClassVar[Phase]
    PHASE_COLD_START: _ClassVar[Phase]

class RunKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RUN_KIND_UNSPECIFIED: _ClassVar[RunKind]
    RUN_KIND_WARM_UP: _ClassVar[RunKind]
    RUN_KIND_TIMED: _ClassVar[RunKind]
    RUN_KIND_SETTLING: _ClassVar[RunKind]
    RUN_KIND_PROFILED: _ClassVar[RunKind]

class VerdictCode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_CODE_UNSPECIFIED: _ClassVar[VerdictCode]
    VERDICT_CODE_STABLE: _ClassVar[VerdictCode]
    VERDICT_CODE_UNSTABLE: _ClassVar[VerdictCode]
    VERDICT_CODE_CONTENDED: _ClassVar[VerdictCode]
    VERDICT_CODE_THROTTLED: _ClassVar[VerdictCode]
    VERDICT_CODE_UNDER_VOLTAGE: _ClassVar[VerdictCode]
    VERDICT_CODE_HOT: _ClassVar[VerdictCode]
    VERDICT_CODE_TOO_SHORT: _ClassVar[VerdictCode]
    VERDICT_CODE_FELL_BACK: _ClassVar[VerdictCode]

class WindowKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WINDOW_KIND_UNSPECIFIED: _ClassVar[WindowKind]
    WINDOW_KIND_IDLE_BEFORE: _ClassVar[WindowKind]
    WINDOW_KIND_TIMED: _ClassVar[WindowKind]
    WINDOW_KIND_IDLE_AFTER: _ClassVar[WindowKind]
ARTIFACT_FORMAT_UNSPECIFIED: ArtifactFormat
ARTIFACT_FORMAT_ONNX: ArtifactFormat
ARTIFACT_FORMAT_TFLITE: ArtifactFormat
ARTIFACT_FORMAT_NPZ: ArtifactFormat
QUANTITY_UNSPECIFIED: Quantity
QUANTITY_TEMPERATURE: Quantity
QUANTITY_FREQUENCY: Quantity
QUANTITY_POWER: Quantity
QUANTITY_ENERGY: Quantity
QUANTITY_MEMORY: Quantity
QUANTITY_FRACTION: Quantity
QUANTITY_COUNT: Quantity
QUANTITY_FLAGS: Quantity
CPU_GROUP_UNSPECIFIED: CpuGroup
CPU_GROUP_BIG: CpuGroup
CPU_GROUP_LITTLE: CpuGroup
GRAPH_OPTIMIZATION_UNSPECIFIED: GraphOptimization
GRAPH_OPTIMIZATION_DISABLED: GraphOptimization
GRAPH_OPTIMIZATION_BASIC: GraphOptimization
GRAPH_OPTIMIZATION_EXTENDED: GraphOptimization
GRAPH_OPTIMIZATION_ALL: GraphOptimization
INPUT_KIND_UNSPECIFIED: InputKind
INPUT_KIND_RANDOM: InputKind
INPUT_KIND_ZEROS: InputKind
INPUT_KIND_DATA: InputKind
PHASE_UNSPECIFIED: Phase
PHASE_STARTING: Phase
PHASE_LOADING: Phase
PHASE_WARM_UP: Phase
PHASE_TIMING: Phase
PHASE_PROFILING: Phase
PHASE_IDLE: Phase
PHASE_COLD_START: Phase
RUN_KIND_UNSPECIFIED: RunKind
RUN_KIND_WARM_UP: RunKind
RUN_KIND_TIMED: RunKind
RUN_KIND_SETTLING: RunKind
RUN_KIND_PROFILED: RunKind
VERDICT_CODE_UNSPECIFIED: VerdictCode
VERDICT_CODE_STABLE: VerdictCode
VERDICT_CODE_UNSTABLE: VerdictCode
VERDICT_CODE_CONTENDED: VerdictCode
VERDICT_CODE_THROTTLED: VerdictCode
VERDICT_CODE_UNDER_VOLTAGE: VerdictCode
VERDICT_CODE_HOT: VerdictCode
VERDICT_CODE_TOO_SHORT: VerdictCode
VERDICT_CODE_FELL_BACK: VerdictCode
WINDOW_KIND_UNSPECIFIED: WindowKind
WINDOW_KIND_IDLE_BEFORE: WindowKind
WINDOW_KIND_TIMED: WindowKind
WINDOW_KIND_IDLE_AFTER: WindowKind

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("device_id", "agent_version", "contract_version", "profile", "board", "architecture", "cpu", "cores", "memory_bytes", "operating_system", "kernel", "python", "governor", "default_threads", "runtimes", "channels", "missing_sensors")
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_VERSION_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    BOARD_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    CPU_FIELD_NUMBER: _ClassVar[int]
    CORES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    OPERATING_SYSTEM_FIELD_NUMBER: _ClassVar[int]
    KERNEL_FIELD_NUMBER: _ClassVar[int]
    PYTHON_FIELD_NUMBER: _ClassVar[int]
    GOVERNOR_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_THREADS_FIELD_NUMBER: _ClassVar[int]
    RUNTIMES_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    MISSING_SENSORS_FIELD_NUMBER: _ClassVar[int]
    device_id: str
    agent_version: str
    contract_version: int
    profile: str
    board: str
    architecture: str
    cpu: str
    cores: int
    memory_bytes: int
    operating_system: str
    kernel: str
    python: str
    governor: str
    default_threads: int
    runtimes: _containers.RepeatedCompositeFieldContainer[RuntimeInfo]
    channels: _containers.RepeatedCompositeFieldContainer[Channel]
    missing_sensors: _containers.RepeatedCompositeFieldContainer[MissingSensor]
    def __init__(self, device_id: _Optional[str] = ..., agent_version: _Optional[str] = ..., contract_version: _Optional[int] = ..., profile: _Optional[str] = ..., board: _Optional[str] = ..., architecture: _Optional[str] = ..., cpu: _Optional[str] = ..., cores: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., operating_system: _Optional[str] = ..., kernel: _Optional[str] = ..., python: _Optional[str] = ..., governor: _Optional[str] = ..., default_threads: _Optional[int] = ..., runtimes: _Optional[_Iterable[_Union[RuntimeInfo, _Mapping]]] = ..., channels: _Optional[_Iterable[_Union[Channel, _Mapping]]] = ..., missing_sensors: _Optional[_Iterable[_Union[MissingSensor, _Mapping]]] = ...) -> None: ...

class RuntimeInfo(_message.Message):
    __slots__ = ("name", "version", "formats", "providers", "max_onnx_opset", "max_onnx_ir", "unavailable")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FORMATS_FIELD_NUMBER: _ClassVar[int]
    PROVIDERS_FIELD_NUMBER: _ClassVar[int]
    MAX_ONNX_OPSET_FIELD_NUMBER: _ClassVar[int]
    MAX_ONNX_IR_FIELD_NUMBER: _ClassVar[int]
    UNAVAILABLE_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    formats: _containers.RepeatedScalarFieldContainer[ArtifactFormat]
    providers: _containers.RepeatedScalarFieldContainer[str]
    max_onnx_opset: int
    max_onnx_ir: int
    unavailable: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., formats: _Optional[_Iterable[_Union[ArtifactFormat, str]]] = ..., providers: _Optional[_Iterable[str]] = ..., max_onnx_opset: _Optional[int] = ..., max_onnx_ir: _Optional[int] = ..., unavailable: _Optional[str] = ...) -> None: ...

class Channel(_message.Message):
    __slots__ = ("name", "quantity", "site", "source", "meter", "part_of", "interval_s", "resolution", "note")
    NAME_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    METER_FIELD_NUMBER: _ClassVar[int]
    PART_OF_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_S_FIELD_NUMBER: _ClassVar[int]
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    name: str
    quantity: Quantity
    site: str
    source: str
    meter: str
    part_of: str
    interval_s: float
    resolution: float
    note: str
    def __init__(self, name: _Optional[str] = ..., quantity: _Optional[_Union[Quantity, str]] = ..., site: _Optional[str] = ..., source: _Optional[str] = ..., meter: _Optional[str] = ..., part_of: _Optional[str] = ..., interval_s: _Optional[float] = ..., resolution: _Optional[float] = ..., note: _Optional[str] = ...) -> None: ...

class MissingSensor(_message.Message):
    __slots__ = ("kind", "reason")
    KIND_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    kind: str
    reason: str
    def __init__(self, kind: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class Artifact(_message.Message):
    __slots__ = ("sha256", "format", "size_bytes", "name")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    format: ArtifactFormat
    size_bytes: int
    name: str
    def __init__(self, sha256: _Optional[str] = ..., format: _Optional[_Union[ArtifactFormat, str]] = ..., size_bytes: _Optional[int] = ..., name: _Optional[str] = ...) -> None: ...

class QueryArtifactRequest(_message.Message):
    __slots__ = ("sha256",)
    SHA256_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    def __init__(self, sha256: _Optional[str] = ...) -> None: ...

class QueryArtifactResponse(_message.Message):
    __slots__ = ("complete", "offset")
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    complete: bool
    offset: int
    def __init__(self, complete: bool = ..., offset: _Optional[int] = ...) -> None: ...

class UploadArtifactRequest(_message.Message):
    __slots__ = ("header", "chunk")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: UploadHeader
    chunk: bytes
    def __init__(self, header: _Optional[_Union[UploadHeader, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class UploadHeader(_message.Message):
    __slots__ = ("artifact", "offset", "lease_token")
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LEASE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    artifact: Artifact
    offset: int
    lease_token: str
    def __init__(self, artifact: _Optional[_Union[Artifact, _Mapping]] = ..., offset: _Optional[int] = ..., lease_token: _Optional[str] = ...) -> None: ...

class UploadArtifactResponse(_message.Message):
    __slots__ = ("artifact",)
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    artifact: Artifact
    def __init__(self, artifact: _Optional[_Union[Artifact, _Mapping]] = ...) -> None: ...

class ListArtifactsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListArtifactsResponse(_message.Message):
    __slots__ = ("artifacts",)
    ARTIFACTS_FIELD_NUMBER: _ClassVar[int]
    artifacts: _containers.RepeatedCompositeFieldContainer[Artifact]
    def __init__(self, artifacts: _Optional[_Iterable[_Union[Artifact, _Mapping]]] = ...) -> None: ...

class DeleteArtifactRequest(_message.Message):
    __slots__ = ("sha256", "lease_token")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    LEASE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    lease_token: str
    def __init__(self, sha256: _Optional[str] = ..., lease_token: _Optional[str] = ...) -> None: ...

class DeleteArtifactResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Settings(_message.Message):
    __slots__ = ("runtime", "threads", "provider", "cpus", "cpu_group", "provider_options", "nice", "batch", "graph_optimization", "memory_arena", "inputs", "inputs_sha256")
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    CPUS_FIELD_NUMBER: _ClassVar[int]
    CPU_GROUP_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    NICE_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    GRAPH_OPTIMIZATION_FIELD_NUMBER: _ClassVar[int]
    MEMORY_ARENA_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    INPUTS_SHA256_FIELD_NUMBER: _ClassVar[int]
    runtime: str
    threads: int
    provider: str
    cpus: _containers.RepeatedScalarFieldContainer[int]
    cpu_group: CpuGroup
    provider_options: _containers.RepeatedCompositeFieldContainer[ProviderOption]
    nice: int
    batch: int
    graph_optimization: GraphOptimization
    memory_arena: bool
    inputs: InputKind
    inputs_sha256: str
    def __init__(self, runtime: _Optional[str] = ..., threads: _Optional[int] = ..., provider: _Optional[str] = ..., cpus: _Optional[_Iterable[int]] = ..., cpu_group: _Optional[_Union[CpuGroup, str]] = ..., provider_options: _Optional[_Iterable[_Union[ProviderOption, _Mapping]]] = ..., nice: _Optional[int] = ..., batch: _Optional[int] = ..., graph_optimization: _Optional[_Union[GraphOptimization, str]] = ..., memory_arena: bool = ..., inputs: _Optional[_Union[InputKind, str]] = ..., inputs_sha256: _Optional[str] = ...) -> None: ...

class ProviderOption(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class Stopping(_message.Message):
    __slots__ = ("warmup_runs", "warmup_time_s", "min_runs", "min_time_s", "max_time_s", "precision")
    WARMUP_RUNS_FIELD_NUMBER: _ClassVar[int]
    WARMUP_TIME_S_FIELD_NUMBER: _ClassVar[int]
    MIN_RUNS_FIELD_NUMBER: _ClassVar[int]
    MIN_TIME_S_FIELD_NUMBER: _ClassVar[int]
    MAX_TIME_S_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    warmup_runs: int
    warmup_time_s: float
    min_runs: int
    min_time_s: float
    max_time_s: float
    precision: float
    def __init__(self, warmup_runs: _Optional[int] = ..., warmup_time_s: _Optional[float] = ..., min_runs: _Optional[int] = ..., min_time_s: _Optional[float] = ..., max_time_s: _Optional[float] = ..., precision: _Optional[float] = ...) -> None: ...

class MeasureRequest(_message.Message):
    __slots__ = ("artifacts", "settings", "stopping", "turn_runs", "profile_nodes", "seed", "deadline_s", "memory_limit_bytes", "lease_token", "cold_starts", "soak_s", "idle_s")
    ARTIFACTS_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    STOPPING_FIELD_NUMBER: _ClassVar[int]
    TURN_RUNS_FIELD_NUMBER: _ClassVar[int]
    PROFILE_NODES_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    MEMORY_LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    LEASE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    COLD_STARTS_FIELD_NUMBER: _ClassVar[int]
    SOAK_S_FIELD_NUMBER: _ClassVar[int]
    IDLE_S_FIELD_NUMBER: _ClassVar[int]
    artifacts: _containers.RepeatedScalarFieldContainer[str]
    settings: Settings
    stopping: Stopping
    turn_runs: int
    profile_nodes: bool
    seed: int
    deadline_s: float
    memory_limit_bytes: int
    lease_token: str
    cold_starts: int
    soak_s: float
    idle_s: float
    def __init__(self, artifacts: _Optional[_Iterable[str]] = ..., settings: _Optional[_Union[Settings, _Mapping]] = ..., stopping: _Optional[_Union[Stopping, _Mapping]] = ..., turn_runs: _Optional[int] = ..., profile_nodes: bool = ..., seed: _Optional[int] = ..., deadline_s: _Optional[float] = ..., memory_limit_bytes: _Optional[int] = ..., lease_token: _Optional[str] = ..., cold_starts: _Optional[int] = ..., soak_s: _Optional[float] = ..., idle_s: _Optional[float] = ...) -> None: ...

class MeasureEvent(_message.Message):
    __slots__ = ("progress", "runs", "readings", "result")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    READINGS_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    progress: Progress
    runs: RunBatch
    readings: ReadingBatch
    result: MeasureResult
    def __init__(self, progress: _Optional[_Union[Progress, _Mapping]] = ..., runs: _Optional[_Union[RunBatch, _Mapping]] = ..., readings: _Optional[_Union[ReadingBatch, _Mapping]] = ..., result: _Optional[_Union[MeasureResult, _Mapping]] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("phase", "fraction", "runs")
    PHASE_FIELD_NUMBER: _ClassVar[int]
    FRACTION_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    phase: Phase
    fraction: float
    runs: int
    def __init__(self, phase: _Optional[_Union[Phase, str]] = ..., fraction: _Optional[float] = ..., runs: _Optional[int] = ...) -> None: ...

class RunBatch(_message.Message):
    __slots__ = ("artifact", "kind", "turn", "start_ns", "latency_ns", "disturbed")
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TURN_FIELD_NUMBER: _ClassVar[int]
    START_NS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_NS_FIELD_NUMBER: _ClassVar[int]
    DISTURBED_FIELD_NUMBER: _ClassVar[int]
    artifact: _containers.RepeatedScalarFieldContainer[int]
    kind: _containers.RepeatedScalarFieldContainer[RunKind]
    turn: _containers.RepeatedScalarFieldContainer[int]
    start_ns: _containers.RepeatedScalarFieldContainer[int]
    latency_ns: _containers.RepeatedScalarFieldContainer[int]
    disturbed: _containers.RepeatedScalarFieldContainer[bool]
    def __init__(self, artifact: _Optional[_Iterable[int]] = ..., kind: _Optional[_Iterable[_Union[RunKind, str]]] = ..., turn: _Optional[_Iterable[int]] = ..., start_ns: _Optional[_Iterable[int]] = ..., latency_ns: _Optional[_Iterable[int]] = ..., disturbed: _Optional[_Iterable[bool]] = ...) -> None: ...

class ReadingBatch(_message.Message):
    __slots__ = ("names", "channel", "time_ns", "value")
    NAMES_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    TIME_NS_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    channel: _containers.RepeatedScalarFieldContainer[int]
    time_ns: _containers.RepeatedScalarFieldContainer[int]
    value: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, names: _Optional[_Iterable[str]] = ..., channel: _Optional[_Iterable[int]] = ..., time_ns: _Optional[_Iterable[int]] = ..., value: _Optional[_Iterable[float]] = ...) -> None: ...

class ReadSensorsRequest(_message.Message):
    __slots__ = ("lease_token",)
    LEASE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    lease_token: str
    def __init__(self, lease_token: _Optional[str] = ...) -> None: ...

class Shape(_message.Message):
    __slots__ = ("dims",)
    DIMS_FIELD_NUMBER: _ClassVar[int]
    dims: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, dims: _Optional[_Iterable[int]] = ...) -> None: ...

class NodeTime(_message.Message):
    __slots__ = ("name", "op_type", "median_ns", "share", "runs", "input_shapes", "output_shapes", "sources")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OP_TYPE_FIELD_NUMBER: _ClassVar[int]
    MEDIAN_NS_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    INPUT_SHAPES_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_SHAPES_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    name: str
    op_type: str
    median_ns: float
    share: float
    runs: int
    input_shapes: _containers.RepeatedCompositeFieldContainer[Shape]
    output_shapes: _containers.RepeatedCompositeFieldContainer[Shape]
    sources: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., op_type: _Optional[str] = ..., median_ns: _Optional[float] = ..., share: _Optional[float] = ..., runs: _Optional[int] = ..., input_shapes: _Optional[_Iterable[_Union[Shape, _Mapping]]] = ..., output_shapes: _Optional[_Iterable[_Union[Shape, _Mapping]]] = ..., sources: _Optional[_Iterable[str]] = ...) -> None: ...

class NodeTimes(_message.Message):
    __slots__ = ("nodes",)
    NODES_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[NodeTime]
    def __init__(self, nodes: _Optional[_Iterable[_Union[NodeTime, _Mapping]]] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("code", "value", "unit", "threshold", "hint")
    CODE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    HINT_FIELD_NUMBER: _ClassVar[int]
    code: VerdictCode
    value: float
    unit: str
    threshold: float
    hint: str
    def __init__(self, code: _Optional[_Union[VerdictCode, str]] = ..., value: _Optional[float] = ..., unit: _Optional[str] = ..., threshold: _Optional[float] = ..., hint: _Optional[str] = ...) -> None: ...

class ArtifactResult(_message.Message):
    __slots__ = ("sha256", "load_ns", "provider", "provider_share", "peak_memory_bytes", "peak_rss_bytes", "nodes", "verdicts", "memory", "cold_starts", "unrecorded_runs", "nodes_unavailable")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    LOAD_NS_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_SHARE_FIELD_NUMBER: _ClassVar[int]
    PEAK_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    PEAK_RSS_BYTES_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    COLD_STARTS_FIELD_NUMBER: _ClassVar[int]
    UNRECORDED_RUNS_FIELD_NUMBER: _ClassVar[int]
    NODES_UNAVAILABLE_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    load_ns: int
    provider: str
    provider_share: float
    peak_memory_bytes: int
    peak_rss_bytes: int
    nodes: NodeTimes
    verdicts: _containers.RepeatedCompositeFieldContainer[Verdict]
    memory: MemoryPhases
    cold_starts: _containers.RepeatedCompositeFieldContainer[ColdStart]
    unrecorded_runs: int
    nodes_unavailable: str
    def __init__(self, sha256: _Optional[str] = ..., load_ns: _Optional[int] = ..., provider: _Optional[str] = ..., provider_share: _Optional[float] = ..., peak_memory_bytes: _Optional[int] = ..., peak_rss_bytes: _Optional[int] = ..., nodes: _Optional[_Union[NodeTimes, _Mapping]] = ..., verdicts: _Optional[_Iterable[_Union[Verdict, _Mapping]]] = ..., memory: _Optional[_Union[MemoryPhases, _Mapping]] = ..., cold_starts: _Optional[_Iterable[_Union[ColdStart, _Mapping]]] = ..., unrecorded_runs: _Optional[int] = ..., nodes_unavailable: _Optional[str] = ...) -> None: ...

class MemoryPhases(_message.Message):
    __slots__ = ("runtime_bytes", "load_bytes", "first_run_bytes", "steady_bytes")
    RUNTIME_BYTES_FIELD_NUMBER: _ClassVar[int]
    LOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    FIRST_RUN_BYTES_FIELD_NUMBER: _ClassVar[int]
    STEADY_BYTES_FIELD_NUMBER: _ClassVar[int]
    runtime_bytes: int
    load_bytes: int
    first_run_bytes: int
    steady_bytes: int
    def __init__(self, runtime_bytes: _Optional[int] = ..., load_bytes: _Optional[int] = ..., first_run_bytes: _Optional[int] = ..., steady_bytes: _Optional[int] = ...) -> None: ...

class ColdStart(_message.Message):
    __slots__ = ("import_ns", "load_ns", "first_run_ns")
    IMPORT_NS_FIELD_NUMBER: _ClassVar[int]
    LOAD_NS_FIELD_NUMBER: _ClassVar[int]
    FIRST_RUN_NS_FIELD_NUMBER: _ClassVar[int]
    import_ns: int
    load_ns: int
    first_run_ns: int
    def __init__(self, import_ns: _Optional[int] = ..., load_ns: _Optional[int] = ..., first_run_ns: _Optional[int] = ...) -> None: ...

class Window(_message.Message):
    __slots__ = ("kind", "start_ns", "end_ns")
    KIND_FIELD_NUMBER: _ClassVar[int]
    START_NS_FIELD_NUMBER: _ClassVar[int]
    END_NS_FIELD_NUMBER: _ClassVar[int]
    kind: WindowKind
    start_ns: int
    end_ns: int
    def __init__(self, kind: _Optional[_Union[WindowKind, str]] = ..., start_ns: _Optional[int] = ..., end_ns: _Optional[int] = ...) -> None: ...

class MeasureResult(_message.Message):
    __slots__ = ("runtime", "runtime_version", "threads", "artifacts", "device_time_ns", "steal_fraction", "cpus", "windows")
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_VERSION_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    ARTIFACTS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    STEAL_FRACTION_FIELD_NUMBER: _ClassVar[int]
    CPUS_FIELD_NUMBER: _ClassVar[int]
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    runtime: str
    runtime_version: str
    threads: int
    artifacts: _containers.RepeatedCompositeFieldContainer[ArtifactResult]
    device_time_ns: int
    steal_fraction: float
    cpus: _containers.RepeatedScalarFieldContainer[int]
    windows: _containers.RepeatedCompositeFieldContainer[Window]
    def __init__(self, runtime: _Optional[str] = ..., runtime_version: _Optional[str] = ..., threads: _Optional[int] = ..., artifacts: _Optional[_Iterable[_Union[ArtifactResult, _Mapping]]] = ..., device_time_ns: _Optional[int] = ..., steal_fraction: _Optional[float] = ..., cpus: _Optional[_Iterable[int]] = ..., windows: _Optional[_Iterable[_Union[Window, _Mapping]]] = ...) -> None: ...

class LoadRequest(_message.Message):
    __slots__ = ("artifact", "settings", "streams", "rate_per_s", "bound_ns", "percent", "duration_s", "warmup_s", "min_requests", "seed", "deadline_s", "memory_limit_bytes", "lease_token")
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    RATE_PER_S_FIELD_NUMBER: _ClassVar[int]
    BOUND_NS_FIELD_NUMBER: _ClassVar[int]
    PERCENT_FIELD_NUMBER: _ClassVar[int]
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    WARMUP_S_FIELD_NUMBER: _ClassVar[int]
    MIN_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    MEMORY_LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    LEASE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    artifact: str
    settings: Settings
    streams: int
    rate_per_s: float
    bound_ns: float
    percent: float
    duration_s: float
    warmup_s: float
    min_requests: int
    seed: int
    deadline_s: float
    memory_limit_bytes: int
    lease_token: str
    def __init__(self, artifact: _Optional[str] = ..., settings: _Optional[_Union[Settings, _Mapping]] = ..., streams: _Optional[int] = ..., rate_per_s: _Optional[float] = ..., bound_ns: _Optional[float] = ..., percent: _Optional[float] = ..., duration_s: _Optional[float] = ..., warmup_s: _Optional[float] = ..., min_requests: _Optional[int] = ..., seed: _Optional[int] = ..., deadline_s: _Optional[float] = ..., memory_limit_bytes: _Optional[int] = ..., lease_token: _Optional[str] = ...) -> None: ...

class LoadEvent(_message.Message):
    __slots__ = ("progress", "served", "readings", "result")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    SERVED_FIELD_NUMBER: _ClassVar[int]
    READINGS_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    progress: Progress
    served: ServedBatch
    readings: ReadingBatch
    result: LoadResult
    def __init__(self, progress: _Optional[_Union[Progress, _Mapping]] = ..., served: _Optional[_Union[ServedBatch, _Mapping]] = ..., readings: _Optional[_Union[ReadingBatch, _Mapping]] = ..., result: _Optional[_Union[LoadResult, _Mapping]] = ...) -> None: ...

class ServedBatch(_message.Message):
    __slots__ = ("trial", "stream", "arrival_ns", "start_ns", "end_ns")
    TRIAL_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    ARRIVAL_NS_FIELD_NUMBER: _ClassVar[int]
    START_NS_FIELD_NUMBER: _ClassVar[int]
    END_NS_FIELD_NUMBER: _ClassVar[int]
    trial: _containers.RepeatedScalarFieldContainer[int]
    stream: _containers.RepeatedScalarFieldContainer[int]
    arrival_ns: _containers.RepeatedScalarFieldContainer[int]
    start_ns: _containers.RepeatedScalarFieldContainer[int]
    end_ns: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, trial: _Optional[_Iterable[int]] = ..., stream: _Optional[_Iterable[int]] = ..., arrival_ns: _Optional[_Iterable[int]] = ..., start_ns: _Optional[_Iterable[int]] = ..., end_ns: _Optional[_Iterable[int]] = ...) -> None: ...

class LoadTrial(_message.Message):
    __slots__ = ("rate_per_s", "start_ns", "end_ns", "requests", "unserved", "within_bound")
    RATE_PER_S_FIELD_NUMBER: _ClassVar[int]
    START_NS_FIELD_NUMBER: _ClassVar[int]
    END_NS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    UNSERVED_FIELD_NUMBER: _ClassVar[int]
    WITHIN_BOUND_FIELD_NUMBER: _ClassVar[int]
    rate_per_s: float
    start_ns: int
    end_ns: int
    requests: int
    unserved: int
    within_bound: bool
    def __init__(self, rate_per_s: _Optional[float] = ..., start_ns: _Optional[int] = ..., end_ns: _Optional[int] = ..., requests: _Optional[int] = ..., unserved: _Optional[int] = ..., within_bound: bool = ...) -> None: ...

class LoadResult(_message.Message):
    __slots__ = ("runtime", "runtime_version", "provider", "threads", "streams", "cpus", "load_ns", "trials", "highest_rate_per_s", "device_time_ns", "steal_fraction", "verdicts")
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_VERSION_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    CPUS_FIELD_NUMBER: _ClassVar[int]
    LOAD_NS_FIELD_NUMBER: _ClassVar[int]
    TRIALS_FIELD_NUMBER: _ClassVar[int]
    HIGHEST_RATE_PER_S_FIELD_NUMBER: _ClassVar[int]
    DEVICE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    STEAL_FRACTION_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    runtime: str
    runtime_version: str
    provider: str
    threads: int
    streams: int
    cpus: _containers.RepeatedScalarFieldContainer[int]
    load_ns: int
    trials: _containers.RepeatedCompositeFieldContainer[LoadTrial]
    highest_rate_per_s: float
    device_time_ns: int
    steal_fraction: float
    verdicts: _containers.RepeatedCompositeFieldContainer[Verdict]
    def __init__(self, runtime: _Optional[str] = ..., runtime_version: _Optional[str] = ..., provider: _Optional[str] = ..., threads: _Optional[int] = ..., streams: _Optional[int] = ..., cpus: _Optional[_Iterable[int]] = ..., load_ns: _Optional[int] = ..., trials: _Optional[_Iterable[_Union[LoadTrial, _Mapping]]] = ..., highest_rate_per_s: _Optional[float] = ..., device_time_ns: _Optional[int] = ..., steal_fraction: _Optional[float] = ..., verdicts: _Optional[_Iterable[_Union[Verdict, _Mapping]]] = ...) -> None: ...

class Tensor(_message.Message):
    __slots__ = ("name", "dtype", "shape", "data")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    data: bytes
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., data: _Optional[bytes] = ...) -> None: ...

class InferRequest(_message.Message):
    __slots__ = ("header", "inputs")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    header: InferHeader
    inputs: TensorBatch
    def __init__(self, header: _Optional[_Union[InferHeader, _Mapping]] = ..., inputs: _Optional[_Union[TensorBatch, _Mapping]] = ...) -> None: ...

class InferHeader(_message.Message):
    __slots__ = ("sha256", "settings", "lease_token", "deadline_s", "memory_limit_bytes")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    LEASE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    MEMORY_LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    settings: Settings
    lease_token: str
    deadline_s: float
    memory_limit_bytes: int
    def __init__(self, sha256: _Optional[str] = ..., settings: _Optional[_Union[Settings, _Mapping]] = ..., lease_token: _Optional[str] = ..., deadline_s: _Optional[float] = ..., memory_limit_bytes: _Optional[int] = ...) -> None: ...

class TensorBatch(_message.Message):
    __slots__ = ("tensors",)
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    tensors: _containers.RepeatedCompositeFieldContainer[Tensor]
    def __init__(self, tensors: _Optional[_Iterable[_Union[Tensor, _Mapping]]] = ...) -> None: ...

class InferResponse(_message.Message):
    __slots__ = ("outputs",)
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    outputs: TensorBatch
    def __init__(self, outputs: _Optional[_Union[TensorBatch, _Mapping]] = ...) -> None: ...

class AcquireLeaseRequest(_message.Message):
    __slots__ = ("holder", "reason", "ttl_s", "ticket")
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TTL_S_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    holder: str
    reason: str
    ttl_s: float
    ticket: str
    def __init__(self, holder: _Optional[str] = ..., reason: _Optional[str] = ..., ttl_s: _Optional[float] = ..., ticket: _Optional[str] = ...) -> None: ...

class RenewLeaseRequest(_message.Message):
    __slots__ = ("token", "ttl_s")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    TTL_S_FIELD_NUMBER: _ClassVar[int]
    token: str
    ttl_s: float
    def __init__(self, token: _Optional[str] = ..., ttl_s: _Optional[float] = ...) -> None: ...

class ReleaseLeaseRequest(_message.Message):
    __slots__ = ("token",)
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    token: str
    def __init__(self, token: _Optional[str] = ...) -> None: ...

class ReleaseLeaseResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class QueueLeaseRequest(_message.Message):
    __slots__ = ("holder", "reason", "ttl_s", "ticket", "hold_s")
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TTL_S_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    HOLD_S_FIELD_NUMBER: _ClassVar[int]
    holder: str
    reason: str
    ttl_s: float
    ticket: str
    hold_s: float
    def __init__(self, holder: _Optional[str] = ..., reason: _Optional[str] = ..., ttl_s: _Optional[float] = ..., ticket: _Optional[str] = ..., hold_s: _Optional[float] = ...) -> None: ...

class QueueLeaseResponse(_message.Message):
    __slots__ = ("lease", "place")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    lease: Lease
    place: Place
    def __init__(self, lease: _Optional[_Union[Lease, _Mapping]] = ..., place: _Optional[_Union[Place, _Mapping]] = ...) -> None: ...

class Place(_message.Message):
    __slots__ = ("position", "waiting", "holder", "reason", "remaining_s")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REMAINING_S_FIELD_NUMBER: _ClassVar[int]
    position: int
    waiting: int
    holder: str
    reason: str
    remaining_s: float
    def __init__(self, position: _Optional[int] = ..., waiting: _Optional[int] = ..., holder: _Optional[str] = ..., reason: _Optional[str] = ..., remaining_s: _Optional[float] = ...) -> None: ...

class LeaveQueueRequest(_message.Message):
    __slots__ = ("ticket",)
    TICKET_FIELD_NUMBER: _ClassVar[int]
    ticket: str
    def __init__(self, ticket: _Optional[str] = ...) -> None: ...

class LeaveQueueResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeUseRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class EndUseRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DeviceUse(_message.Message):
    __slots__ = ("holder", "reason", "remaining_s", "held_s", "jobs", "waiting")
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REMAINING_S_FIELD_NUMBER: _ClassVar[int]
    HELD_S_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    holder: str
    reason: str
    remaining_s: float
    held_s: float
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    waiting: _containers.RepeatedCompositeFieldContainer[Waiter]
    def __init__(self, holder: _Optional[str] = ..., reason: _Optional[str] = ..., remaining_s: _Optional[float] = ..., held_s: _Optional[float] = ..., jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ..., waiting: _Optional[_Iterable[_Union[Waiter, _Mapping]]] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("what", "holder", "running_s")
    WHAT_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    RUNNING_S_FIELD_NUMBER: _ClassVar[int]
    what: str
    holder: str
    running_s: float
    def __init__(self, what: _Optional[str] = ..., holder: _Optional[str] = ..., running_s: _Optional[float] = ...) -> None: ...

class Waiter(_message.Message):
    __slots__ = ("holder", "reason", "waited_s")
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    WAITED_S_FIELD_NUMBER: _ClassVar[int]
    holder: str
    reason: str
    waited_s: float
    def __init__(self, holder: _Optional[str] = ..., reason: _Optional[str] = ..., waited_s: _Optional[float] = ...) -> None: ...

class Lease(_message.Message):
    __slots__ = ("token", "holder", "reason", "remaining_s")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REMAINING_S_FIELD_NUMBER: _ClassVar[int]
    token: str
    holder: str
    reason: str
    remaining_s: float
    def __init__(self, token: _Optional[str] = ..., holder: _Optional[str] = ..., reason: _Optional[str] = ..., remaining_s: _Optional[float] = ...) -> None: ...
