"""Options of ONNX Runtime's execution providers: none may be ignored without a word.

CUDA, TensorRT, OpenVINO and others refuse a name that they do not know. Some providers, such as the CPU's and Azure's, drop what
they do not know. A session tells the options in effect for those that report them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from device_agent.contract.errors import InvalidRequest
from device_agent.runtimes.onnxruntime_limits import OLDEST_IR, OLDEST_OPSET, identity_model
from device_agent.runtimes.words import shorten

#: What providers that neither report nor check their options take, as their documentation says (onnxruntime.ai, Xnnpack).
_DOCUMENTED: Mapping[str, frozenset[str]] = {"XnnpackExecutionProvider": frozenset({"intra_op_num_threads"})}
_UNHEARD = ("boardfit_option_that_no_provider_has", "1")

Options = Sequence[tuple[str, str]]


def refuse_for_cpu(options: Options) -> NoReturn:
    """Raise InvalidRequest: the CPU's provider takes any options and heeds none."""
    raise InvalidRequest(
        f"CPUExecutionProvider has no options, so {', '.join(name for name, _ in options)} would do nothing; the settings"
        " threads, graph_optimization and memory_arena are what it heeds"
    )


def check_taken(module: Any, provider: str, options: Options) -> None:
    """Raise InvalidRequest if the options are at fault: if even a model of one node does not load with them."""
    if (words := _refusal(module, provider, options)) is not None:
        given = ", ".join(f"{name}={value}" for name, value in options)
        raise InvalidRequest(f"{provider} refuses its options ({given}): {words}")


def check_known(module: Any, provider: str, options: Options, reported: Mapping[str, Mapping[str, str]]) -> None:
    """Raise InvalidRequest for an option that the provider dropped. `reported` are the options of a session by provider."""
    known = set(reported.get(provider, ())) | _DOCUMENTED.get(provider, frozenset())
    unknown = [name for name, _ in options if name not in known]
    if not unknown or _refusal(module, provider, [_UNHEARD]) is not None:
        return
    listed = f"; it takes {', '.join(sorted(known))}" if known else " and tells of none that it takes"
    raise InvalidRequest(f"{provider} does not heed the option {', '.join(unknown)}{listed}")


def _refusal(module: Any, provider: str, options: Options) -> str | None:
    """Return the provider's words if it does not load a model of one node with these options."""
    quiet = module.SessionOptions()
    quiet.log_severity_level = 4
    try:
        module.InferenceSession(
            identity_model(OLDEST_IR, OLDEST_OPSET),
            quiet,
            providers=[(provider, dict(options)), "CPUExecutionProvider"],
            enable_fallback=0,
        )
    except Exception as error:
        return shorten(error)
    return None
