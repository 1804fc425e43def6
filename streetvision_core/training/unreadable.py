"""Pictures that turn out unreadable while training: told of and left out; too many of them are an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streetvision_core.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from streetvision_core.errors import StreetVisionError


class Unreadable:
    """Counts pictures by name, each once, up to `limit`; `on_notice` is told of each."""

    def __init__(self, limit: int, *, on_notice: Callable[[str], None] = lambda _: None) -> None:
        self.names: set[str] = set()
        self._limit = limit
        self._on_notice = on_notice

    def meet(self, missing: Iterable[tuple[str, StreetVisionError]]) -> None:
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
            self._on_notice(f"Left out of training, {len(self.names)} of {self._limit} allowed: {error}")
