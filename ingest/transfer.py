"""Arrays on their way to a device and back, while the device computes.

A GPU works behind the program's back: a pass is launched in a fraction of the time that it takes.
What waits for its results before the next pass is launched leaves the device idle. So adapters end
with `to_host`, and whoever runs many passes opens `deferred` around each, launches the next, and
only then waits. On a CPU nothing is ever on its way.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, Protocol

import numpy as np


class Event(Protocol):
    """A point in what a device was asked to do, as torch.cuda.Event."""

    def synchronize(self) -> None:
        """Waits until the device has come there. Raises what it met on the way."""


class Arrivals:
    """The arrays of a `deferred` block that are on their way."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def wait(self) -> None:
        """Until all have arrived. Raises what the device met, such as a CUDA error."""
        while self.events:
            self.events.pop().synchronize()


_open: ContextVar[Arrivals | None] = ContextVar("arrivals", default=None)


@contextmanager
def deferred() -> Iterator[Arrivals]:
    """Within the block, the arrays of `to_host` are not waited for, and must not be read."""
    arrivals = Arrivals()
    token = _open.set(arrivals)
    try:
        yield arrivals
    finally:
        _open.reset(token)


@contextmanager
def beside(device: str) -> Iterator[None]:
    """Within the block a GPU is asked apart from what it does: to wait is to wait for that alone.

    What is asked afterwards comes after the block's. Tensors that were made in it are to be kept
    until the device is done with them.
    """
    if not device.startswith("cuda"):
        yield
        return
    import torch

    stream = _side_stream(device)
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream(device).wait_stream(stream)


@cache
def _side_stream(device: str) -> Any:
    """One for all blocks: each stream has its own memory."""
    import torch

    return torch.cuda.Stream(device)


def to_device(array: np.ndarray, device: str) -> Any:
    """A tensor of an array; to a GPU from pinned memory, so that the program need not wait."""
    import torch

    tensor = torch.from_numpy(array)
    if not device.startswith("cuda"):
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def to_host(tensor: Any) -> np.ndarray:
    """A copy of a tensor as it is now, as an array: the last that an adapter does with a result.

    Within `deferred` it is filled later, and nothing may be computed of it before.
    """
    tensor = tensor.detach()
    if not is_remote(tensor):
        here: np.ndarray = tensor.numpy().copy()
        return here
    copy, event = begin_copy(tensor)
    if (arrivals := _open.get()) is None:
        event.synchronize()
    else:
        arrivals.events.append(event)
    array: np.ndarray = copy.numpy()
    return array


def is_remote(tensor: Any) -> bool:
    """Whether a tensor is in a memory that the program cannot read."""
    return bool(tensor.device.type != "cpu")


def begin_copy(tensor: Any) -> tuple[Any, Event]:
    """A tensor in pinned memory, and the event after which it is filled.

    In the order of the device's own work, so that what a later operation writes in place is not in
    it; and torch gives neither memory to anybody else before the copy is done.
    """
    import torch

    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    copy.copy_(tensor, non_blocking=True)
    return copy, torch.cuda.current_stream(tensor.device).record_event()
