"""`host sweep SWEEP.toml`: measure artifacts x devices x settings, all devices at once."""

from __future__ import annotations

import json
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from host.cli.errors import ExitCode
from host.cli.store_option import store_option

if TYPE_CHECKING:
    from device_agent.contract.device import DeviceInfo
    from host.results.queue import StoreQueue
    from host.results.store import ResultStore
    from host.sweep.estimate import History
    from host.sweep.events import SweepEvent
    from host.sweep.job import NewJob, Sweep
    from host.sweep.planning import SweepPlan
    from host.sweep.runner import SweepResult, SweepRunner
    from host.sweep.spec import SweepSpec

#: A sweep that takes longer than this is asked about on a terminal.
ASK_ABOVE_S = 4 * 3600.0
_SEED_BITS = 32


@click.command("sweep", short_help="Measure artifacts x devices x settings, all devices at once.")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--resume",
    metavar="[NAME]",
    is_flag=False,
    flag_value="",
    help="Go on with a sweep: by its name or number (#7), that of FILE, or the newest that is not done. Nothing is repeated.",
)
@click.option("--dry-run", is_flag=True, help="Show the plan with the time it will take, and leave.")
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), help="Of the order of the jobs.  [default: a random one, kept]"
)
@click.option("--yes", is_flag=True, help="Do not ask, however long it will take.")
@click.option(
    "--log", type=click.Path(path_type=Path, dir_okay=False), help="Append every event to this file, as JSON lines."
)
@click.option("--list", "show_list", is_flag=True, help="List the sweeps of the store.")
@click.option("--status", metavar="NAME", help="Show how far a sweep is, also while it runs.")
@store_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    file: Path | None,
    resume: str | None,
    dry_run: bool,
    seed: int | None,
    yes: bool,
    log: Path | None,
    show_list: bool,
    status: str | None,
    store_url: str | None,
    as_json: bool,
) -> int:
    """Do what FILE asks for: measure its artifacts on its devices under its settings, all devices at once.

    Every result is kept at once in the history. Errors that may pass are tried again, a device that is away is
    waited for. Ctrl-C finishes the measurements that run, a second one ends them; --resume goes on later.

    docs/sweeps.md describes the file. Exit code: 0 all done, 1 some jobs failed, were skipped or still wait, 4 no
    device was reached, 130 stopped by Ctrl-C.
    """
    if sum((show_list, status is not None, file is not None or resume is not None)) != 1:
        raise click.UsageError("give a FILE, --resume [NAME], --list or --status NAME (`host sweep --help`)")
    if resume is not None and (dry_run or seed is not None):
        raise click.UsageError(
            "--dry-run and --seed are for new sweeps; one that is resumed keeps its jobs and their order"
        )
    from host.results.queue import StoreQueue
    from host.results.store import ResultStore

    with ResultStore.open(store_url) as history, StoreQueue(history) as queue:
        if show_list or status is not None:
            return _tell(queue, status, as_json)
        if resume is not None:
            return _run(history, queue, _found(queue, file, resume), None, log, as_json)
        assert file is not None
        plan = _plan(history, file, seed)
        if dry_run:
            return _show(plan, as_json)
        _confirm(plan, yes)
        sweep = queue.create(plan.spec.name, plan.jobs, seed=plan.seed, document=plan.document)
        return _run(history, queue, sweep, plan, log, as_json)


def _tell(queue: StoreQueue, status: str | None, as_json: bool) -> int:
    from host.cli import render, sweep_tables

    if status is None:
        sweeps = queue.list_sweeps()
        document = sweep_tables.list_document([(sweep, queue.progress(sweep.id)) for sweep in sweeps])
        show: Callable[[Mapping[str, Any]], None] = sweep_tables.show_list
    else:
        sweep = queue.find(status)
        document = sweep_tables.status_document(sweep, queue.progress(sweep.id), queue.jobs(sweep.id))
        show = sweep_tables.show_status
    (render.print_json if as_json else show)(document)
    return ExitCode.DONE


def _found(queue: StoreQueue, file: Path | None, name: str) -> Sweep:
    """Return the sweep to be resumed."""
    from host.sweep.queue import UnknownSweep
    from host.sweep.spec import read_spec

    if file is None and name.endswith(".toml") and Path(name).is_file():
        file, name = Path(name), ""
    if file is not None:
        spec = read_spec(file)
        sweep = queue.find(name or spec.name)
        if sweep.name != spec.name:
            raise click.UsageError(
                f"{file} is the sweep {spec.name}, and --resume {name} means {sweep.name} #{sweep.id}: give only one of them"
            )
        if dict(sweep.document) != dict(spec.document):
            _say(f"note: {file} was changed since the sweep was created; what is resumed is what it asked for then")
        return sweep
    if name:
        return queue.find(name)
    sweeps = queue.list_sweeps()
    for sweep in sweeps:
        if any(each.waiting or each.running for each in queue.progress(sweep.id)):
            return sweep
    raise UnknownSweep(
        "no sweep is left to be resumed" if sweeps else "there are no sweeps; start one with `host sweep FILE`"
    )


