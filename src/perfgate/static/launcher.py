"""How is a launcher run where there is no GPU, and what becomes of what it raises? Heavy: imports torch and triton.

It runs as it is, on tensors without memory and for a GPU that is pretended; where it launches a kernel, something else
is called. An autotuned kernel is launched in the first configuration that its pruning leaves and its target has room
for: nothing can be timed here. A kernel whose choice matters should be given its configuration by the launcher.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from triton.runtime.autotuner import Autotuner
from triton.runtime.jit import JITFunction

from perfgate.errors import PerfgateError
from perfgate.static import backward, device_numbers, handles, launch_form, pretend, refusal
from perfgate.static.targets import Target
from perfgate.static.torch_work import TorchWork


class InputsFailed(Exception):
    """The arguments of a launch cannot be made without memory; the cause says why."""


class FailedAfterLaunch(Exception):
    """A launcher raises what could refuse its target after it launched kernels, or tried to; the cause is that.

    The kernels are named.
    """


def run(
    launch: Callable[..., object],
    target: Target,
    inputs: Callable[[], tuple[Any, ...]] | None,
    instead: Callable[..., Any],
    fits: Callable[[Callable[[], list[float]]], bool] = lambda attempt: True,
    launched: Callable[[Any], None] = lambda kernel: None,
) -> TorchWork:
    """Run a launcher, and do something else where it launches a kernel.

    Args:
        launch: calls the launcher.
        target: the GPU that it is to run on.
        inputs: gives the arguments of ``launch``.
        instead: is called in place of a kernel's ``run``.
        fits: launches an autotuned kernel in one configuration by calling its argument, and says whether that is taken.
        launched: is called with a compiled kernel that is launched by itself, after a warm-up.

    Returns:
        What torch did beside the kernels.

    Raises:
        InputsFailed: there are no arguments to launch with.
        FailedAfterLaunch: the launcher raises after a launch what could refuse the target before.
        PerfgateError: it raises what is no ``Exception``.
        Exception: whatever the launcher itself raises.
    """
    names: list[str] = []

    def note(self: Any, *args: Any, warmup: bool, **kwargs: Any) -> Any:
        if not warmup:
            handles.check_memory(self.__name__, [*zip(self.arg_names, args, strict=False), *kwargs.items()])
        # Before it is compiled: what a launcher makes of a kernel that does not compile refuses no target.
        names.append(self.__name__)
        kernel = instead(self, *args, warmup=warmup, **kwargs)
        if warmup:
            names.pop()
        else:
            grid = kwargs["grid"]
            if callable(grid):
                # What it raises is the launcher's.
                grid = grid(launch_form.arguments_of(self, args, kwargs))
            handles.check_grid(self.__name__, grid)
        return kernel

    def note_handle(kernel: Any) -> None:
        launched(kernel)
        names.append(kernel.metadata.name)

    with contextlib.ExitStack() as stack:
        stack.enter_context(pretend.gpu(target))
        stack.enter_context(_first_configuration(fits))
        stack.enter_context(backward.in_python())
        stack.enter_context(handles.answered(target, note_handle))
        stack.enter_context(pretend.no_memory())
        stack.enter_context(device_numbers.taken())
        with _launched_by(lambda kernel, *args, **kwargs: None):
            arguments = _made(inputs) if inputs is not None else ()
        with _launched_by(note), pretend.no_memory().counting() as work:
            try:
                launch(*arguments)
            except refusal.REFUSALS as error:
                if names:
                    raise FailedAfterLaunch(", ".join(dict.fromkeys(names))) from error
                raise
            except Exception:
                raise
            # What ends a process, or a test: SystemExit, pytest.skip().
            except BaseException as error:
                raise PerfgateError(
                    f"{type(error).__name__}: {error}",
                    "That ends more than the launch.",
                    "to refuse a target, raise NotImplementedError with a message",
                ) from error
    return work


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


@contextlib.contextmanager
def _first_configuration(fits: Callable[[Callable[[], list[float]]], bool]) -> Iterator[None]:
    """Let autotuners take their first configuration that fits, without timing, and store nothing."""
    original_run, original_bench = Autotuner.run, Autotuner._bench
    taken: list[Any] = []

    def run_anew(self: Any, *args: Any, **kwargs: Any) -> Any:
        # What fits one target need not fit another, and an autotuner remembers by its key alone.
        self.cache = {}
        return original_run(self, *args, **kwargs)

    def take_time(self: Any, *args: Any, config: Any, **meta: Any) -> list[float]:
        if taken and taken[-1] is self.nargs:
            return [2.0] * 3
        if fits(lambda: original_bench(self, *args, config=config, **meta)):
            taken.append(self.nargs)
            return [1.0] * 3
        return [math.inf] * 3

    def without_disk(self: Any, key: Any, configs: Any, bench: Callable[[], None]) -> bool:
        bench()
        return False

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(Autotuner, "run", run_anew))
        stack.enter_context(mock.patch.object(Autotuner, "_bench", take_time))
        stack.enter_context(mock.patch.object(Autotuner, "do_bench", property(lambda self: _called_once)))
        stack.enter_context(mock.patch.object(Autotuner, "check_disk_cache", without_disk))
        yield


def _called_once(call: Callable[[], object], quantiles: object) -> list[float]:
    call()
    return [0.0]
