"""Devices of a sweep without agents: a script says what each call meets. And a clock that moves only while everybody waits."""

from __future__ import annotations

import queue
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from made_up import DEVICE, measured
from sweep_queue import PlainQueue

from device_agent.contract.artifact import ArtifactFormat
from device_agent.contract.device import DeviceInfo, RuntimeInfo
from device_agent.contract.lease import Place
from device_agent.contract.measurement import Measurement, Reading
from device_agent.contract.settings import MeasureRequest
from host.fleet.devices import Device
from host.fleet.upload import describe_file
from host.sweep.events import SweepEvent
from host.sweep.job import NewJob, Sweep, SweepArtifact
from host.sweep.limits import Limits
from host.sweep.pace import Pace
from host.sweep.runner import SweepResult, SweepRunner

RUNTIME = RuntimeInfo(
    name="onnxruntime", version="1.32.0", formats=(ArtifactFormat.ONNX,), providers=("CPUExecutionProvider",)
)
_ONE = measured(1.0, blocks=2)


class FakePace(Pace):
    """Every wait is over at once, and the clock is as much later; no time passes while threads work."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 1000.0

    def now(self) -> float:
        return self._now

    def wait(self, ended: threading.Event, seconds: float) -> bool:
        with self._lock:
            self._now += seconds
        return ended.is_set()

    def next_message(self, messages: queue.SimpleQueue[Any], seconds: float, *, idle: bool) -> Any:
        try:
            return messages.get(timeout=0.0 if idle else 10.0)
        except queue.Empty:
            with self._lock:
                self._now += seconds
            return None


@dataclass
class FakeDevice:
    """What a device does. Each hook may raise, and is called with the number of the call, from 1."""

    info: DeviceInfo
    on_open: Callable[[int], None] = lambda _number: None
    on_lease: Callable[[int], None] = lambda _number: None
    on_measure: Callable[[int], None] = lambda _number: None
    temperatures: Iterator[float] | None = None
    opened: int = 0
    leased: int = 0
    measured: int = 0
    pushes: list[str] = field(default_factory=list)
    requests: list[MeasureRequest] = field(default_factory=list)
    held: bool = False
    closed: threading.Event = field(default_factory=threading.Event)

    def describe(self) -> DeviceInfo:
        return self.info

    @contextmanager
    def lease(
        self,
        holder: str | None,
        reason: str,
        ttl_s: float,
        *,
        wait_s: float | None = None,
        on_wait: Callable[[Place], None] | None = None,
    ) -> Iterator[None]:
        self.leased += 1
        self.on_lease(self.leased)
        assert not self.held, "two sessions hold one device"
        self.held = True
        try:
            yield
        finally:
            self.held = False

    def push(self, path: Path, *, name: str, known: Any) -> None:
        assert self.held
        self.pushes.append(known.sha256)

    def measure(self, request: MeasureRequest) -> Measurement:
        assert self.held
        self.measured += 1
        self.requests.append(request)
        self.on_measure(self.measured)
        return replace(_ONE, request=request)

    def read_sensors(self) -> tuple[Reading, ...]:
        if self.temperatures is None:
            return ()
        return (Reading(channel="soc", time_ns=0, value=next(self.temperatures)),)

    def cancel(self) -> bool:
        self.closed.set()
        return True


@dataclass
class Fleet:
    """Devices by name, a queue and a clock; `run` runs a sweep of these and keeps its events."""

    devices: dict[str, FakeDevice]
    queue: PlainQueue
    pace: FakePace
    events: list[SweepEvent] = field(default_factory=list)

    @classmethod
    def of(cls, *names: str) -> Fleet:
        pace = FakePace()
        info = replace(DEVICE, runtimes=(RUNTIME,))
        devices = {name: FakeDevice(replace(info, device_id=name)) for name in names}
        return cls(devices=devices, queue=PlainQueue(clock=pace.now), pace=pace)

    @contextmanager
    def open(self, name: str) -> Iterator[Device]:
        device = self.devices[name]
        device.opened += 1
        device.on_open(device.opened)
        yield Device(name=name, client=device, info=device.info)  # type: ignore[arg-type]

    def create(self, jobs: list[NewJob]) -> Sweep:
        return self.queue.create("nightly", jobs, seed=1, document={})

    def runner(self, limits: Limits | None = None, **more: Any) -> SweepRunner:
        assert self.queue.sweep is not None
        given = {"on_event": self.events.append, "open_device": self.open, "pace": self.pace, **more}
        return SweepRunner(self.queue, self.queue.sweep, limits or Limits(), rng=random.Random(3), **given)

    def run(self, limits: Limits | None = None, **more: Any) -> SweepResult:
        return self.runner(limits, **more).run()

    def seen(self, kind: type[SweepEvent]) -> list[Any]:
        """Return the events of one kind in their order."""
        return [event for event in self.events if isinstance(event, kind)]


def artifact_in(folder: Path, name: str = "a.onnx", content: bytes = b"model a") -> SweepArtifact:
    """Write a file and return it as a sweep's artifact."""
    path = folder / name
    path.write_bytes(content)
    return SweepArtifact(name=name, path=path, sha256=describe_file(path).sha256)


def jobs_of(
    artifacts: list[SweepArtifact], devices: list[str], *, repeats: int = 1, movable: bool = False, **options: Any
) -> list[NewJob]:
    """Return jobs in order of repeat, device, artifact."""
    places = [(repeat, device, artifact) for repeat in range(repeats) for device in devices for artifact in artifacts]
    return [
        NewJob(
            key=f"{artifact.name}-{device}-{repeat}",
            position=position,
            artifact=artifact,
            device=device,
            options=options,
            repeat=repeat,
            movable_to=tuple(other for other in devices if other != device) if movable else (),
        )
        for position, (repeat, device, artifact) in enumerate(places)
    ]
