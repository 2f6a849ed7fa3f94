"""Which kernels does a launcher launch, and in which compiled form? Heavy: imports torch and triton.

The launcher runs as it is, on tensors without memory and for a GPU that is not there. Its kernels are compiled where
they would be launched, so types, hints, constants and options are the launcher's own, not a copy of them.

An autotuned kernel is compiled in the first configuration that its pruning leaves: nothing can be timed here. A kernel
whose choice matters should be given its configuration by the launcher.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from triton.runtime.autotuner import Autotuner
from triton.runtime.jit import JITFunction

from perfgate.errors import PerfgateError
from perfgate.static import backward, cache_key, pretend
from perfgate.static.figures import Form
from perfgate.static.launch_form import form_of_launch
from perfgate.static.targets import Target

#: An address that every allocation of a GPU divides by.
_BASE = 1 << 20


class Pointer:
    """What a kernel's launch asks of a tensor: its type, where it lies, and how far its memory reaches.

    Args:
        tensor: without memory.
    """

    def __init__(self, tensor: torch.Tensor) -> None:
        self.dtype = tensor.dtype
        self._address: int = _BASE + tensor.storage_offset() * tensor.element_size()
        self._bytes = int(tensor.untyped_storage().nbytes())

    def data_ptr(self) -> int:
        """Give an address with the alignment that the tensor would have."""
        return self._address

    def ptr_range(self) -> int:
        """Give the bytes of the whole memory: AMD's compiler uses 32-bit offsets below 2 GiB."""
        return self._bytes


class CompileFailed(Exception):
    """A kernel of the launch does not compile; the cause says why."""


class InputsFailed(Exception):
    """The arguments of a launch cannot be made without memory; the cause says why."""


class OutOfResources(Exception):
    """A kernel needs more than its target has. Triton sees it only when a GPU loads the kernel."""


def run(
    launch: Callable[..., object], target: Target, inputs: Callable[[], tuple[Any, ...]] | None = None
) -> list[Any]:
    """Run a launcher and give what it would have launched, compiled, in order.

    Args:
        launch: calls the launcher.
        target: the GPU that it is to run on.
        inputs: gives the arguments of ``launch``. Kernels that it launches are left out.

    Raises:
        CompileFailed: a kernel does not compile.
        InputsFailed: there are no arguments to launch with.
        Exception: whatever the launcher itself raises.
    """
    compiled: list[Any] = []
    _run(launch, target, inputs, _compiler(compiled, target))
    return compiled


def keys(launch: Callable[..., object], target: Target, inputs: Callable[[], tuple[Any, ...]]) -> list[str]:
    """Run a launcher and compile what it would have launched into Triton's cache, where a real launch looks for it.

    Args:
        launch: calls the launcher.
        target: the GPU that it is to run on.
        inputs: gives the arguments of ``launch``. Kernels that it launches are left out.

    Returns:
        The keys of the compiled kernels, in order: what Triton calls the hash of a kernel.

    Raises:
        InputsFailed: there are no arguments to launch with.
        Exception: whatever the compiler or the launcher itself raises.
    """
    found: list[str] = []
    original = JITFunction.run

    def compile_as_launched(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        # The key stays Triton's own: a completed one is looked up by nobody who launches.
        kernel = _without_launch(original, self, args, grid, kwargs)
        found.append(kernel.hash)
        return kernel

    _run(launch, target, inputs, compile_as_launched)
    return found


def forms(
    launch: Callable[..., object], target: Target, inputs: Callable[[], tuple[Any, ...]] | None = None
) -> list[Form]:
    """Run a launcher and give the forms in which it would have launched its kernels, in order; compile nothing.

    Args:
        launch: calls the launcher.
        target: the GPU that it is to run on.
        inputs: gives the arguments of ``launch``. Kernels that it launches are left out.

    Raises:
        InputsFailed: there are no arguments to launch with.
        Exception: whatever the launcher itself raises.
    """
    found: list[Form] = []

    def note(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        named = {name: _pointers(value) for name, value in kwargs.items()}
        found.append(form_of_launch(self, tuple(map(_pointers, args)), named))

    _run(launch, target, inputs, note)
    return found


def _run(
    launch: Callable[..., object],
    target: Target,
    inputs: Callable[[], tuple[Any, ...]] | None,
    instead: Callable[..., Any],
) -> None:
    """Run a launcher, and do something else where it launches a kernel."""
    with pretend.gpu(target), _first_configuration(), backward.in_python(), pretend.NoMemory():
        with _launched_by(lambda kernel, *args, **kwargs: None):
            arguments = _made(inputs) if inputs is not None else ()
        with _launched_by(instead):
            launch(*arguments)


def _made(inputs: Callable[[], tuple[Any, ...]]) -> tuple[Any, ...]:
    try:
        return inputs()
    except PerfgateError:
        raise
    except Exception as error:
        raise InputsFailed from error


@contextlib.contextmanager
def _launched_by(run: Callable[..., Any]) -> Iterator[None]:
    """Do something else where a kernel is launched."""
    with mock.patch.object(JITFunction, "run", run):
        yield


def _compiler(compiled: list[Any], target: Target) -> Callable[..., Any]:
    """Give what compiles a kernel instead of launching it, and adds it to the list."""
    original = JITFunction.run

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        try:
            cache_key.complete(self)
            kernel = _without_launch(original, self, args, grid, kwargs)
            _check_resources(kernel, target)
        except Exception as error:
            raise CompileFailed(self.__name__) from error
        compiled.append(kernel)
        return kernel

    return compile_only


def _without_launch(run: Callable[..., Any], kernel: Any, args: Any, grid: Any, kwargs: dict[str, Any]) -> Any:
    named = {name: _pointers(value) for name, value in kwargs.items()}
    return run(kernel, *map(_pointers, args), grid=grid, warmup=True, **named)


def _pointers(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return Pointer(value)
    if isinstance(value, tuple):
        parts = [_pointers(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


def _check_resources(kernel: Any, target: Target) -> None:
    shared, threads = kernel.metadata.shared, kernel.metadata.num_warps * target.lanes
    if shared > target.limits.shared_block:
        raise OutOfResources(f"needs {shared} bytes of shared memory, {target.name} has {target.limits.shared_block}")
    if threads > 1024:
        raise OutOfResources(f"needs {threads} threads in a block, {target.name} has 1024")


@contextlib.contextmanager
def _first_configuration() -> Iterator[None]:
    """Let autotuners take their first configuration, without timing and without storing what was not timed."""
    numbers = itertools.count(1)

    def take_time(self: Any, *args: Any, config: Any, **meta: Any) -> list[float]:
        return [float(next(numbers))] * 3

    def without_disk(self: Any, key: Any, configs: Any, bench: Callable[[], None]) -> bool:
        bench()
        return False

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(Autotuner, "_bench", take_time))
        stack.enter_context(mock.patch.object(Autotuner, "check_disk_cache", without_disk))
        yield
