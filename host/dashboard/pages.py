"""The pages of the dashboard, from plain values. They look like the reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from host.cli import render
from host.dashboard.sweeps import SweepView
from host.dashboard.watch import Answer, Seen
from host.report.document import document
from host.report.fleet import summary, timeline
from host.report.fleet.data import FleetData
from host.report.markup import Markup, el, join
from host.report.tables import Cell, section, sortable, table, tiles

_NAV = (("/", "Fleet"), ("/sweeps", "Sweeps"), ("/history", "History"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What the history is narrowed to, as the reader wrote it, and what there is to choose from."""

    artifact: str = ""
    device: str = ""
    artifacts: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()


def page(
    here: str, title: str, *content: str | None, live: str | None = None, live_content: Markup | None = None
) -> str:
    """Return a page; `live` is the path of the part that a script renews, which `live_content` is now."""
    links = (el("li", el("a", name, href=path, aria_current="page" if path == here else None)) for path, name in _NAV)
    region = None
    if live is not None:
        region = el("div", live_content, data_live=live, aria_live="off")
    return document(
        f"{title}: Boardfit",
        el("a", "Skip to the content", href="#main", class_="skip"),
        el("nav", el("ul", *links), aria_label="Pages", class_="pages"),
        el("main", el("h1", title), region, *content, id="main"),
        el("footer", el("span", "", id="renewed", role="status"), " This page shows; it changes nothing."),
        source="/page.js",
        kind="fleet",
    )


def fleet(seen: Sequence[Seen], problem: str | None) -> Markup:
    """Return the devices as they are now."""
    if not seen:
        words = problem or "No devices are registered. Add one with: host devices add NAME ADDRESS"
        return el("p", words, class_="verdict open")
    answers = [each.answer for each in seen]
    reached = [each for each in answers if each is not None and each.error is None]
    busy = [each for each in reached if _is_busy(each)]
    warm = [(each.answer.temperature_c, each.device.name) for each in seen if each.answer and each.answer.temperature_c]
    hottest = max(((value, name) for value, name in warm if value is not None), default=None)
    figures = (
        ("Devices", str(len(seen)), "registered"),
        ("Reachable", str(len(reached)), f"{sum(each is None for each in answers)} not asked yet"),
        ("Busy", str(len(busy)), "leased, or at work"),
        ("Warmest", render.temperature_text(hottest[0] if hottest else None), hottest[1] if hottest else "no reading"),
    )
    columns = ("device", "state", "with what", "queue", "temperature", "profile", "tags", "board", "agent", "asked")
    return join(
        [
            el("p", problem, class_="verdict unmet") if problem else None,
            tiles(figures),
            sortable(columns, (_device(each) for each in seen), right=("temperature",), whole=("device", "asked")),
        ]
    )


def _is_busy(answer: Answer) -> bool:
    return answer.use is not None and (answer.use.holder is not None or bool(answer.use.jobs))


def _device(seen: Seen) -> tuple[Cell, ...]:
    answer, device = seen.answer, seen.device
    info = None if answer is None else answer.info
    temperature = None if answer is None else answer.temperature_c
    queue = "" if answer is None or answer.use is None else ", ".join(each.holder for each in answer.use.waiting)
    return (
        Cell(shown=device.name),
        Cell(shown=_state(answer)),
        Cell(shown=_work(answer)),
        Cell(shown=queue or render.DASH),
        Cell(shown=render.temperature_text(temperature), value=temperature, absent=temperature is None),
        Cell(shown=render.text_or_dash(device.profile)),
        Cell(shown=" ".join(device.tags) or render.DASH),
        Cell(shown=render.DASH if info is None else info.board),
        Cell(shown=render.DASH if info is None else info.agent_version),
        Cell(shown=render.DASH if seen.age_s is None else f"{seen.age_s:.0f} s ago", value=seen.age_s),
    )


def _state(answer: Answer | None) -> Markup:
    if answer is None:
        return el("span", "asking", class_="code asking")
    if answer.error is not None:
        return el("span", "unreachable", class_="code")
    if _is_busy(answer):
        return el("span", "busy", class_="code busy")
    return el("span", "free", class_="code stable")


def _work(answer: Answer | None) -> str:
    if answer is None:
        return render.DASH
    if answer.error is not None:
        return first_sentence(answer.error)
    use = answer.use
    if use is None or not _is_busy(answer):
        return render.DASH
    jobs = ", ".join(f"{job.what} for {render.seconds_text(job.running_s)}" for job in use.jobs)
    if use.holder is None:
        return f"{use.jobs[0].holder}: {jobs}"
    reason = f" ({use.reason})" if use.reason else ""
    return f"{use.holder}{reason}, since {render.seconds_text(use.held_s)}" + (f"; {jobs}" if jobs else "")


