"""The runner over the real wire and the real store: agents that fail, that are killed and come back, and that are warm."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from running_agent import wait_until
from sweep_devices import artifact_in, jobs_of

from benchmarks.fake_agents import Behaviour, FakeAgents
from device_agent.contract.device import Quantity
from host.fleet.client import AgentClient
from host.fleet.devices import Device, open_device
from host.fleet.inventory import Inventory, RegisteredDevice
from host.results.lines import LineFilter, list_lines
from host.results.queue import StoreQueue
from host.results.store import ResultStore
from host.sweep import events
from host.sweep.job import JobState
from host.sweep.limits import CoolDown, Limits
from host.sweep.reactions import Backoff
from host.sweep.runner import SweepRunner
from host.sweep.surroundings import Timing

SOON = Backoff(first_s=0.05, longest_s=0.2)
HASTY = Timing(retry=SOON, reopen=SOON, aside=SOON, lease_ttl_s=2.0)


def fleet_of(agents: FakeAgents, folder: Path) -> Callable[[str], AbstractContextManager[Device]]:
    inventory = Inventory(folder / "devices.json")
    inventory.put(
        RegisteredDevice(name=f"d{number}", address=address) for number, address in enumerate(agents.addresses)
    )
    return lambda name: open_device(name, inventory=inventory)


def test_every_job_is_stored_once_whatever_fails(tmp_path: Path) -> None:
    agents = FakeAgents(4, Behaviour(seconds=0.02, runs=20, failing=0.1), seed=3)
    artifacts = [artifact_in(tmp_path, f"{name}.onnx", name.encode()) for name in "ab"]
    seen: list[events.SweepEvent] = []
    restarts = 0
    lock = threading.Lock()

    def tell(event: events.SweepEvent) -> None:
        nonlocal restarts
        seen.append(event)
        if isinstance(event, events.JobDone) and event.device == "d0":
            with lock:
                again = restarts < 2
                restarts += again
            if again:
                agents.kill(0)
                agents.restart(0)

    with agents, ResultStore.open(f"sqlite:///{tmp_path}/h.sqlite") as store, StoreQueue(store) as queue:
        sweep = queue.create("s", jobs_of(artifacts, ["d0", "d1", "d2", "d3"], repeats=4), seed=1, document={})
        runner = SweepRunner(
            queue, sweep, Limits(attempts=50), on_event=tell, open_device=fleet_of(agents, tmp_path), timing=HASTY
        )
        result = runner.run()
        assert result.count("done") == 32
        jobs = queue.jobs(sweep.id, state=JobState.DONE)
        lines = list_lines(store, LineFilter(sweep_id=sweep.id))
    assert restarts == 2
    assert len(lines) == 32
    assert {line.measurement_id for line in lines} == {job.measurement_id for job in jobs}
    told = [event.measurement_id for event in seen if isinstance(event, events.JobDone)]
    assert sorted(told) == sorted(line.measurement_id for line in lines)
    assert result.retried > 0  # or nothing was tried at all


def test_a_warm_device_is_waited_for(tmp_path: Path) -> None:
    agents = FakeAgents(1, Behaviour(seconds=0.0, runs=20, temperature_c=61.0))
    seen: list[events.SweepEvent] = []
    with agents, ResultStore.open(f"sqlite:///{tmp_path}/h.sqlite") as store, StoreQueue(store) as queue:
        with AgentClient(agents.addresses[0]) as client:
            channels = {channel.name: channel for channel in client.describe().channels}
            readings = client.read_sensors()
        warm = [each.value for each in readings if channels[each.channel].quantity is Quantity.TEMPERATURE]
        assert warm == [61.0]
        sweep = queue.create("s", jobs_of([artifact_in(tmp_path)], ["d0"]), seed=1, document={})
        limits = Limits(cool_down=CoolDown(below_c=55, limit_s=0.01))
        SweepRunner(queue, sweep, limits, on_event=seen.append, open_device=fleet_of(agents, tmp_path)).run()
    (cooled,) = [event for event in seen if isinstance(event, events.Cooled)]
    assert (cooled.from_c, cooled.wanted_c, cooled.reached) == (61.0, 55, False)


def test_an_abort_ends_the_job_and_gives_the_lease_back(tmp_path: Path) -> None:
    agents = FakeAgents(1, Behaviour(seconds=600.0))

    def abort_when_it_runs() -> None:
        with AgentClient(agents.addresses[0]) as client:
            wait_until(lambda: bool(client.use().jobs), "the job runs")
        runner.abort()

    with agents, ResultStore.open(f"sqlite:///{tmp_path}/h.sqlite") as store, StoreQueue(store) as queue:
        sweep = queue.create("s", jobs_of([artifact_in(tmp_path)], ["d0"]), seed=1, document={})
        runner = SweepRunner(queue, sweep, Limits(), open_device=fleet_of(agents, tmp_path))
        watcher = threading.Thread(target=abort_when_it_runs)
        watcher.start()
        result = runner.run()
        watcher.join()
        with AgentClient(agents.addresses[0]) as client:
            wait_until(lambda: client.use().holder is None, "the lease was given back")
            assert client.use().jobs == ()
        (job,) = queue.jobs(sweep.id)
    assert result.stopped
    assert (job.state, job.attempts) == (JobState.WAITING, 0)
