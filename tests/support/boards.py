"""The synthetic boards of tests/fixtures/sysroots, unpacked where a test wants them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from device_agent.sensors.recording import unpack_file

FOLDER = Path(__file__).parents[1] / "fixtures" / "sysroots"
BOARDS = sorted(path.parent.name for path in FOLDER.glob("*/board.txt"))


def unpacked(board: str, folder: Path) -> Path:
    """Write a board's files below `folder` and return it: the board's root."""
    unpack_file(FOLDER / board, folder)
    return folder


def golden_of(board: str) -> Any:
    """Return how a board must be read."""
    return json.loads((FOLDER / board / "golden.json").read_text(encoding="utf-8"))
