"""The sha256 of uploads, computed in a process of its own that ends with the upload.

hashlib brings libcrypto, which would stay in the agent from the first upload on: 3.7 MiB that the models need.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

#: Reads the file as far as it goes, at every byte on stdin and once more at its end.
_PROGRAM = """\
import hashlib, sys
digest = hashlib.sha256()
with open(sys.argv[1], "rb", buffering=0) as file:
    while True:
        more = sys.stdin.buffer.read1(4096)
        while block := file.read(1 << 20):
            digest.update(block)
        if not more:
            break
print(digest.hexdigest())
"""


class FileDigest:
    """Hashes a file while it grows at its end, behind its writer. Call the methods from one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Start the process on an existing file. OSError if the system has no room for it."""
        # Isolated and without site: it starts in 15 ms on a PC, and takes no module from the folder it is started in.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _PROGRAM, str(path.absolute())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,  # a Ctrl-C on the agent's terminal is the agent's to handle
        )

    def grown(self) -> None:
        """Say that there is more to read. BrokenPipeError if the process is gone."""
        assert self._process.stdin is not None
        self._process.stdin.write(b".")

    def hexdigest(self) -> str:
        """Return the digest of the whole file and end the process. Blocks until it is there; call it once.

        OSError if the process is gone, or could not read the file.
        """
        digest, _ = self._process.communicate()
        if self._process.returncode or not digest:
            raise OSError(f"the process that hashes files ended with status {self._process.returncode}; try again")
        return digest.decode().strip()

    def close(self) -> None:
        """End the process, whatever it does. May be called twice, and after `hexdigest`."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                assert pipe is not None
                pipe.close()
        self._process.wait()
