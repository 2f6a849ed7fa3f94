"""What may a launcher ask of a compiled kernel that no GPU has loaded? Heavy: imports triton.

Triton's own softmax warms its kernel up, reads the registers that it takes, and launches what it got.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from unittest import mock

import torch
from triton.compiler.compiler import CompiledKernel
from triton.runtime import errors
from triton.tools.tensor_descriptor import TensorDescriptor

from perfgate.errors import PerfgateError
from perfgate.static import reading
from perfgate.static.targets import Target

#: Threads of a block.
_THREADS = 1024
#: Columns of a multiprocessor's tensor memory, of which Triton's own limit is made, too.
_TENSOR_MEMORY = 512
#: What Triton knows of a kernel that a GPU has loaded.
_TOLD = ("n_regs", "n_spills", "n_max_threads")
#: Set on a kernel that a GPU would have loaded.
_LOADED = "_perfgate_loaded"


class OutOfResources(errors.OutOfResources):  # type: ignore[misc]
    """A kernel needs more than its target has. Triton sees it only when a GPU loads the kernel.

    Args:
        required: how much it needs.
        limit: how much the target has.
        name: of what, in Triton's words.
        kernel: its name.
        text: the same, for a reader.
    """

    def __init__(self, required: int, limit: int, name: str, kernel: str = "", text: str = "") -> None:
        super().__init__(required, limit, name)
        self.kernel, self.text = kernel, text

    def __str__(self) -> str:
        return self.text or super().__str__()


def check_resources(kernel: Any, target: Target) -> None:
    """Check that a target has room for a kernel, as Triton does where it loads one.

    Raises:
        OutOfResources: it has not.
    """
    needs = {
        "shared memory": (kernel.metadata.shared, target.limits.shared_block, "bytes of shared memory"),
        "tensor memory": (getattr(kernel.metadata, "tmem_size", None) or 0, _TENSOR_MEMORY, "columns of tensor memory"),
        "threads": (kernel.metadata.num_warps * target.lanes, _THREADS, "threads in a block"),
    }
    for name, (required, limit, words) in needs.items():
        if required > limit:
            text = f"needs {required} {words}, {target.name} has {limit}"
            raise OutOfResources(required, limit, name, kernel.metadata.name, text)


def check_memory(kernel: str, arguments: Iterable[tuple[str, Any]]) -> None:
    """Check that a GPU can read the tensors that a kernel is launched on, as Triton does. It takes any for a warm-up.

    One of no elements has no address, wherever it is, and may stand for an argument that a kernel does not read.

    Args:
        kernel: its name.
        arguments: their names and values.

    Raises:
        PerfgateError: it cannot.
    """
    for name, value in itertools.chain.from_iterable(itertools.starmap(_tensors, arguments)):
        if value.device.type != "cuda" and value.numel():
            raise PerfgateError(
                f"{kernel} is launched with {name} on the {value.device.type.upper()}",
                "A GPU cannot read it: there Triton refuses the launch.",
                f'make {name} with device="cuda"',
            )


def check_grid(kernel: str, grid: Any, least: int = 1) -> None:
    """Check that a kernel can be launched on a grid, as Triton and its driver do.

    Args:
        kernel: its name.
        grid: what was given, or what a function of the kernel's arguments gives.
        least: how many numbers it must have.

    Raises:
        PerfgateError: it cannot.
    """
    # What a tensor holds is not known without memory.
    if not hasattr(grid, "__len__") or len(grid) < least or not all(hasattr(each, "__index__") for each in grid[:3]):
        numbers = "one to three integers" if least == 1 else "three integers"
        raise PerfgateError(
            f"{kernel} is launched on the grid {grid!r}",
            f"Triton takes a tuple of {numbers}, and launches nothing on this.",
            "write such as (triton.cdiv(n, TILE),)" if least == 1 else "write such as (triton.cdiv(n, TILE), 1, 1)",
        )


def _tensors(name: str, value: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Give the tensors of an argument with their names: itself, those of a tuple, or that of a tensor descriptor."""
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, TensorDescriptor):
        yield f"{name}.base", value.base
    elif isinstance(value, tuple):
        for place, part in enumerate(value):
            yield from _tensors(f"{name}[{place}]", part)


class Uncompiled:
    """What a launch gives where nothing is compiled: the kernel, compiled when something is asked of it.

    Args:
        compiled: gives the compiled kernel.
    """

    def __init__(self, compiled: Callable[[], Any]) -> None:
        self._compiled = functools.cache(compiled)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._compiled(), name)

    def __getitem__(self, grid: Any) -> Any:
        return self._compiled()[grid]


def loaded(kernel: Any) -> Any:
    """Note of a compiled kernel that a GPU would have loaded it, so that it tells its registers; give it back."""
    setattr(kernel, _LOADED, True)
    return kernel


@contextlib.contextmanager
def answered(target: Target, launched: Callable[[Any], None]) -> Iterator[None]:
    """Let compiled kernels tell their registers and spills without being loaded, and be launched by ``kernel[grid]``.

    They tell them where they do on a GPU: after ``_init_handles()``, or once they were launched. Inside, loading or
    launching raises ``OutOfResources`` where the target has no room, and ``kernel.run`` a ``PerfgateError``: it takes
    what only a driver can give.

    Args:
        target: the GPU that they are to run on.
        launched: is called with each that is launched.
    """

    def load(self: Any) -> None:
        check_resources(self, target)
        figures = reading.figures_of(self, target)
        # Triton calls so the words of a thread's local memory, whatever lies in it.
        self.n_regs, self.n_spills = figures.code.registers, figures.code.stack // 4
        self.n_max_threads = _THREADS

    def tell(self: Any, name: str) -> Any:
        if name not in _TOLD or _LOADED not in vars(self):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
        # Not where it was launched: few ask, and reading them takes long.
        load(self)
        return vars(self)[name]

    def launcher(self: Any, grid: Any) -> Callable[..., None]:
        check_resources(self, target)
        loaded(self)

        def launch(*args: Any, stream: object = None) -> None:
            check_grid(self.metadata.name, grid, least=3)
            check_memory(self.metadata.name, zip(self.src.fn.arg_names, args, strict=False))
            launched(self)

        return launch

    with (
        mock.patch.object(CompiledKernel, "_init_handles", load),
        mock.patch.object(CompiledKernel, "__getattr__", tell, create=True),
        mock.patch.object(CompiledKernel, "__getitem__", launcher),
        mock.patch.object(CompiledKernel, "run", property(_no_run)),
    ):
        yield


def _no_run(kernel: Any) -> Any:
    name = kernel.metadata.name
    raise PerfgateError(
        f"{name} is launched by the run(...) of its compiled kernel",
        "It takes the handles of a driver, and there is no GPU.",
        f"write kernel[grid](...), or declare a launch of {name}[grid](...)",
    )
