"""The options of `bench`, the same for `host bench` and `device-agent bench`: names, values, and errors in their words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_agent.contract.decision import DIFFERENCE
from device_agent.contract.errors import InvalidRequest
from device_agent.contract.settings import CpuGroup, GraphOptimization, InputKind, Stopping
from device_agent.quantities import duration_s, name_value, one_of, processors, share, size_bytes, whole

_HOW, _FED, _LONG = "How the model is run", "What it is fed", "How long"
_MORE, _LIMITS = "What else is measured", "Limits"
GROUPS = (_HOW, _FED, _LONG, _MORE, _LIMITS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option. `read` turns its text into a value and raises InvalidRequest; None makes it a switch, with `off` its opposite.

    `field` is what the contract calls it, where that is another word. `default` is shown; what is not given has the value None.
    """

    flag: str
    group: str
    help: str
    read: Callable[[str], Any] | None = None
    metavar: str | None = None
    default: str | None = None
    many: bool = False
    off: str | None = None
    field: str | None = None

    @property
    def name(self) -> str:
        """What its value goes by: --min-time is min_time."""
        return self.flag[2:].replace("-", "_")


def _inputs(text: str) -> InputKind | Path:
    if text in (InputKind.RANDOM.value, InputKind.ZEROS.value):
        return InputKind(text)
    path = Path(text)
    if path.suffix.lower() != ".npz":
        raise InvalidRequest(f"{text!r} is neither random, zeros nor an .npz file")
    if not path.is_file():
        raise InvalidRequest(f"there is no file {text} (looked in {Path.cwd()})")
    return path


