"""Work that goes on in threads of its own for as long as something else lasts."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def meanwhile(*bodies: Callable[[threading.Event], None], limit_seconds: float | None = None) -> Iterator[None]:
    """Run each body in a thread; the event it is given tells it to end, and each is waited for.

    Args:
        bodies: what to run.
        limit_seconds: for so long each is waited for at the end; None = until it has ended.

    """
    stop = threading.Event()
    threads = [threading.Thread(target=body, args=(stop,), daemon=True) for body in bodies]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(limit_seconds)
