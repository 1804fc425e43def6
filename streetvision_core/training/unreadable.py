"""Pictures that turn out unreadable while training: told of and left out; too many of them are an error.

A picture counts once, however often it is met, in whichever stage or process of the training, and also when
the run that met it was killed and another one goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streetvision_core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from streetvision_core.errors import StreetVisionError

    Missing = tuple[str, StreetVisionError]


class Unreadable:
    """Counts pictures by name up to `limit`, those `known` before too; `on_notice` is told."""

    def __init__(
        self, limit: int, *, known: Iterable[str] = (), on_notice: Callable[[str], None] = lambda _: None
    ) -> None:
        self.names = set(known)
        self._limit = limit
        self._on_notice = on_notice
        self._untold: list[Missing] = []

    def meet(self, missing: Iterable[Missing]) -> None:
        """Count pictures by name and error.

        Raises:
            StreetVisionError: a picture's own error, where none may be missing.
            DataError: there are more than may be missing.
        """
        for name, error in missing:
            if not self._limit:
                raise error
            if name in self.names:
                continue
            self.names.add(name)
            if len(self.names) > self._limit:
                raise DataError(
                    f"at most {self._limit} unreadable pictures of train",
                    f"{len(self.names)}, the last one: {error.found}",
                    name,
                    "Restore the pictures, or allow more with max_unreadable.",
                ) from error
            self._untold.append((name, error))
            self._on_notice(
                f"Left out of training, {len(self.names)} of {self._limit} allowed: {name}. {error}"
            )

    def take_untold(self) -> list[Missing]:
        """Return what was met since the last call, for the other processes that train."""
        untold, self._untold = self._untold, []
        return untold