def sweeps(views: Sequence[SweepView], older: int) -> Markup:
    """Return the newest sweeps with how far they are."""
    if not views:
        return el("p", "The history has no sweeps. Start one with: host sweep FILE.toml", class_="verdict open")
    columns = ("sweep", "created, UTC", "state", "jobs", "failed or skipped", "progress")
    rows = []
    for view in views:
        name = f"{view.sweep.name} (#{view.sweep.id})"
        rows.append(
            (
                el("a", name, href=f"/sweeps/{view.sweep.id}"),
                f"{view.sweep.created_at:%Y-%m-%d %H:%M}",
                _sweep_state(view),
                f"{view.done} of {view.total}",
                str(view.failed) if view.failed else render.DASH,
                progress_bar(view.done - view.failed, view.failed, view.total),
            )
        )
    more = el("p", f"{older} older sweeps are not shown: host sweep --list", class_="muted") if older else None
    return join([table(columns, rows, right=("jobs", "failed or skipped")), more])


def _sweep_state(view: SweepView) -> Markup:
    if view.at_work:
        return el("span", "running", class_="code busy")
    if view.done == view.total:
        return el("span", "ended", class_="code stable")
    return el("span", "stands still", class_="code asking")


def sweep(view: SweepView) -> Markup:
    """Return a sweep as it is now."""
    rate = sum(view.rates.values())
    left = view.total - view.done
    figures = (
        ("Jobs", f"{view.done:,} of {view.total:,}", f"{left:,} to come"),
        ("Failed or skipped", f"{view.failed:,}", "see below" if view.failed else "none"),
        ("Rate", f"{rate:.1f} a minute" if rate else render.DASH, "jobs done within ten minutes"),
        ("Time left", render.seconds_text(view.remaining_s), "at the slowest device's rate" if left else "ended"),
    )
    columns = ("device", "progress", "done", "failed or skipped", "waiting", "a minute", "now")
    rows = []
    for each in view.devices:
        lost = each.failed + each.skipped
        now = ", ".join(view.running.get(each.device, ())) or render.DASH
        if each.set_aside is not None:
            now = f"set aside: {first_sentence(each.set_aside)}"
        speed = view.rates.get(each.device)
        rows.append(
            (
                each.device,
                progress_bar(each.done, lost, each.total),
                f"{each.done} of {each.total}",
                str(lost) if lost else render.DASH,
                str(each.waiting + each.running),
                render.DASH if speed is None else f"{speed:.1f}",
                now,
            )
        )
    failures = None
    if view.failures:
        lines = [
            (
                job.wanted.artifact.name,
                job.device,
                job.state.value,
                str(job.attempts),
                render.DASH if job.finished_at is None else f"{job.finished_at:%H:%M:%S}",
                job.error or render.DASH,
            )
            for job in view.failures
        ]
        heads = ("artifact", "device", "state", "attempts", "at, UTC", "error")
        failures = section("failures", "Newest failures", table(heads, lines, right=("attempts",)))
    return join(
        [
            tiles(figures),
            section("devices", "Devices", table(columns, rows, right=columns[2:6], whole=("device",))),
            failures,
        ]
    )


def first_sentence(text: str) -> str:
    """Return what happened, without the advice: the commands give that."""
    return text.partition(". ")[0]


def progress_bar(done: int, failed: int, total: int) -> Markup:
    """Return a bar of what is done and what failed, with the share as text for those who do not see it."""
    share = 0.0 if not total else (done + failed) / total
    parts = [
        el("i", style=f"width:{100 * count / (total or 1):.2f}%", class_=style)
        for count, style in ((done, "good"), (failed, "bad"))
    ]
    return el(
        "span",
        *parts,
        class_="progress",
        role="progressbar",
        aria_valuemin="0",
        aria_valuemax="100",
        aria_valuenow=f"{100 * share:.0f}",
        aria_label=f"{100 * share:.0f} % ended",
    )


def history(data: FleetData | None, choice: Choice, problem: str | None = None) -> Markup:
    """Return the form, and results with their course over time."""
    form = el(
        "form",
        _field("artifact", "Artifact", choice.artifact, choice.artifacts),
        _field("device", "Device", choice.device, choice.devices),
        el("button", "Show", type="submit"),
        method="get",
        action="/history",
        class_="choose",
    )
    if problem is not None or data is None:
        return join([form, el("p", problem or "", class_="verdict unmet")])
    query = urlencode(
        {key: value for key, value in (("artifact", choice.artifact), ("device", choice.device)) if value}
    )
    link = el("a", "Whole report on these results", href="/report" + (f"?{query}" if query else ""))
    notes = [el("li", each) for each in data.left_out]
    return join(
        [
            form,
            el("p", f"{data.chosen} ", link, class_="after"),
            timeline.repeats(data),
            summary.table(data) or el("p", "The history has no such results.", class_="verdict open"),
            el("ul", *notes, class_="plain") if notes else None,
        ]
    )


def _field(name: str, label: str, value: str, choices: Sequence[str]) -> Markup:
    options = [el("option", value=each) for each in choices]
    return el(
        "label",
        label,
        el("input", name=name, value=value, list=f"{name}-choices", autocomplete="off"),
        el("datalist", *options, id=f"{name}-choices"),
    )
