"""Which launches do stored tuned configurations make? What runs where ``perfgate tune`` ran, compiled without a GPU.

``baselines/<hardware key>/tuning/<kernel>.json`` holds a configuration for each class of shapes, and the ``TUNABLE``
beside a kernel's launches knows how a class is launched with it. Both together are one more launch, for the target of
that hardware alone: ``<class>-tuned-<hardware key>``.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfgate.errors import SettingError
from perfgate.static import find
from perfgate.static.targets import of_key
from perfgate.tune import store
from perfgate.tune.command import VARIABLE
from perfgate.tune.tunable import MODULE, NAME, Tunable, like

_FOLDER = "baselines"


@dataclass(frozen=True)
class Launch:
    """A launch in two steps.

    Attributes:
        inputs: gives the arguments of the call. What it launches on the way is not part of the launch.
        call: takes them, and launches the kernels.
    """

    inputs: Callable[[], tuple[Any, ...]]
    call: Callable[..., object]


@dataclass(frozen=True)
class _Stored:
    """One stored configuration.

    Attributes:
        key: the hardware key that it was tuned on.
        target: name of the target of that hardware.
        shape_class: name of the class of shapes.
        config: its fields.
    """

    key: str
    target: str
    shape_class: str
    config: dict[str, Any]

    @property
    def name(self) -> str:
        """Give the name of the launch."""
        return f"{self.shape_class}-tuned-{self.key}"


def names(place: str, *, gated: bool = False) -> dict[str, str]:
    """Give the target of each launch with a tuned configuration, by its name.

    Args:
        place: module and name of the declared launches.
        gated: leave out those that the kernel does not want to be compiled by the static gate.

    Raises:
        BaselineError: a file of tuned configurations cannot be read.
    """
    tunable = _tunable(place)
    if tunable is None:
        return {}
    stored = _stored(tunable.kernel)
    return {each.name: each.target for each in stored if not gated or tunable.gated(each.shape_class)}


def launch_of(place: str, name: str) -> Launch | None:
    """Give a launch by its name, for the GPU that is pretended when it is launched; None when there is none.

    Raises:
        BaselineError: a file of tuned configurations cannot be read.
    """
    tunable = _tunable(place)
    if tunable is None:
        return None
    found = next((each for each in _stored(tunable.kernel) if each.name == name), None)
    return Launch(lambda: _arguments(tunable, found), tunable.launch) if found is not None else None


def _arguments(tunable: Tunable, stored: _Stored) -> tuple[Any, ...]:
    """Give what ``tunable.launch`` takes: the stored configuration, and inputs of its class.

    Raises:
        SettingError: the kernel no longer has such shapes or configurations.
    """
    where = f"{_FOLDER}/{stored.key}/tuning/{tunable.kernel}.json: {stored.shape_class}"
    again = f"tune again on that GPU: perfgate tune {tunable.kernel}, or delete the entry"
    shape = tunable.classes().get(stored.shape_class)
    if shape is None:
        raise SettingError(f"{where}: the kernel's {MODULE}.py has no shapes of this class", hint=again)
    config = like(tunable.default(*shape), stored.config)
    if config is None:
        raise SettingError(f"{where}: the launcher has no such configuration: {stored.config}", hint=again)
    return (config, *tunable.inputs(*shape))


def _tunable(place: str) -> Tunable | None:
    """Import what can be tuned beside declared launches; None where there is nothing."""
    module, _, name = place.partition(":")
    if name not in ("", find.LAUNCHES):
        return None
    package = module.rpartition(".")[0]
    beside = f"{package}.{MODULE}" if package else MODULE
    if importlib.util.find_spec(beside) is None:
        return None
    found = getattr(importlib.import_module(beside), NAME, None)
    return found if isinstance(found, Tunable) else None


def _stored(kernel: str) -> Iterator[_Stored]:
    """Give the stored configurations of a kernel; classes that are launched with the default have none."""
    folder = _folder()
    if folder is None:
        return
    for path in sorted(folder.iterdir()):
        target = of_key(path.name)
        if target is None:
            continue
        for shape_class, entry in store.load(folder, path.name, kernel).items():
            if entry.config is not None:
                yield _Stored(path.name, target.name, shape_class, dict(entry.config))


def _folder() -> Path | None:
    """Give the folder of all baselines: the one that launchers are told, or the next one upwards from here."""
    if named := os.environ.get(VARIABLE):
        folders = [Path(named)]
    else:
        folders = [folder / _FOLDER for folder in (Path.cwd(), *Path.cwd().parents)]
    return next((folder for folder in folders if folder.is_dir()), None)
