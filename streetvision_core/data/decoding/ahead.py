"""Work done in threads before it is asked for: in order, and never more of it ahead than allowed.

Decoding leaves the interpreter to other threads, so threads do what processes would, without a copy of the
libraries in each.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Item = TypeVar("Item")
    Result = TypeVar("Result")


def run_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int, ahead: int
) -> Iterator[Result]:
    """Yield the results of `function` in order, with at most `ahead` of them begun before they are taken."""
    pool, remaining = ThreadPoolExecutor(threads), iter(items)
    try:
        waiting = deque(pool.submit(function, item) for item in islice(remaining, ahead))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in islice(remaining, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
