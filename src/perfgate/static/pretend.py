"""How is a launcher told that it runs on a GPU that is not there? Answers for torch and triton. Heavy: imports both."""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import triton
from torch._library.custom_ops import OPDEFS
from torch._subclasses import fake_tensor
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from perfgate.static.targets import TARGETS, Target
from perfgate.static.torch_work import TorchWork

#: torch's table of what switches between devices, by the number of the kind of device.
_GUARDS = "_ZN3c104impl26device_guard_impl_registryE"
_CUDA, _META = (int(getattr(torch._C._autograd.DeviceType, name).value) for name in ("CUDA", "Meta"))


class PretendedDriver:
    """What Triton asks about the current device.

    Args:
        target: the GPU that it is to be.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.utils = SimpleNamespace(get_device_properties=lambda device: _triton_properties(target))

    def get_current_target(self) -> GPUTarget:
        """Give what is compiled for."""
        return GPUTarget(self.target.backend, self.target.arch, self.target.lanes)

    def get_current_device(self) -> int:
        """Give a number that no other target has: Triton remembers compiled kernels by it."""
        return list(TARGETS).index(self.target.name)

    def get_current_stream(self, device: int) -> int:
        """Give the default stream."""
        return 0

    def get_active_torch_device(self) -> torch.device:
        """Give the device as torch names it."""
        return torch.device("cuda", 0)

    def get_device_interface(self) -> Any:
        """Give torch's module for the device."""
        return torch.cuda