def _plan(history: ResultStore, file: Path, seed: int | None) -> SweepPlan:
    from host.cli.model_files import model_file
    from host.sweep.history import history_of
    from host.sweep.planning import plan_sweep
    from host.sweep.spec import read_spec

    spec: SweepSpec = read_spec(file)

    def times(jobs: Sequence[NewJob], devices: Mapping[str, DeviceInfo]) -> History:
        return history_of(history, jobs, devices, spec.limits)

    return plan_sweep(
        spec,
        seed=secrets.randbits(_SEED_BITS) if seed is None else seed,
        export=model_file,
        history=times,
        say=_say,
    )


def _show(plan: SweepPlan, as_json: bool) -> int:
    from host.cli import render, sweep_tables

    if as_json:
        render.print_json(sweep_tables.plan_document(plan))
    else:
        sweep_tables.show_plan(plan)
    return ExitCode.DONE


def _confirm(plan: SweepPlan, yes: bool) -> None:
    from host.cli import sweep_tables

    sweep_tables.print_notes(plan, stderr=True)
    for name, why in plan.unreached.items():
        if name in plan.unusable:
            continue
        _say(f"note: {name} does not answer now, and will be tried again: {why}")
    _say(sweep_tables.plan_line(plan))
    if plan.estimate.wall_s > ASK_ABOVE_S and sys.stdin.isatty() and not yes:
        click.confirm("Start it?", abort=True, err=True)


def _run(
    history: ResultStore, queue: StoreQueue, sweep: Sweep, plan: SweepPlan | None, log: Path | None, as_json: bool
) -> int:
    from host.cli import render, sweep_tables
    from host.cli.sweep_view import SweepView
    from host.fleet.devices import open_device
    from host.fleet.inventory import Inventory
    from host.results.lines import LineFilter, list_lines
    from host.sweep.events import DeviceSetAside
    from host.sweep.limits import limits_of
    from host.sweep.outcome import outcome
    from host.sweep.runner import SweepRunner

    unreached: dict[str, str] = {}
    begin_s = time.monotonic()
    estimate_s = None if plan is None else plan.estimate.wall_s
    with ExitStack() as stack:
        view = SweepView(sweep.name, queue.progress(sweep.id), estimate_s=estimate_s)
        listeners: list[Callable[[SweepEvent], None]] = [view.on_event]
        if log is not None:
            listeners.append(stack.enter_context(_logging(log)))

        def tell(event: SweepEvent) -> None:
            if isinstance(event, DeviceSetAside):
                unreached[event.device] = event.reason
            for listener in listeners:
                listener(event)

        inventory = Inventory()  # one for all devices, so that its file is read once
        runner = SweepRunner(
            queue,
            sweep,
            limits_of(dict(sweep.document.get("limits", {}))),
            on_event=tell,
            open_device=lambda name: open_device(name, inventory=inventory),
        )
        stack.enter_context(view)
        stack.enter_context(_interruptible(runner, view))
        result = runner.run()
    cells = outcome(queue.jobs(sweep.id), list_lines(history, LineFilter(sweep_id=sweep.id)))
    document = sweep_tables.result_document(
        result,
        cells,
        seconds=time.monotonic() - begin_s,
        unreached={name: why for name, why in unreached.items() if name not in result.reached},
    )
    if as_json:
        render.print_json(document)
    else:
        sweep_tables.show_result(document)
    return _code(result)


def _code(result: SweepResult) -> ExitCode:
    left = result.count("waiting") + result.count("running")
    if result.stopped and left:
        return ExitCode.INTERRUPTED
    if left and not result.reached:
        return ExitCode.NO_DEVICE
    return ExitCode.FAILED if left or result.count("failed") or result.count("skipped") else ExitCode.DONE


@contextmanager
def _logging(path: Path) -> Iterator[Callable[[SweepEvent], None]]:
    """Yield what appends events to a file. Raises CannotWrite."""
    from host.files import cannot_write
    from host.sweep.events import event_document

    try:
        file = path.open("a", encoding="utf-8")
    except OSError as error:
        raise cannot_write(path, error) from error

    def write(event: SweepEvent) -> None:
        line = json.dumps(event_document(event, datetime.now(timezone.utc)), ensure_ascii=False)
        try:
            file.write(line + "\n")
            file.flush()
        except OSError as error:
            raise cannot_write(path, error) from error

    with file:
        yield write


@contextmanager
def _interruptible(runner: SweepRunner, view: Any) -> Iterator[None]:
    """Let the first Ctrl-C stop the sweep after the jobs that run, the second one end these; a third one is Python's own."""

    def first(_signal: int, _frame: object) -> None:
        view.stopping = True
        runner.stop()
        for number in kept:
            signal.signal(number, second)

    def second(_signal: int, _frame: object) -> None:
        runner.abort()
        for number, handler in kept.items():
            signal.signal(number, handler)

    kept: dict[signal.Signals, Any] = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        kept[number] = signal.signal(number, first)
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    click.echo(text, err=True)
