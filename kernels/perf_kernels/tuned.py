"""Which launch was found fastest on this GPU? What ``perfgate tune`` stored, looked up by launchers.

A tuned configuration holds for the hardware key that it was found on. On any other GPU, in Triton's interpreter,
without perfgate, and for kernels that are compiled ahead of time (the active driver is then a pretended one, whatever
GPU this machine has) a launcher takes its fallback: what the static gate compiles does not depend on the machine.

One that was tuned with another torch or triton is launched all the same: it is right, and may no longer be the
fastest. What is noted with a measurement says so.

The files lie in the repository's ``baselines``, or in the folder that PERFGATE_BASELINES names when a process launches
its first kernel. One that cannot be used is told once, and the fallback taken.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from triton.backends.driver import GPUDriver
from triton.runtime import driver

from perf_kernels.target import INTERPRETED

try:
    from perfgate.measure.notes import note
except ImportError:

    def note(name: str, value: str) -> None:
        """Drop it: nobody measures."""


#: Numbers of rows up to which shapes are tuned together, ascending; the last also stands for all above it.
ROWS = (128, 512, 1024, 2048, 4096, 16384)

Config = TypeVar("Config")


@dataclasses.dataclass(frozen=True)
class Found:
    """What a search found fastest.

    Attributes:
        fields: of the configuration; None where nothing was faster than the default.
        with_software: what it was tuned with, where that is not what runs now.
    """

    fields: Mapping[str, Any] | None
    with_software: str = ""


class UnusableTuning(UserWarning):
    """A stored configuration cannot be used; its kernel launches the fallback."""


def rows_class(rows: int, classes: Sequence[int] = ROWS) -> int:
    """Give the number of rows that stands for ``rows`` in the name of a class of shapes."""
    return next((most for most in classes if rows <= most), classes[-1])


def lookup(kernel: str, shape_class: str) -> Mapping[str, Any] | None:
    """Give the fields of the tuned configuration for the current device, or None.

    Args:
        kernel: name of the kernel's folder.
        shape_class: name of the class of shapes, as the kernel's ``tuning`` module gives it.
    """
    active, device = _place()
    found = (_stored(active, device, kernel) or {}).get(shape_class)
    return found.fields if found is not None else None


class Chooser(Generic[Config]):
    """Chooses how a kernel is launched, and notes what it chose for the case that is being timed.

    Args:
        kernel: name of the kernel's folder.
        fallback: gives the configuration, a frozen dataclass, without tuning.
        shape_class: names the class of shapes. Both take the arguments that the chooser is called with.
    """

    def __init__(self, kernel: str, fallback: Callable[..., Config], shape_class: Callable[..., str]) -> None:
        self.kernel = kernel
        self.fallback = fallback
        self.shape_class = shape_class
        self._known = functools.lru_cache(maxsize=4096)(self._choose)

    def __call__(self, *shape: Hashable) -> Config:
        """Give the configuration for a shape on the current device."""
        config, text = self._known(*_place(), *shape)
        note(self.kernel, text)
        return config

    def _choose(self, active: Any, device: int, *shape: Hashable) -> tuple[Config, str]:
        fallback = self.fallback(*shape)
        stored = _stored(active, device, self.kernel)
        if stored is None:
            return fallback, f"{_text(fallback)} (default)"
        found = stored.get(self.shape_class(*shape))
        if found is None:
            return fallback, f"{_text(fallback)} (default: not searched)"
        software = f" with {found.with_software}" if found.with_software else ""
        fields = found.fields
        if fields is None:
            return fallback, f"{_text(fallback)} (default: none faster found{software})"
        wanted = {name: type(value) for name, value in dataclasses.asdict(fallback).items()}
        if {name: type(value) for name, value in fields.items()} != wanted:
            _warn(f"the tuned configuration {dict(fields)} of {self.shape_class(*shape)} is not one of this version",
                  self.kernel)  # fmt: skip
            return fallback, f"{_text(fallback)} (default)"
        config = type(fallback)(**fields)
        return config, f"{_text(config)} (tuned{software})"

    def forget(self) -> None:
        """Read the files again at the next launch."""
        self._known.cache_clear()
        _stored.cache_clear()


def _place() -> tuple[Any, int]:
    """Give Triton's driver and the current device: what a choice holds for."""
    if INTERPRETED:
        return None, 0
    return driver.active, driver.active.get_current_device()


@functools.lru_cache(maxsize=256)
def _stored(active: Any, device: int, kernel: str) -> Mapping[str, Found] | None:
    """Give what was found for a kernel by class of shapes; None where nothing can be known, as without a GPU."""
    if not isinstance(active, GPUDriver):
        return None
    try:
        from perfgate.errors import PerfgateError
        from perfgate.tune import store
    except ImportError:
        return None
    try:
        key = store.device_key(device)
        if key is None:
            return None
        stored = store.load(_folder(), key, kernel)
        return {name: Found(entry.config, store.other_software(entry, device)) for name, entry in stored.items()}
    except PerfgateError as error:
        _warn(str(error), kernel)
        return None


def _folder() -> Path:
    named = os.environ.get("PERFGATE_BASELINES")
    return Path(named) if named else Path(__file__).resolve().parents[2] / "baselines"


def _warn(problem: str, kernel: str) -> None:
    warnings.warn(f"{kernel} launches its default configuration: {problem}", UnusableTuning, stacklevel=2)


def _text(config: Any) -> str:
    return " ".join(f"{name}={value}" for name, value in dataclasses.asdict(config).items())
