"""Every benchmark in its quick form: it runs, and its rows have the documented keys. No figure is judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

ROOT = Path(__file__).parents[2]
NUMBER = {"type": ["number", "null"]}
TEXT = {"type": ["string", "null"]}
ROW = {
    "type": "object",
    "additionalProperties": False,
    "required": ["metric", "value", "unit", "interval", "goal", "met", "reason", "quick"],
    "properties": {
        "metric": {"type": "string"},
        "value": NUMBER,
        "unit": {"type": "string"},
        "interval": {"type": ["array", "null"], "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
        "goal": TEXT,
        "met": {"type": ["boolean", "null"]},
        "reason": TEXT,
        "quick": {"const": True},
    },
}
DOCUMENT = {
    "type": "object",
    "required": ["schema", "benchmark", "about", "rows"],
    "properties": {"schema": {"const": 1}, "rows": {"type": "array", "items": ROW, "minItems": 1}},
}


def run(name: str) -> Any:
    """Run a benchmark as a user would and return its document."""
    command = [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    jsonschema.validate(document, DOCUMENT)
    assert document["benchmark"] == name
    assert any(row["goal"] for row in document["rows"])
    for row in document["rows"]:
        assert row["reason"] or row["met"] is not None or row["goal"] is None
    return document


@pytest.mark.parametrize(
    "name",
    [
        "bounds",
        "changepoints",
        "disturbed",
        "idle_agent",
        "fidelity",
        "latency_model",
        "sampler",
        "startup",
        "verdicts",
    ],
)
def test_quick(name: str) -> None:
    run(name)


def test_push() -> None:
    """Counts, not times: a known hash sends nothing, and a push that is cut resumes and arrives intact."""
    rows = {row["metric"]: row for row in run("push")["rows"]}
    assert rows["bytes sent for a known hash"]["value"] == 0
    assert all(row["met"] for name, row in rows.items() if "sha256 of the stored file" in name)
    # How much was on its way at the kill is a matter of the machine's load.
    assert [row["value"] for name, row in rows.items() if "although it was on the disk" in name] == [0]


def test_energy() -> None:
    """Synthetic and seeded, so its figures may be judged: no goal is missed, and the errors are all within theirs."""
    rows = run("energy")["rows"]
    assert not [row["metric"] for row in rows if row["met"] is False]
    errors = [row for row in rows if row["unit"] == "%" and row["goal"]]
    assert len(errors) == 10
    assert all(row["met"] for row in errors)


def test_exclusive_use() -> None:
    """Hosts and the agent are killed, and never do two use the device; whoever lives is served."""
    rows = {row["metric"]: row for row in run("exclusive_use")["rows"]}
    assert len([row for row in rows.values() if row["goal"]]) == 4
    assert all(row["met"] for row in rows.values() if row["goal"])
    assert rows["kills of hosts"]["value"] >= 3
    assert rows["kills of the agent"]["value"] >= 1
    assert rows["workers that ran"]["value"] >= 2
