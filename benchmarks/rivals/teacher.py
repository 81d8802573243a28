"""A teacher that answers a repeated question from memory: all methods of a seed train on the same stream of images."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import torch
from torch import Tensor, nn

from host.files import write_whole


class RememberedTeacher(nn.Module):
    """Answers as `teacher` does, from `path` where it has seen the very batch (by the hash of its bytes) before."""

    def __init__(self, teacher: nn.Module, path: Path) -> None:
        super().__init__()
        self.teacher = teacher
        self._path = path
        self._answers: dict[str, Tensor] = {}
        if path.exists():
            self._answers = torch.load(path, map_location="cpu", weights_only=True)
        self._known = len(self._answers)

    def forward(self, images: Tensor) -> Tensor:
        key = hashlib.blake2b(images.detach().cpu().contiguous().numpy().data, digest_size=12).hexdigest()
        if key not in self._answers:
            answer: Tensor = self.teacher(images)
            self._answers[key] = answer.detach().cpu()
        return self._answers[key].to(images.device)

    def store(self) -> None:
        """Keep what was learned, for the next training."""
        if len(self._answers) > self._known:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            packed = io.BytesIO()
            torch.save(self._answers, packed)
            write_whole(self._path, packed.getvalue())
            self._known = len(self._answers)