class NoMemory(fake_tensor.FakeTensorMode):  # type: ignore[misc]
    """Tensors without memory, among which operators written in Python run as they do on a GPU.

    Under plain fake tensors an operator of ``torch.library`` only says what its result looks like, and launches
    nothing. A tensor that was made before, with memory, is taken for one without.
    """

    #: Whatever a launcher is told, there is no device to initialise.
    avoid_device_init = True

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self._counted: TorchWork | None = None

    @contextlib.contextmanager
    def counting(self) -> Iterator[TorchWork]:
        """Count what torch does in the block."""
        work = self._counted = TorchWork()
        try:
            yield work
        finally:
            self._counted = None

    def __deepcopy__(self, memo: object) -> NoMemory:
        """Give itself: a copied tensor is one among the others."""
        return self

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator that was defined in Python; leave all others to fake tensors."""
        # ``x.to("cuda")`` asks for the current GPU what stands in for its guard, which is of "meta".
        if func is torch.ops.aten._to_copy.default and torch.device("meta") == (kwargs or {}).get("device"):
            kwargs = {**kwargs, "device": torch.device("cuda", 0)}
        # Fake tensors do not know it, and where there is no memory, none is pinned.
        if func is torch.ops.aten._pin_memory.default:
            func, args, kwargs = torch.ops.aten.clone.default, args[:1], {}
        definition = OPDEFS.get(func._schema.name) if isinstance(func, torch._ops.OpOverload) else None
        # torch's own primitives are such operators too.
        if definition is None or func.namespace == "prims":
            return self._counting_once(func, types, args, kwargs)
        implementations = definition._backend_fns
        implementation = implementations.get("cuda", implementations.get(None, definition._init_fn))
        with self:
            return implementation(*args, **(kwargs or {}))

    def _counting_once(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """Leave an operator to fake tensors, which may take it apart: those parts do not count."""
        work, self._counted = self._counted, None
        try:
            results = super().__torch_dispatch__(func, types, args, kwargs)
        finally:
            self._counted = work
        if work is not None:
            work.add(func, (args, kwargs), results)
        return results


#: Gives the one of this process: what a launcher keeps, a table say, its next launch goes on using.
no_memory = functools.cache(NoMemory)


class Generator(torch.Generator):  # type: ignore[misc]
    """A source of random numbers for any device: where there is no memory, none are drawn."""

    def __new__(cls, device: Any = None) -> Any:
        """Make one of the CPU, whatever device is asked for."""
        return super().__new__(cls, "cpu")


def _set_data(self: fake_tensor.FakeTensor, value: torch.Tensor) -> None:
    torch.Tensor.data.__set__(self, value)
    # What says where a tensor without memory is stays what it was.
    self.fake_device = value.device


#: ``Tensor.data`` of a tensor without memory.
_DATA = property(torch.Tensor.data.__get__, _set_data)


def convert_module(self: torch.nn.Module, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
    """Move or convert a module, as ``Module._apply``, which cannot where tensors have no memory.

    A parameter remains the same, for whoever has it: a module that shares it, an optimizer. One of "meta" cannot, as in
    torch, and a new one takes its place; nor one with memory, from before the launch: that of all modules that share it
    is then one without, and an optimizer's stays what it was.
    """
    if recurse:
        for module in self.children():
            module._apply(fn)
    with torch.no_grad():
        for name, parameter in self._parameters.items():
            if parameter is None:
                continue
            if not isinstance(parameter, fake_tensor.FakeTensor):
                parameter = self._parameters[name] = no_memory().from_tensor(parameter)
            converted = fn(parameter)
            gradient, parameter.grad = parameter.grad, None
            if torch._has_compatible_shallow_copy_type(parameter, converted):
                parameter.data = converted
            else:
                self._parameters[name] = torch.nn.Parameter(converted, parameter.requires_grad)
            if gradient is not None:
                self._parameters[name].grad = fn(gradient)
        for name, buffer in self._buffers.items():
            if buffer is not None:
                self._buffers[name] = fn(buffer)
    return self


def allow_gpu_tensors() -> None:
    """Let a build of torch for CPUs handle tensors on a GPU as one for GPUs does that finds none.

    Copying and indexing switch to the tensor's device, and what does that is missing from a build for CPUs. One for
    GPUs puts something in its place that does nothing (``torch._C._ensureCUDADeviceGuardSet``), and so does this, with
    what tensors without memory ("meta") have there. Where torch has no such table, everything stays as it is: launchers
    that copy or index cannot be run then.
    """
    library = Path(torch.__file__).parent / "lib" / "libc10.so"
    with contextlib.suppress(OSError, ValueError):
        table = (ctypes.c_void_p * (_META + 1)).in_dll(ctypes.CDLL(str(library)), _GUARDS)
        table[_CUDA] = table[_CUDA] or table[_META]


@contextlib.contextmanager
def gpu(target: Target) -> Iterator[None]:
    """Let torch and triton believe that the current device is one of this target."""
    properties = _torch_properties(target)
    answers: dict[str, Any] = {
        "current_device": lambda: 0,
        "device_count": lambda: 1,
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "get_device_capability": lambda device=None: target.capability,
        "get_device_properties": lambda device=None: properties,
        "get_device_name": lambda device=None: target.model,
        "set_device": lambda device: None,
        "synchronize": lambda device=None: None,
        "_lazy_init": lambda: None,
        "_exchange_device": lambda device: 0,
        "_maybe_exchange_device": lambda device: 0,
        "is_current_stream_capturing": lambda: False,
        "current_stream": lambda device=None: SimpleNamespace(cuda_stream=0, device_index=0, synchronize=lambda: None),
    }
    before = driver._active
    with contextlib.ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, answer))
        if hasattr(fake_tensor, "init_gpu_context"):
            stack.enter_context(mock.patch.object(fake_tensor, "init_gpu_context"))
        versions = (None, "6.4.0") if target.backend == "hip" else ("12.8", None)
        for name, version in zip(("cuda", "hip"), versions, strict=True):
            stack.enter_context(mock.patch.object(torch.version, name, version))
        stack.enter_context(mock.patch.object(torch, "Generator", Generator))
        stack.enter_context(mock.patch.object(fake_tensor.FakeTensor, "data", _DATA, create=True))
        stack.enter_context(mock.patch.object(torch.nn.Module, "_apply", convert_module))
        driver.set_active(PretendedDriver(target))
        try:
            yield
        finally:
            driver._active = before


def _torch_properties(target: Target) -> SimpleNamespace:
    major, minor = target.capability
    return SimpleNamespace(
        name=target.model,
        major=major,
        minor=minor,
        multi_processor_count=target.multiprocessors,
        total_memory=target.memory_bytes,
        warp_size=target.lanes,
        max_threads_per_multi_processor=target.limits.schedulers * target.limits.warps * target.lanes,
        max_threads_per_block=1024,
        regs_per_multiprocessor=target.limits.schedulers * target.limits.registers * target.lanes,
        shared_memory_per_block=min(target.limits.shared_block, 48 << 10),
        shared_memory_per_block_optin=target.limits.shared_block,
        shared_memory_per_multiprocessor=target.limits.shared,
        L2_cache_size=target.l2_bytes,
        gcnArchName=str(target.arch),
        is_integrated=False,
        is_multi_gpu_board=False,
    )


def _triton_properties(target: Target) -> dict[str, int]:
    return {
        "max_shared_mem": target.limits.shared_block,
        "max_num_regs": target.limits.schedulers * target.limits.registers * target.lanes,
        "multiprocessor_count": target.multiprocessors,
        "warpSize": target.lanes,
        "sm_clock_rate": 1_500_000,
        "mem_clock_rate": 2_000_000,
        "mem_bus_width": 4096,
    }


@triton.jit  # type: ignore[untyped-decorator]
def _probe(x_ptr) -> None:  # type: ignore[no-untyped-def]  # Triton's arguments have no Python types
    triton.language.store(x_ptr, 1)


def supported(target: Target) -> str:
    """Say why the compiler at hand cannot compile for a target; empty when it can."""
    from triton.compiler import ASTSource

    try:
        source = ASTSource(fn=_probe, signature={"x_ptr": "*i32"}, constexprs={})
        triton.compile(source, target=GPUTarget(target.backend, target.arch, target.lanes))
    # Whatever goes wrong with a kernel that stores one number is the compiler's own.
    except Exception as error:
        text = str(error).strip().splitlines()
        return f"triton {triton.__version__} does not compile for {target.name}: {text[0] if text else error!r}"
    return ""
