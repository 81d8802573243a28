"""One agent without a board: the real agent's leases and job slot; the device, the storage and the measuring are made up.

Measuring sleeps and gives seeded latencies; artifacts are hashed and let go. Many of them serve in benchmarks.fake_agents.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_agent import __version__
from device_agent.agent import Agent
from device_agent.contract.artifact import Artifact, ArtifactFormat
from device_agent.contract.device import CONTRACT_VERSION, Channel, DeviceInfo, Quantity, RuntimeInfo
from device_agent.contract.errors import (
    AgentStopping,
    ArtifactCorrupt,
    ArtifactNotFound,
    BoardfitError,
    DeadlineExceeded,
    DeviceUnreachable,
    JobAborted,
    ModelRejected,
)
from device_agent.contract.measurement import (
    ArtifactResult,
    MeasureEvent,
    MeasureResult,
    Phase,
    Progress,
    Reading,
    ReadingBatch,
    Run,
    RunBatch,
    RunKind,
    Verdict,
    VerdictCode,
    Window,
    WindowKind,
)
from device_agent.contract.settings import MeasureRequest
from device_agent.contract.transfer import HeldBytes, UploadHeader
from device_agent.sensors import Sensor

_TEMPERATURE = Channel(name="soc", quantity=Quantity.TEMPERATURE, site="soc", source="made up", interval_s=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How a fake agent answers. `seconds` is what a measurement lasts, times 1 +- `spread`; `runs` its timed runs.

    `failing` is the share of calls that end in a transient error, a measurement at its start, midway, or when all is measured and
    nothing was told. Artifacts whose names are among `rejects` fail with a stable one. `temperature_c` is what the sensor says.
    """

    seconds: float = 2.0
    spread: float = 0.1
    runs: int = 50
    failing: float = 0.0
    rejects: frozenset[str] = frozenset()
    temperature_c: float = 45.0

    def __post_init__(self) -> None:
        if self.seconds < 0 or not 0 <= self.spread < 1 or self.runs < 1 or not 0 <= self.failing <= 1:
            raise ValueError(f"a fake agent cannot behave like this: {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeJob:
    """A measurement that an agent finished: where, of what, and when. `start_ns` is that of its first run, different in all jobs.

    `told` is false where the connection broke before the result was sent.
    """

    device_id: str
    artifacts: tuple[str, ...]
    start_ns: int
    end_ns: int
    told: bool


class FakeUpload:
    """An upload into memory, or rather past it: only the hash and the number of bytes are kept."""

    def __init__(self, store: FakeStore, artifact: Artifact) -> None:
        self._store, self._artifact = store, artifact
        self._digest, self._size = hashlib.sha256(), 0

    def write(self, chunks: Sequence[bytes]) -> None:
        """Take some bytes."""
        for chunk in chunks:
            self._digest.update(chunk)
            self._size += len(chunk)

    def finish(self) -> Artifact:
        """Return the artifact. ArtifactCorrupt if the bytes are not its."""
        if (self._digest.hexdigest(), self._size) != (self._artifact.sha256, self._artifact.size_bytes):
            raise ArtifactCorrupt(
                f"{self._size} bytes came for {self._artifact.name}, and they are not those announced"
            )
        self._store.artifacts[self._artifact.sha256] = self._artifact
        return self._artifact

    def keep(self, chunks: Sequence[bytes]) -> None:
        """Keep nothing of an upload that was cut."""

    def close(self) -> None:
        """Do nothing."""


class FakeStore:
    """What the service asks of an artifact store. It outlives its agent, as a disk does."""

    def __init__(self) -> None:
        self.artifacts: dict[str, Artifact] = {}

    def list(self) -> tuple[Artifact, ...]:
        """Return all artifacts."""
        return tuple(self.artifacts.values())

    def get(self, sha256: str) -> Artifact:
        """Return one. ArtifactNotFound."""
        if sha256 not in self.artifacts:
            raise ArtifactNotFound(f"this fake agent holds no artifact {sha256}")
        return self.artifacts[sha256]

    def held(self, sha256: str) -> HeldBytes:
        """Say whether it is here."""
        return HeldBytes(complete=sha256 in self.artifacts, offset=0)

    @contextmanager
    def use(self, hashes: Sequence[str]) -> Iterator[tuple[tuple[Path, Artifact], ...]]:
        """Yield the artifacts; they have no paths."""
        yield tuple((Path(sha256), self.get(sha256)) for sha256 in hashes)

    def delete(self, sha256: str) -> None:
        """Forget one. ArtifactNotFound."""
        del self.artifacts[self.get(sha256).sha256]

    def begin(self, header: UploadHeader) -> FakeUpload | None:
        """Begin an upload, unless the artifact is here."""
        return None if header.artifact.sha256 in self.artifacts else FakeUpload(self, header.artifact)

    def close(self) -> None:
        """Do nothing."""


class _Thermometer(Sensor):
    """A sensor that says what it is told."""

    interval_s = 1.0

    def __init__(self, temperature_c: Callable[[], float]) -> None:
        self._temperature_c = temperature_c

    @property
    def channels(self) -> tuple[Channel, ...]:
        return (_TEMPERATURE,)

    def read(self, now_ns: int) -> tuple[Reading, ...]:
        return (Reading(channel=_TEMPERATURE.name, time_ns=now_ns, value=self._temperature_c()),)


class FakeAgent(Agent):
    """The real agent with a made-up board and made-up measuring. `record` is given every measurement that ended."""

    def __init__(
        self,
        info: DeviceInfo,
        store: FakeStore,
        behaviour: Behaviour,
        *,
        rng: random.Random,
        record: Callable[[FakeJob], None],
    ) -> None:
        self.info, self.behaviour, self.rng = info, behaviour, rng
        thermometer = _Thermometer(lambda: self.behaviour.temperature_c)
        super().__init__(store, describe_board=_no_board, profile=None, sensors=(thermometer,))  # type: ignore[arg-type]
        self._record = record

    async def describe(self) -> DeviceInfo:
        """Return the made-up device."""
        return self.info

    async def measure(
        self, request: MeasureRequest, token: str | None, caller: str
    ) -> AsyncGenerator[MeasureEvent, None]:
        """Sleep, and yield seeded runs around a latency that hangs on the artifact and the device."""
        how, rng = self.behaviour, self.rng
        fault = rng.choice(("start", "midway", "end")) if rng.random() < how.failing else None
        if fault == "start":
            raise transient(rng)
        self.exclusive.check(token)
        with self.store.use(request.artifacts) as held:
            names = " and ".join(artifact.name for _, artifact in held)
            with self.exclusive.job(f"measuring {names}", token, caller):
                yield Progress(phase=Phase.LOADING, fraction=0.0, runs=0)
                rejected = [artifact.name for _, artifact in held if artifact.name in how.rejects]
                if rejected:
                    raise ModelRejected(f"the runtime cannot load {', '.join(rejected)}: made-up operator Nonsense(1)")
                start_ns = time.monotonic_ns()
                seconds = how.seconds * rng.uniform(1 - how.spread, 1 + how.spread)
                await asyncio.sleep(seconds * (0.5 if fault == "midway" else 1.0))
                runs, end_ns = self._runs(request, start_ns)
                yield RunBatch(runs=runs)
                if fault == "midway":
                    raise transient(rng)
                reading = Reading(channel=_TEMPERATURE.name, time_ns=start_ns, value=how.temperature_c)
                yield ReadingBatch(readings=(reading,))
                job = FakeJob(
                    device_id=self.info.device_id,
                    artifacts=request.artifacts,
                    start_ns=start_ns,
                    end_ns=time.monotonic_ns(),
                    told=fault is None,
                )
                self._record(job)
                if fault is not None:
                    raise transient(rng)
                yield self._result(request, start_ns, end_ns)

    def _runs(self, request: MeasureRequest, start_ns: int) -> tuple[tuple[Run, ...], int]:
        runs = []
        clock = start_ns
        for place, sha256 in enumerate(request.artifacts):
            base_ns = (
                2e6
                + int(sha256[:4], 16) * 100
                + int(hashlib.sha256(str(self.info.profile).encode()).hexdigest()[:4], 16) * 20
            )
            for _ in range(self.behaviour.runs):
                latency_ns = round(base_ns * self.rng.gauss(1, 0.01))
                runs.append(
                    Run(artifact=place, kind=RunKind.TIMED, turn=place, start_ns=clock, latency_ns=latency_ns, disturbed=False)
                )  # fmt: skip
                clock += latency_ns
        return tuple(runs), clock

    def _result(self, request: MeasureRequest, start_ns: int, end_ns: int) -> MeasureResult:
        return MeasureResult(
            runtime=request.settings.runtime,
            runtime_version="1.32.0",
            threads=request.settings.threads or self.info.default_threads,
            artifacts=tuple(
                ArtifactResult(
                    sha256=sha256,
                    load_ns=5_000_000,
                    provider="CPUExecutionProvider",
                    provider_share=1.0,
                    peak_memory_bytes=9_000_000 if len(request.artifacts) == 1 else None,
                    peak_rss_bytes=50_000_000 if len(request.artifacts) == 1 else None,
                    nodes=None,
                    verdicts=(Verdict(code=VerdictCode.STABLE),),
                )
                for sha256 in request.artifacts
            ),
            device_time_ns=time.monotonic_ns() - start_ns,
            steal_fraction=None,
            windows=(Window(kind=WindowKind.TIMED, start_ns=start_ns, end_ns=end_ns),),
        )


def transient(rng: random.Random) -> BoardfitError:
    """Return an error that may pass when tried again."""
    kind = rng.choice((DeviceUnreachable, AgentStopping, JobAborted, DeadlineExceeded))
    return kind("a made-up failure of a fake agent; try again")


def _no_board() -> Any:
    raise AssertionError("a fake agent has no board")


def fake_device(number: int, profile: str) -> DeviceInfo:
    """Return what agent `number` says of itself."""
    return DeviceInfo(
        device_id=f"fake-{number:04}",
        agent_version=__version__,
        contract_version=CONTRACT_VERSION,
        profile=profile,
        board=f"made-up {profile}",
        architecture="aarch64",
        cpu="Cortex-A72",
        cores=4,
        memory_bytes=4 * 2**30,
        operating_system="Debian GNU/Linux 12 (bookworm)",
        kernel="6.6.31",
        python="3.11.2",
        governor="performance",
        default_threads=4,
        runtimes=(
            RuntimeInfo(
                name="onnxruntime",
                version="1.32.0",
                formats=(ArtifactFormat.ONNX,),
                providers=("CPUExecutionProvider",),
                max_onnx_opset=24,
                max_onnx_ir=12,
            ),
            RuntimeInfo(name="litert", version="2.1.0", formats=(ArtifactFormat.TFLITE,), providers=("XNNPACK",)),
        ),
        channels=(_TEMPERATURE,),
    )