_STOPPING = Stopping()
OPTIONS: tuple[Option, ...] = (
    Option(
        flag="--runtime",
        group=_HOW,
        read=str,
        metavar="NAME",
        help="by default what the device has for the file: onnxruntime, litert, tflite-runtime. Any other that it knows",
    ),
    Option(
        flag="--provider",
        group=_HOW,
        read=str,
        metavar="NAME",
        help="ONNX Runtime's execution provider, such as CPUExecutionProvider, or LiteRT's delegate",
    ),
    Option(
        flag="--provider-option",
        group=_HOW,
        read=name_value,
        metavar="NAME=VALUE",
        many=True,
        field="provider_options",
        help="an option of the provider; may be given several times",
    ),
    Option(
        flag="--graph-optimization",
        group=_HOW,
        read=one_of(*(level.value for level in GraphOptimization)),
        metavar="LEVEL",
        help="how far ONNX Runtime may rewrite the graph: disabled, basic, extended or all",
    ),
    Option(
        flag="--memory-arena",
        group=_HOW,
        off="--no-memory-arena",
        help="whether the runtime may keep freed memory for its next run",
    ),
    Option(flag="--threads", group=_HOW, read=whole(1, 1024), metavar="N", help="by default the device's own number"),
    Option(flag="--cpus", group=_HOW, read=processors, metavar="LIST", help="pin to these processors, such as 0,2-3"),
    Option(
        flag="--cpu-group",
        group=_HOW,
        read=one_of(*(kind.value for kind in CpuGroup)),
        metavar="big|little",
        help="pin to the processors of one kind",
    ),
    Option(flag="--nice", group=_HOW, read=whole(-20, 19), metavar="N", help="niceness of the worker, -20 to 19"),
    Option(
        flag="--batch",
        group=_HOW,
        read=whole(1, 65536),
        metavar="N",
        help="size of a dynamic first dimension of the inputs",
    ),
    Option(
        flag="--inputs",
        group=_FED,
        read=_inputs,
        metavar="random|zeros|FILE.npz",
        default="random",
        help="random values, zeros, or the arrays of an .npz file by the inputs' names",
    ),
    Option(flag="--seed", group=_FED, read=whole(0, 2**64 - 1), metavar="N", default="0", help="of the random values"),
    Option(
        flag="--warmup-runs",
        group=_LONG,
        read=whole(1),
        metavar="N",
        default=str(_STOPPING.warmup_runs),
        help="fewest runs of the warm-up",
    ),
    Option(
        flag="--warmup-time",
        group=_LONG,
        read=duration_s,
        metavar="TIME",
        default=f"{_STOPPING.warmup_time_s:g}s",
        field="warmup_time_s",
        help="shortest time of the warm-up",
    ),
    Option(
        flag="--min-runs",
        group=_LONG,
        read=whole(1),
        metavar="N",
        default=str(_STOPPING.min_runs),
        help="fewest timed runs of each model",
    ),
    Option(
        flag="--min-time",
        group=_LONG,
        read=duration_s,
        metavar="TIME",
        default=f"{_STOPPING.min_time_s:g}s",
        field="min_time_s",
        help="shortest time of the runs of each model; 1.5, 800ms and 2min are times",
    ),
    Option(
        flag="--max-time",
        group=_LONG,
        read=duration_s,
        metavar="TIME",
        default=f"{_STOPPING.max_time_s:g}s, or --min-time where that is longer",
        field="max_time_s",
        help="longest time of the runs of each model; it ends them even if the precision is not reached",
    ),
    Option(
        flag="--precision",
        group=_LONG,
        read=share,
        metavar="SHARE",
        default="1%",
        help="wanted half-width of the 95 % interval of the median; with several models of the ratio to the first",
    ),
    Option(
        flag="--soak",
        group=_LONG,
        read=duration_s,
        metavar="TIME",
        field="soak_s",
        help="run without a pause for so long, such as 10min, and show what changes over time",
    ),
    Option(
        flag="--difference",
        group=_MORE,
        read=share,
        metavar="SHARE",
        default=f"{DIFFERENCE:.0%}",
        help="with several models: what is less than this counts as no difference",
    ),
    Option(
        flag="--layers", group=_MORE, field="profile_nodes", help="also time every layer, in profiled runs of their own"
    ),
    Option(
        flag="--cold-starts",
        group=_MORE,
        read=whole(0, 1000),
        metavar="N",
        help="also start N fresh processes, one after another, and time import, load and first run",
    ),
    Option(
        flag="--idle",
        group=_MORE,
        read=duration_s,
        metavar="TIME",
        field="idle_s",
        help="rest before and after the runs, as the baseline of energy. By default some seconds where there is a power sensor",
    ),
    Option(
        flag="--memory-limit",
        group=_LIMITS,
        read=size_bytes,
        metavar="SIZE",
        field="memory_limit_bytes",
        help="end the worker beyond this memory, such as 500M or 2Gi. By default most of what is available",
    ),
    Option(
        flag="--timeout",
        group=_LIMITS,
        read=duration_s,
        metavar="TIME",
        field="deadline_s",
        help="end the whole job after this time. By default a generous bound that follows from the times asked for",
    ),
)


_FLAGS = {option.field or option.name: option.flag for option in OPTIONS}
#: What means nothing else in a sentence.
_COMPOUND = "|".join(sorted((name for name in _FLAGS if "_" in name or name == "cpus"), key=len, reverse=True))
_WITH_TUPLE = re.compile(rf"\b({'|'.join(_FLAGS)})=\(([^()]*?),?\)")
_WITH_VALUE = re.compile(rf"\b({'|'.join(_FLAGS)})=")
_ALONE = re.compile(rf"(?<![-\w])({_COMPOUND})\b")


def option_words(message: str) -> str:
    """Return a message of the contract with its fields named as the options are: `min_time_s` is `--min-time`."""
    message = _WITH_TUPLE.sub(lambda found: f"{_FLAGS[found[1]]} {found[2].replace(' ', '')}", message)
    message = _WITH_VALUE.sub(lambda found: f"{_FLAGS[found[1]]} ", message)
    return _ALONE.sub(lambda found: _FLAGS[found[1]], message)


@contextmanager
def in_option_words() -> Iterator[None]:
    """Let an InvalidRequest name options as the user typed them."""
    try:
        yield
    except InvalidRequest as error:
        said = option_words(str(error))
        if said == str(error):
            raise
        raise InvalidRequest(said) from error
