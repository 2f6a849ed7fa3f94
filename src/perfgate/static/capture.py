"""Which kernels does a launcher launch, and in which compiled form? Heavy: imports torch and triton.

Its kernels are compiled where they would be launched, so types, hints, constants and options are the launcher's own,
not a copy of them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from triton.runtime.jit import JITFunction

from perfgate.static import cache_key, handles, launcher
from perfgate.static.figures import Form
from perfgate.static.launch_form import form_of_launch
from perfgate.static.targets import Target
from perfgate.static.torch_work import TorchWork

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


@dataclass(frozen=True)
class Failure:
    """A kernel that cannot be launched in one form.

    Attributes:
        kernel: its name.
        form: what it was to be compiled for; None where its arguments do not fit it.
        error: what the compiler raises, or ``OutOfResources``.
    """

    kernel: str
    form: Form | None
    error: Exception

    @property
    def too_large(self) -> bool:
        """Whether it compiles, and the target has no room for it."""
        return isinstance(self.error, handles.OutOfResources)

    def is_of(self, other: Failure) -> bool:
        """Tell whether another one is of the same kernel in the same form."""
        same = (self.kernel, self.form) == (other.kernel, other.form)
        return same and (self.form is not None or str(self.error) == str(other.error))


@dataclass(frozen=True)
class Captured:
    """What a launcher would have launched.

    Attributes:
        kernels: what it launches, compiled, in order; then what it only warms up, each once.
        passed_over: what could not be launched, each form once: the launcher went on.
        work: what torch does beside the kernels, in any call but the first.
    """

    kernels: Sequence[Any]
    passed_over: Sequence[Failure]
    work: TorchWork


def run(launch: Callable[..., object], target: Target, inputs: Callable[[], tuple[Any, ...]] | None = None) -> Captured:
    """Run a launcher, and compile what it would have launched.

    Args:
        launch: calls the launcher.
        target: the GPU that it is to run on.
        inputs: gives the arguments of ``launch``. Kernels that it launches are left out.

    Raises:
        CompileFailed: a kernel does not compile, or needs more than the target has.
        InputsFailed: there are no arguments to launch with.
        FailedAfterLaunch: the launcher raises after a launch what could refuse the target before.
        Exception: whatever the launcher itself raises.
    """
    compiled: list[Any] = []
    warmed: list[Any] = []
    failed: list[Failure] = []
    try:
        _run(launch, target, inputs, compiled, warmed, failed)
    except handles.OutOfResources as error:
        raise CompileFailed(error.kernel) from error
    except Exception as error:
        raised = error.__cause__ if isinstance(error, launcher.FailedAfterLaunch) else error
        for each in failed:
            if each.error is raised:
                raise CompileFailed(each.kernel) from raised
        raise
    launched = {kernel.hash for kernel in compiled}
    only_warmed = {kernel.hash: kernel for kernel in warmed if kernel.hash not in launched}
    passed_over = [each for number, each in enumerate(failed) if not any(map(each.is_of, failed[:number]))]
    # What a launcher makes in its first call and keeps, a table say, is not made by the others.
    work = _run(launch, target, inputs, [], [], [])
    return Captured([*compiled, *only_warmed.values()], passed_over, work)


def _run(
    launch: Callable[..., object],
    target: Target,
    inputs: Callable[[], tuple[Any, ...]] | None,
    compiled: list[Any],
    warmed: list[Any],
    failed: list[Failure],
) -> TorchWork:
    """Run a launcher once, and note what came of its kernels; give what torch did beside them."""

    def fits(attempt: Callable[[], list[float]]) -> bool:
        before, failed_before = len(compiled), len(failed)
        try:
            # Triton's time of one that does not compile, or that its GPU has no room for.
            return math.inf not in attempt()
        except Exception as error:
            if not any(each.error is error for each in failed[failed_before:]):
                raise
            # Triton goes on to no other: it is launched, and fails again.
            return True
        finally:
            del compiled[before:]
            del failed[failed_before:]

    return launcher.run(launch, target, inputs, _compiler(compiled, warmed, failed, target), fits, compiled.append)


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
        FailedAfterLaunch: the launcher raises after a launch what could refuse the target before.
        Exception: whatever the compiler or the launcher itself raises.
    """
    found: list[str] = []
    original = JITFunction.run

    def compile_as_launched(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        # The key stays Triton's own: a completed one is looked up by nobody who launches.
        kernel = handles.loaded(_without_launch(original, self, args, grid, kwargs))
        found.append(kernel.hash)
        return kernel

    launcher.run(launch, target, inputs, compile_as_launched)
    return found


def forms(
    launch: Callable[..., object], target: Target, inputs: Callable[[], tuple[Any, ...]] | None = None
) -> list[Form]:
    """Run a launcher and give the forms in which it would have launched its kernels, in order.

    Nothing is compiled but what it warms up, or asks something of.

    An autotuned kernel has those of all configurations that its pruning leaves: a GPU may find any of them the fastest.

    Args:
        launch: calls the launcher.
        target: the GPU that it is to run on.
        inputs: gives the arguments of ``launch``. Kernels that it launches are left out.

    Raises:
        InputsFailed: there are no arguments to launch with.
        FailedAfterLaunch: the launcher raises after a launch what could refuse the target before.
        Exception: whatever the launcher itself raises.
    """
    found: list[Form] = []
    original = JITFunction.run

    def note(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        named = {name: _pointers(value) for name, value in kwargs.items()}
        found.append(form_of_launch(self, tuple(map(_pointers, args)), named))
        compiled = functools.partial(_without_launch, original, self, args, grid, kwargs)
        # A launcher warms up to ask something of the kernel.
        return compiled() if warmup else handles.Uncompiled(lambda: handles.loaded(compiled()))

    def fits(attempt: Callable[[], list[float]]) -> bool:
        attempt()
        return False

    launcher.run(launch, target, inputs, note, fits)
    return found


def _compiler(compiled: list[Any], warmed: list[Any], failed: list[Failure], target: Target) -> Callable[..., Any]:
    """Give what compiles a kernel instead of launching it or warming it up, and notes what came of it."""
    original = JITFunction.run

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        try:
            cache_key.complete(self)
            kernel = _without_launch(original, self, args, grid, kwargs)
        except Exception as error:
            # Raised as it is: a launcher may catch what the compiler raises, and an autotuner does.
            failed.append(Failure(self.__name__, _form(self, args, kwargs), error))
            raise
        # A GPU loads what is launched, not what is warmed up. Launchers catch what it raises, and launch another form.
        if not warmup:
            try:
                handles.check_resources(kernel, target)
            except handles.OutOfResources as error:
                failed.append(Failure(self.__name__, _form(self, args, kwargs), error))
                raise
            handles.loaded(kernel)
        (warmed if warmup else compiled).append(kernel)
        return kernel

    return compile_only


def _form(kernel: Any, args: Any, kwargs: Mapping[str, Any]) -> Form | None:
    """Give the form that a launch asked for."""
    try:
        named = {name: _pointers(value) for name, value in kwargs.items()}
        return form_of_launch(kernel, tuple(map(_pointers, args)), named)
    # What arguments raise that do not fit the kernel is what it failed by.
    except Exception:
        return None


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
