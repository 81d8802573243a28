"""The web application: routes to pages. It reads the history and the answers of the fleet; no route changes anything."""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from collections.abc import Callable, Collection
from typing import TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from device_agent.contract.errors import BoardfitError
from host.cli.device_names import DeviceNames
from host.dashboard import pages
from host.dashboard.guard import Guard
from host.dashboard.script import SCRIPT
from host.dashboard.sweeps import SweepView, view_of
from host.dashboard.watch import FleetWatch
from host.report.fleet.data import FleetData
from host.report.fleet.load import load_fleet
from host.report.fleet.page import fleet_page
from host.report.fleet.selection import Selection, recent_artifacts, wanted_of
from host.report.markup import Markup, el
from host.report.tables import SORTING
from host.results.queue import StoreQueue
from host.results.store import ResultStore

T = TypeVar("T")
#: Sweeps in the list, and results in the history; the rest is for the terminal and for reports.
MOST_SWEEPS, MOST_RESULTS = 15, 600
#: However many look at a sweep, the history is asked no more often.
_FRESH_S = 1.5


class Dashboard:
    """The pages of an open history and a watched fleet; `store_words` is how a report of this history is asked for again."""

    def __init__(self, store: ResultStore, queue: StoreQueue, watch: FleetWatch, *, shared: bool = False) -> None:
        self._store, self._queue, self._watch, self._shared = store, queue, watch, shared
        self._sweeps = _Fresh[int, SweepView]()
        #: A report reads much; a reader who asks again and again waits for the first.
        self._reports = threading.Lock()

    def app(self, *, hosts: Collection[str] | None, token: str | None) -> Starlette:
        """Return the application, guarded (see Guard)."""
        digest = base64.b64encode(hashlib.sha256(SORTING.encode()).digest()).decode()
        return Starlette(
            routes=[
                Route("/", self.fleet),
                Route("/live/fleet", self.live_fleet),
                Route("/sweeps", self.sweeps),
                Route("/live/sweeps", self.live_sweeps),
                Route("/sweeps/{number:int}", self.sweep),
                Route("/live/sweeps/{number:int}", self.live_sweep),
                Route("/history", self.history),
                Route("/report", self.report),
                Route("/page.js", self.script),
                Route("/health", self.health),
            ],
            middleware=[Middleware(Guard, hosts=hosts, token=token, scripts=(f"'sha256-{digest}'",))],
            exception_handlers={BoardfitError: _failed, HTTPException: _refused},
        )

    def fleet(self, _: Request) -> Response:
        """All devices."""
        return HTMLResponse(pages.page("/", "Fleet", live="/live/fleet", live_content=pages.fleet(*self._watch.seen())))

    def live_fleet(self, _: Request) -> Response:
        """The part of it that changes."""
        return HTMLResponse(pages.fleet(*self._watch.seen()))

    def sweeps(self, _: Request) -> Response:
        """The newest sweeps."""
        return HTMLResponse(pages.page("/sweeps", "Sweeps", live="/live/sweeps", live_content=self._sweep_list()))

    def live_sweeps(self, _: Request) -> Response:
        """The part of it that changes."""
        return HTMLResponse(self._sweep_list())

    def sweep(self, request: Request) -> Response:
        """One sweep."""
        number = request.path_params["number"]
        view = self._view(number)
        title = f"{view.sweep.name} (#{number})"
        link = el("a", "Report on its results", href=f"/report?sweep=%23{number}")
        report = el("p", link, class_="after")
        live = f"/live/sweeps/{number}"
        return HTMLResponse(pages.page("/sweeps", title, report, live=live, live_content=pages.sweep(view)))

    def live_sweep(self, request: Request) -> Response:
        """The part of it that changes."""
        return HTMLResponse(pages.sweep(self._view(request.path_params["number"])))

    def history(self, request: Request) -> Response:
        """Results, of an artifact or a device, with their course over time."""
        names = DeviceNames()
        seen, _ = self._watch.seen()
        choice = pages.Choice(
            artifact=request.query_params.get("artifact", "").strip(),
            device=request.query_params.get("device", "").strip(),
            artifacts=recent_artifacts(self._store),
            devices=tuple(each.device.name for each in seen),
        )
        try:
            data = self._data(request, names, most=MOST_RESULTS, samples=False)
        except BoardfitError as error:
            return HTMLResponse(pages.page("/history", "History", pages.history(None, choice, str(error))), 404)
        return HTMLResponse(pages.page("/history", "History", pages.history(data, choice)))

    def report(self, request: Request) -> Response:
        """The whole report, made on the spot."""
        with self._reports:
            return HTMLResponse(fleet_page(self._data(request, DeviceNames())))

    def script(self, _: Request) -> Response:
        """What the pages run."""
        return Response(SCRIPT, media_type="text/javascript")

    def health(self, _: Request) -> Response:
        """That the dashboard is there, for scripts."""
        seen, problem = self._watch.seen()
        return JSONResponse({"schema": 1, "devices": len(seen), "problem": problem})

    def _data(
        self, request: Request, names: DeviceNames, *, most: int | None = None, samples: bool = True
    ) -> FleetData:
        given = {key: value.strip() for key, value in request.query_params.items() if value.strip()}
        selection = Selection(
            sweep=given.get("sweep"),
            device=given.get("device"),
            artifact=given.get("artifact"),
            since=given.get("since"),
            shared=self._shared,
        )
        wanted = wanted_of(self._store, selection, names)
        if most is None:
            return load_fleet(self._store, wanted)
        return load_fleet(self._store, wanted, most=most, samples=samples)

    def _sweep_list(self) -> Markup:
        every = self._queue.list_sweeps()
        views = [self._view(each.id) for each in every[:MOST_SWEEPS]]
        return pages.sweeps(views, len(every) - len(views))

    def _view(self, number: int) -> SweepView:
        return self._sweeps.get(number, lambda: view_of(self._queue, self._queue.find(f"#{number}")))


K = TypeVar("K")
V = TypeVar("V")


class _Fresh(dict[K, tuple[float, V]]):
    """Values that are made anew when they are older than _FRESH_S, by one thread at a time."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now, self._lock = now, threading.Lock()

    def get(self, key: K, make: Callable[[], V]) -> V:  # type: ignore[override]
        with self._lock:
            known = self.pop(key, None)
            if known is None or self._now() - known[0] > _FRESH_S:
                known = (self._now(), make())
            self[key] = known
            while len(self) > 4 * MOST_SWEEPS:
                del self[next(iter(self))]
            return known[1]


def _failed(_: Request, error: Exception) -> Response:
    from device_agent.contract.errors import StableError

    return PlainTextResponse(str(error), 404 if isinstance(error, StableError) else 503)


def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return PlainTextResponse(f"{error.detail}. The pages are / /sweeps /history", error.status_code)
