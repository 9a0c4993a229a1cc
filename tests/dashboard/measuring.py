"""What a call costs this thread: no other thread's work, and no collection of what others have left."""

import contextlib
import gc
import time
from types import SimpleNamespace


@contextlib.contextmanager
def measured():
    """Measure what is done within: ``with measured() as cost: ...``, then it took ``cost.seconds``."""
    cost = SimpleNamespace(seconds=0.0)
    gc.collect()
    gc.disable()
    try:
        began = time.thread_time()
        yield cost
        cost.seconds = time.thread_time() - began
    finally:
        gc.enable()
