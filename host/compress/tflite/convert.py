"""`python -m host.compress.tflite.convert PROGRAM.pt2 MODEL.tflite`: litert-torch in a process of its own.

It prints its progress on stdout, brings jax and transformers along, and keeps some 600 MB: nothing for the process that measures.
"""

from __future__ import annotations

import sys

import torch


def main() -> None:
    """Convert an exported program, on inputs of the shapes that it was exported with."""
    import litert_torch

    source, target = sys.argv[1:]
    program = torch.export.load(source)
    assert program.example_inputs is not None
    arguments, _ = program.example_inputs
    litert_torch.convert(program.module(), arguments).export(target)


if __name__ == "__main__":
    main()
