"""A device's jobs, one after another, in a thread of its own: opened, held, measured, given back."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from device_agent.contract.device import DeviceInfo
from device_agent.contract.errors import AgentTooOld, BoardfitError, DeviceBusy, DeviceUnreachable, TransientError
from device_agent.contract.lease import Place
from device_agent.contract.measurement import Measurement
from device_agent.contract.statistics import percentile
from host.fleet.devices import Device
from host.sweep import events
from host.sweep.cooling import NEAR_C, cool_down, temperature_of
from host.sweep.environment import differing_facts
from host.sweep.job import Claim, Job
from host.sweep.measuring import Bench
from host.sweep.queue import ClaimLost
from host.sweep.reactions import DEVICE_ERRORS
from host.sweep.surroundings import DeviceMemory, StoreFailed, Surroundings, SweepStopped

_log = logging.getLogger(__name__)


class DeviceWork:
    """One turn of a device: from its being taken to its being given back."""

    def __init__(self, sweep: Surroundings, name: str, memory: DeviceMemory) -> None:
        self._sweep = sweep
        self._name = name
        self._memory = memory
        self._info_at = 0.0

    def run(self) -> None:
        """Work until nothing is left to do here now, the device is set aside, or the sweep stops. Raises StoreFailed."""
        sweep, failures = self._sweep, 0
        while not sweep.stopping.is_set():
            try:
                self._hold_and_work()
                return
            except SweepStopped:
                return
            except TransientError as error:
                if sweep.aborted.is_set():
                    return
                failures = 1 if self._memory.away_since is None else failures + 1
                self._memory.away_since = self._memory.away_since or sweep.pace.now()
                if failures > sweep.timing.reopen_tries or isinstance(error, DeviceBusy):
                    self._set_aside(error)
                    return
                self._pause(sweep.timing.reopen.wait_s(failures, sweep.rng))
            except BoardfitError as error:
                if sweep.aborted.is_set():
                    return
                self._give_up(error)
                return
            except (StoreFailed, ClaimLost):
                raise
            except Exception as error:
                if sweep.aborted.is_set():
                    return  # connections that are closed under a call answer in many ways
                _log.error("unexpected failure of device %s", self._name, exc_info=error)
                self._set_aside(
                    DeviceUnreachable(f"{type(error).__name__}: {error}. This should not happen; see the log")
                )
                return

    def _hold_and_work(self) -> None:
        sweep, timing = self._sweep, self._sweep.timing
        with sweep.open_device(self._name) as device:
            sweep.opened(self._name, device)
            try:
                lease = device.client.lease(
                    sweep.holder, sweep.reason, timing.lease_ttl_s, wait_s=timing.lease_wait_s, on_wait=self._waited
                )
                with lease:
                    self._info_at = sweep.pace.now()
                    self._compare(device.info)
                    sweep.emit(events.DeviceStarted(device=self._name))
                    self._work(Bench(device=device, files=sweep.files, limits=sweep.limits))
            finally:
                sweep.opened(self._name, None)
                sweep.emit(events.DeviceEnded(device=self._name))

    def _work(self, bench: Bench) -> None:
        sweep = self._sweep
        if sweep.limits.cool_down is not None and self._memory.first_c is None:
            self._memory.first_c = self._temperature(bench.device)
        while not sweep.stopping.is_set():
            claim = self._store(
                sweep.queue.claim, sweep.sweep_id, sweep.controller, self._name, ttl_s=sweep.timing.ttl_s
            )
            if claim is None:
                return
            sweep.hold_claim(claim)
            try:
                self._job(bench, claim)
            finally:
                sweep.let_go(claim)

    def _job(self, bench: Bench, claim: Claim) -> None:
        """Do one job and settle its claim. What ends the turn of the device is raised after that."""
        sweep, job = self._sweep, claim.job
        reason = self._memory.alike.reason(job)
        if reason is not None:
            reason = f"not tried, since a job like it failed: {reason}"
            if self._settle(claim, sweep.queue.fail, claim, reason, skipped=True):
                sweep.emit(events.JobsSkipped(device=self._name, count=1, reason=reason))
            return
        begin = sweep.pace.now()
        bench.begun = False
        try:
            self._cool(bench.device)
            if sweep.stopping.is_set():
                raise SweepStopped
            self._refresh(bench)
            sweep.emit(
                events.JobStarted(
                    device=self._name,
                    job=job.id,
                    artifact=job.wanted.artifact.name,
                    repeat=job.wanted.repeat,
                    attempt=job.attempts,
                )
            )
            measurement = bench.measure(job.wanted.artifact, dict(job.wanted.options))
        except StoreFailed:
            raise
        except Exception as error:
            self._went_wrong(bench, claim, error)
            return
        self._done(bench, claim, measurement, sweep.pace.now() - begin)

    def _done(self, bench: Bench, claim: Claim, measurement: Measurement, seconds: float) -> None:
        sweep, job = self._sweep, claim.job
        number = self._settle(claim, sweep.queue.complete, claim, measurement, device=bench.device.info)
        if number is None:
            return
        self._memory.answered()
        sweep.emit(
            events.JobDone(
                device=self._name,
                job=job.id,
                artifact=job.wanted.artifact.name,
                repeat=job.wanted.repeat,
                measurement_id=number,
                p50_ns=percentile(measurement.latencies_ns(), 50),
                verdicts=tuple(verdict.code.value for verdict in measurement.result.artifacts[0].verdicts),
                seconds=seconds,
            )
        )

    def _went_wrong(self, bench: Bench, claim: Claim, error: Exception) -> None:
        """Settle a claim after an error; raise what ends the turn of the device."""
        sweep, job = self._sweep, claim.job
        if isinstance(error, SweepStopped) or sweep.aborted.is_set():
            self._settle(claim, sweep.queue.release, claim)
            raise SweepStopped from error
        if isinstance(error, DEVICE_ERRORS) and not (bench.begun and isinstance(error, DeviceUnreachable)):
            # It says nothing about the job. (A device that goes away under a job may have been brought down by it.)
            self._settle(claim, sweep.queue.release, claim)
            raise _as_transient(error)
        if not isinstance(error, DEVICE_ERRORS):
            self._memory.answered()
        if isinstance(error, TransientError):
            self._retry_or_fail(job, claim, error)
        else:
            if isinstance(error, BoardfitError):
                self._memory.alike.failed(job, error)
                self._fail(claim, str(error))
            else:
                _log.error("unexpected failure of job %d on %s", job.id, self._name, exc_info=error)
                self._fail(claim, f"{type(error).__name__}: {error}. This should not happen; the log has the traceback")
        if isinstance(error, DEVICE_ERRORS):
            raise _as_transient(error)

    def _retry_or_fail(self, job: Job, claim: Claim, error: TransientError) -> None:
        sweep = self._sweep
        if job.attempts >= sweep.limits.attempts:
            self._fail(claim, f"failed {job.attempts} times, at last with: {error}")
            return
        wait_s = sweep.timing.retry.wait_s(job.attempts, sweep.rng)
        if self._settle(claim, sweep.queue.retry, claim, str(error), wait_s=wait_s):
            sweep.emit(
                events.JobRetried(
                    device=self._name,
                    job=job.id,
                    artifact=job.wanted.artifact.name,
                    attempt=job.attempts,
                    error=str(error),
                    wait_s=wait_s,
                )
            )

    def _fail(self, claim: Claim, error: str) -> None:
        job = claim.job
        if self._settle(claim, self._sweep.queue.fail, claim, error):
            self._sweep.emit(
                events.JobFailed(
                    device=self._name,
                    job=job.id,
                    artifact=job.wanted.artifact.name,
                    repeat=job.wanted.repeat,
                    error=error,
                )
            )

    def _settle(self, claim: Claim, call: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        """Call the store about a claim; return None where the claim is lost, else its answer or True."""
        try:
            found = self._store(call, *arguments, **keywords)
        except ClaimLost:
            self._sweep.emit(events.ClaimDropped(device=self._name, job=claim.job.id))
            return None
        return True if found is None else found

    def _store(self, call: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        try:
            return call(*arguments, **keywords)
        except ClaimLost:
            raise
        except Exception as error:
            raise StoreFailed from error

    def _set_aside(self, error: TransientError) -> None:
        sweep, memory = self._sweep, self._memory
        memory.times_aside += 1
        away_s = sweep.pace.now() - (memory.away_since or sweep.pace.now())
        if isinstance(error, DeviceUnreachable) and away_s >= sweep.timing.move_after_s:
            sweep.move_jobs(self._name)
        bound_s = sweep.timing.aside.bound_s(memory.times_aside)
        wait_s = sweep.rng.uniform(bound_s / 2, bound_s)
        self._store(sweep.queue.set_aside, sweep.sweep_id, self._name, str(error), wait_s=wait_s)
        sweep.emit(events.DeviceSetAside(device=self._name, reason=str(error), wait_s=wait_s))

    def _give_up(self, error: BoardfitError) -> None:
        """Set the device aside for as long as may be: somebody has to do something about it. Its jobs are kept for then."""
        sweep, wait_s = self._sweep, self._sweep.timing.aside.longest_s
        sweep.move_jobs(self._name)
        self._memory.away_since = -math.inf
        self._store(sweep.queue.set_aside, sweep.sweep_id, self._name, str(error), wait_s=wait_s)
        sweep.emit(events.DeviceSetAside(device=self._name, reason=str(error), wait_s=wait_s))

    def _pause(self, seconds: float) -> None:
        self._sweep.pace.wait(self._sweep.stopping, seconds)

    def _waited(self, place: Place) -> None:
        if self._sweep.stopping.is_set():
            raise SweepStopped
        self._sweep.emit(events.DeviceWaited(device=self._name, holder=place.holder, position=place.position))

    def _refresh(self, bench: Bench) -> None:
        """Ask anew what the device is, now and then: a governor changes without a word."""
        sweep = self._sweep
        if sweep.pace.now() - self._info_at > sweep.timing.info_age_s:
            info = bench.device.client.describe()
            self._info_at = sweep.pace.now()
            bench.device = Device(name=bench.device.name, client=bench.device.client, info=info)
            self._compare(info)

    def _compare(self, info: DeviceInfo) -> None:
        before, self._memory.info = self._memory.info, info
        changed = () if before is None else differing_facts(before, info)
        if changed:
            names, old, new = zip(*changed, strict=True)
            self._sweep.emit(events.EnvironmentChanged(device=self._name, fields=names, before=old, after=new))

    def _temperature(self, device: Device) -> float | None:
        if self._memory.cannot_cool:
            return None
        try:
            found = temperature_of(device.info, device.client.read_sensors())
            reason = "none of its sensors tells a temperature; `host devices info` lists them"
        except AgentTooOld as error:
            found, reason = None, str(error)
        if found is None:
            self._memory.cannot_cool = True
            self._sweep.emit(events.CannotCool(device=self._name, reason=reason))
        return found

    def _cool(self, device: Device) -> None:
        sweep, wanted = self._sweep, self._sweep.limits.cool_down
        if wanted is None or self._memory.cannot_cool:
            return
        below_c = wanted.below_c
        if below_c is None:
            if self._memory.first_c is None:
                return
            below_c = self._memory.first_c + NEAR_C
        found = cool_down(
            lambda: self._temperature(device),
            below_c,
            limit_s=wanted.limit_s,
            now=sweep.pace.now,
            wait=lambda seconds: sweep.pace.wait(sweep.stopping, seconds),
        )
        if found is not None:
            sweep.emit(
                events.Cooled(
                    device=self._name,
                    from_c=found.from_c,
                    to_c=found.to_c,
                    wanted_c=found.wanted_c,
                    seconds=found.seconds,
                    reached=found.reached,
                )
            )


def _as_transient(error: Exception) -> TransientError:
    """Return the error as what it is for the device: a lost lease can be had again."""
    if isinstance(error, TransientError):
        return error
    return DeviceUnreachable(f"the device forgot that it is held ({error})")


def end_calls(device: Device) -> None:
    """End what a device does, from another thread: its job, or, if it is at something else, all calls with the connection.

    A connection that stays can still give the lease back, so that the next one need not wait for its end.
    """
    with suppress(Exception):
        if not device.client.cancel():
            device.client.close()
