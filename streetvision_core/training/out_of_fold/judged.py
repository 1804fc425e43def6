"""The folds that a killed cross-validation had judged, so that the next run does not train them again.

They lie in the directory of progress of the step (`io/claims.py`), which belongs to one step key, under its
lock: `<training>-<sha256>.safetensors`, named by the images that were trained on and judged, and by its own
bytes. A file of other bytes than its name says is not used.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streetvision_core.io import bytes_digest, tensors_bytes, write_file_atomic
from streetvision_core.io.tensors import read_tensors
from streetvision_core.training.resume import open_state

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from streetvision_core.eval.inputs import Bools

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JudgedFolds:
    """The folds that were judged so far; without a directory none is kept."""

    directory: Path | None = None

    def take(self, trained: Bools, judged: Bools) -> npt.NDArray[np.float32] | None:
        """Return the logits [M, 2] of a fold [N] by what was trained on these images [N], if kept."""
        for path in self.directory.glob(f"{_name(trained, judged)}-*") if self.directory else ():
            data = path.read_bytes()
            if path.stem.endswith(bytes_digest(data)):
                return read_tensors(data)["logits"]
            _log.info("A fold is trained again: %s is damaged.", path)
        return None

    def keep(self, trained: Bools, judged: Bools, logits: npt.NDArray[np.float32]) -> None:
        """Make a judged fold durable."""
        if self.directory is not None:
            data = tensors_bytes({"logits": logits})
            name = f"{_name(trained, judged)}-{bytes_digest(data)}.safetensors"
            write_file_atomic(self.directory / name, data)


@contextmanager
def judged_folds(directory: Path | None) -> Iterator[JudgedFolds]:
    """Hold the directory for the block; wait for another run that holds it.

    Raises:
        StoreError: it is somebody's, a link, or cannot be written.
    """
    if directory is None:
        yield JudgedFolds()
        return
    with open_state(directory, training="", device=""):
        yield JudgedFolds(directory)


def _name(trained: Bools, judged: Bools) -> str:
    return bytes_digest(np.stack([trained, judged]).tobytes())[:16]
