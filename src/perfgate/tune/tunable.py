"""What does a kernel declare to be tuned? One ``TUNABLE`` in the ``tuning`` module of its folder."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfgate.errors import SettingError
from perfgate.static import find
from perfgate.tune.check import bit_equal

#: The module of a kernel's folder that declares what can be tuned, and the name in it.
MODULE, NAME = "tuning", "TUNABLE"

#: The arguments that a launcher chooses its configuration by: rows, width, type of the codes, say.
Shape = tuple[Any, ...]


@dataclass(frozen=True)
class Tunable:
    """What ``perfgate tune`` has to know of a kernel. A configuration is a frozen dataclass of numbers and flags.

    Attributes:
        kernel: the name that its launcher asks for, and of the file.
        shapes: gives one shape of each class.
        shape_class: names the class of a shape, from the shape's parts: shapes that share a configuration.
        default: gives the configuration that is launched without tuning.
        candidates: gives the configurations of the coarse step.
        neighbours: gives the configurations next to one, for the fine step; takes it and the shape's parts.
        inputs: gives the arguments of the call on the current device. The call must not write to them.
        launch: calls the kernel: takes a configuration and the inputs, gives its results.
        check: compares the default's results with another configuration's; gives what is wrong, or nothing.
        gated: tells from the name of a class whether the static gate compiles what is stored for it.
    """

    kernel: str
    shapes: Callable[[], Iterable[Shape]]
    shape_class: Callable[..., str]
    default: Callable[..., Any]
    candidates: Callable[..., Iterable[Any]]
    neighbours: Callable[..., Iterable[Any]]
    inputs: Callable[..., tuple[Any, ...]]
    launch: Callable[..., Any]
    check: Callable[[Any, Any], str] = bit_equal
    gated: Callable[[str], bool] = lambda shape_class: True

    def classes(self) -> dict[str, Shape]:
        """Give the shape of each class by the name of the class.

        Raises:
            SettingError: two shapes are of one class.
        """
        classes: dict[str, Shape] = {}
        for shape in self.shapes():
            name = self.shape_class(*shape)
            if name in classes:
                raise SettingError(
                    f"{self.kernel}: the shapes {classes[name]} and {shape} are both of the class {name}",
                    "The second would replace what was found for the first.",
                    "leave one of them out of the kernel's shapes",
                )
            classes[name] = shape
        return classes


def fields_of(config: Any) -> dict[str, Any]:
    """Give a configuration as it is stored."""
    return dataclasses.asdict(config)


def text_of(config: Any) -> str:
    """Write a configuration in one line, e.g. ``num_warps=8 tile=4096 one_pass=True``."""
    return " ".join(f"{name}={value}" for name, value in fields_of(config).items())


def like(default: Any, fields: Mapping[str, Any]) -> Any:
    """Give the configuration that was stored as these fields; None when it is none of the default's kind."""
    wanted = {name: type(value) for name, value in fields_of(default).items()}
    if {name: type(value) for name, value in fields.items()} != wanted:
        return None
    return type(default)(**fields)


def resolve(kernel: str, roots: Iterable[Path]) -> Tunable:
    """Import what can be tuned of a kernel.

    Args:
        kernel: the name of its folder, or an import path of its ``tuning`` module.
        roots: the folders to look in; they are on the path.

    Raises:
        SettingError: there is no such kernel, or it cannot be imported or tuned.
    """
    known = find.kernels(roots, MODULE)
    place = known.get(kernel, kernel if "." in kernel else "")
    if not place:
        names = ", ".join(sorted(known))
        raise SettingError(
            f"there is no kernel {kernel!r} to tune",
            f"Kernels are folders with a {MODULE}.py that holds a {NAME}, below pytest's pythonpath.",
            f"kernels are {names}" if names else f"give an import path: perfgate tune my_kernels.rows.{MODULE}",
        )
    try:
        found = getattr(importlib.import_module(place), NAME, None)
    except ImportError as error:
        raise SettingError(f"{place} cannot be imported: {error}", hint="pip install torch triton") from error
    if not isinstance(found, Tunable):
        raise SettingError(f"{place} has no {NAME}", hint=f"write {NAME} = perfgate.tune.tunable.Tunable(...) in it")
    return found
