"""Byte strings written once, in order, to a temporary file without a name, then read in any order.

The file has no name from the start, so that nothing is left behind however the process ends; on Windows it
has one, and the system removes it with its last descriptor. Any number of threads read, and processes that
were forked later (`io.system.RandomReader`).
"""

from __future__ import annotations

import tempfile
import weakref
from array import array
from typing import TYPE_CHECKING

from streetvision_core.io.system import RandomReader, room_for

if TYPE_CHECKING:
    from collections.abc import Iterable


class Spill:
    """Rows of bytes, None where a row holds nothing; 8 bytes of memory a row."""

    def __init__(self, rows: Iterable[bytes | memoryview | None]) -> None:
        """Write all rows; raises StoreError when the temporary disk is full."""
        self._ends = array("q")
        self._missing: set[int] = set()
        with room_for("the decoded images"):
            file = tempfile.TemporaryFile(prefix="streetvision-")  # noqa: SIM115 - lives as long as the object
            weakref.finalize(self, file.close)
            self._reader = RandomReader(file.fileno())
            end = 0
            for number, row in enumerate(rows):
                if row is None:
                    self._missing.add(number)
                else:
                    end += file.write(row)
                self._ends.append(end)
            file.flush()

    def read(self, number: int) -> bytes | None:
        """Return row `number`, or None where it holds nothing or does not exist."""
        if number in self._missing or number >= len(self._ends):
            return None
        start = self._ends[number - 1] if number else 0
        return self._reader.read(self._ends[number] - start, start)
