"""The loop that anybody would write: `python -m benchmarks.bare_loop RUNTIME FILE --threads N --warmup N --runs N`.

Loads a model with the runtime's own Python API, runs it and prints the p50 in nanoseconds. It shares no code with the agent:
ONNX Runtime with IO binding of inputs and outputs, LiteRT with invoke, inputs standard normal with open sizes
taken as one, a clock around each run.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path


def onnxruntime_loop(path: Path, threads: int) -> Callable[[], object]:
    """Return a call that runs the model once on bound inputs and outputs."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    generator = np.random.default_rng(0)
    feeds = {}
    for node in session.get_inputs():
        shape = [size if isinstance(size, int) else 1 for size in node.shape]
        feeds[node.name] = generator.standard_normal(shape).astype(np.float32)
        binding.bind_cpu_input(node.name, feeds[node.name])
    names = [node.name for node in session.get_outputs()]
    for name, first in zip(names, session.run(names, feeds), strict=True):  # a model may leave the outputs' shapes open
        binding.bind_ortvalue_output(name, onnxruntime.OrtValue.ortvalue_from_shape_and_type(first.shape, first.dtype))
    return lambda: session.run_with_iobinding(binding)


def litert_loop(path: Path, threads: int) -> Callable[[], object]:
    """Return a call that runs the model once on inputs that were set before."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    generator = np.random.default_rng(0)
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], generator.standard_normal(detail["shape"]).astype(np.float32))
    invoke: Callable[[], object] = interpreter.invoke
    return invoke


LOOPS = {"onnxruntime": onnxruntime_loop, "litert": litert_loop}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the loop and print the p50 of its timed runs."""
    parser = argparse.ArgumentParser(description="A bare timing loop.")
    parser.add_argument("runtime", choices=sorted(LOOPS))
    parser.add_argument("file", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--warmup", type=int, required=True)
    parser.add_argument("--runs", type=int, required=True)
    options = parser.parse_args(arguments)
    run = LOOPS[options.runtime](options.file, options.threads)
    for _ in range(options.warmup):
        run()
    latencies = []
    for _ in range(options.runs):
        start = time.perf_counter_ns()
        run()
        latencies.append(time.perf_counter_ns() - start)
    sys.stdout.write(f"{statistics.median(latencies):.0f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
