"""What C code prints does not reach standard output, and Python's own text does."""

import subprocess
import sys

CODE = """
import ctypes, sys
from host.search.quiet import quiet_stdout
print("before")
with quiet_stdout():
    ctypes.CDLL(None).puts(b"a line of the solver's")
ctypes.CDLL(None).puts(b"later")
ctypes.CDLL(None).fflush(None)
print("after")
"""


def test_only_the_solver_is_silenced() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["before", "later", "after"]


def test_without_standard_output_nothing_fails() -> None:
    code = "import os; os.close(1)\nfrom host.search.quiet import quiet_stdout\nwith quiet_stdout(): pass"
    subprocess.run([sys.executable, "-c", code], check=True)
