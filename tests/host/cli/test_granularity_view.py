"""`host devices info` shows what compressions found out about the device's widths."""

import json
from collections.abc import Callable
from typing import Any

from host.results.store import ResultStore

STEPS = [
    {
        "kind": "depthwise",
        "role": "output",
        "multiple": 8,
        "decided": True,
        "over_next": {"1": 6.5, "4": 1.05, "8": 0.9},
    },
    {"kind": "linear", "role": "input", "multiple": 1, "decided": False, "over_next": {"1": 0.99}},
]


def test_info_shows_the_widths_found_on_boards_like_it(host: Callable[..., Any], agent: Any) -> None:
    info = host("devices", "add", "bench", agent.address, "--json").document["info"]
    assert "not known yet" in host("devices", "info", "bench").out
    mine = {key: info[key] for key in ("board", "cpu", "architecture", "governor")}
    settings = {
        "runtime": "onnxruntime",
        "runtime_version": "9.8.7",
        "provider": None,
        "threads": 3,
        "precision": "float32",
    }
    with ResultStore.open() as store:
        for step in STEPS:
            kind = f"granularity {step['kind']} {step['role']}"
            store.put_device_fact(json.dumps({**mine, **settings}, sort_keys=True), kind, {"steps": [step]})
        other = {**mine, **settings, "cpu": "another", "runtime_version": "1.1.1"}
        store.put_device_fact(json.dumps(other, sort_keys=True), "granularity conv output", {"steps": STEPS[:1]})
        store.put_device_fact("no json", "granularity conv output", {"steps": STEPS[:1]})
    document = host("devices", "info", "bench", "--json").document
    (found,) = document["granularity"]
    assert {key: found[key] for key in settings} == settings
    assert [{key: value for key, value in step.items() if key != "measured_at"} for step in found["steps"]] == STEPS
    assert all(step["measured_at"] for step in found["steps"])
    shown = host("devices", "info", "bench").out
    assert "onnxruntime 9.8.7, 3 threads, float32" in shown
    assert "6.500x" in shown
    assert "0.900x" not in shown, "a multiple of the fast one is no width off it"
    assert "any (noisy)" in shown
    assert "1.1.1" not in shown
