"""Calls under way."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta


def cuda_devices(tensors: Sequence[torch.Tensor]) -> list[torch.device]:
    return list({tensor.device: None for tensor in tensors if tensor.device.type == "cuda"})


def device_of(tensors: Sequence[torch.Tensor]) -> torch.device | None:
    """The CUDA device that is to be the current one for work on tensors, if there is one: theirs, or the thread's."""
    devices = cuda_devices(tensors)
    has_begun: Callable[[], bool] = torch.cuda.is_initialized
    if not devices and has_begun():
        return torch.device("cuda", torch.cuda.current_device())
    return devices[0] if devices else None


def on(device: torch.device | None) -> contextlib.AbstractContextManager[object]:
    return contextlib.nullcontext() if device is None else torch.cuda.device(device)


class Work:
    """A call under way, as torch's ``Work``: tensors are complete once ``wait`` returns.

    Attributes:
        tensors: the results.
    """

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        self.tensors = list(tensors)
        self._done = threading.Event()
        self._error: Exception | None = None
        self._future: torch.futures.Future[list[torch.Tensor]] = torch.futures.Future(devices=[*cuda_devices(tensors)])

    def wait(self, timeout: timedelta | None = None) -> bool:
        """Waits until the call is over, and raises its error if it has one.

        Args:
            timeout: at most this long; by default as long as the group does.

        Raises:
            TimeoutError: the call is not over by then. It goes on.
        """
        if not self._done.wait(None if timeout is None else timeout.total_seconds()):
            raise TimeoutError(f"the call was not over within timeout={timeout}")
        if self._error is not None:
            raise self._error
        return True

    def is_completed(self) -> bool:
        """Whether the call is over, with an error or without."""
        return self._done.is_set()

    def is_success(self) -> bool:
        return self._done.is_set() and self._error is None

    def exception(self) -> Exception | None:
        """The error of a call that is over."""
        return self._error

    def result(self) -> list[torch.Tensor]:
        """The results, once they are complete."""
        self.wait()
        return self.tensors

    def get_future(self) -> torch.futures.Future[list[torch.Tensor]]:
        """A future of the results, or of the error."""
        return self._future

    def finish(self, error: Exception | None) -> None:
        """Says that the call is over."""
        self._error = error
        self._done.set()
        if error is None:
            self._future.set_result(self.tensors)
        else:
            self._future.set_exception(error)  # type: ignore[arg-type]


def finished(tensors: Sequence[torch.Tensor]) -> Work:
    """The work of a call that had nothing to do."""
    work = Work(tensors)
    work.finish(None)
    return work


class CopiedBack(NamedTuple):
    """Work of torch's on what stands for a tensor of a device from which the group cannot send."""

    work: Any
    result: torch.Tensor
    tensor: torch.Tensor

    def wait(self) -> None:
        self.work.wait()
        self.tensor.copy_(self.result)
