"""What becomes of a search that loses the device? A fresh process goes on without what lost it.

After an illegal access a process cannot use its device any more, whatever it launches next. The command line of the
process that follows names what is left to tune and what is left out, so that nothing has to be stored for it.
"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from perfgate.errors import PerfgateError, SettingError
from perfgate.model import Outcome
from perfgate.outcomes import classify
from perfgate.startup import module_command
from perfgate.tune.tunable import text_of

#: Between the name of a class and a configuration that is left out of it.
_BETWEEN = ":"


class DeviceLost(PerfgateError):
    """A configuration left the device in a state that this process cannot use.

    Args:
        kernel: the kernel's name.
        shape_class: the class of shapes that was being tuned.
        config: the configuration; None where the default itself lost the device, or what came before it.
        problem: what the device said.
    """

    def __init__(self, kernel: str, shape_class: str, config: Any, problem: str) -> None:
        which = "the default configuration" if config is None else text_of(config)
        super().__init__(
            f"{kernel}: {shape_class}: {which}: {problem}",
            "The device cannot be used by this process any more.",
            "mend the kernel, or leave the configuration out of its candidates",
        )
        self.shape_class = shape_class
        #: Whether the whole class has to be left out.
        self.of_class = config is None
        self.left_out = shape_class if self.of_class else f"{shape_class}{_BETWEEN}{which}"


def loses_device(error: BaseException) -> bool:
    """Whether the device answers nothing any more after an error."""
    return classify(error) in (Outcome.ILLEGAL_ACCESS, Outcome.CRASHED)


def parse(left_out: Iterable[str], classes: Iterable[str]) -> tuple[set[str], dict[str, set[str]]]:
    """Give the classes that are left out, and the configurations that are left out by class.

    Args:
        left_out: each ``CLASS`` or ``CLASS:CONFIGURATION``, a configuration as the command prints it.
        classes: the names of all classes.

    Raises:
        SettingError: there is no such class.
    """
    known = set(classes)
    whole: set[str] = set()
    configs: dict[str, set[str]] = {}
    for text in left_out:
        if text in known:
            whole.add(text)
            continue
        # Names of classes may hold what stands between: the longest one counts.
        name = max((each for each in known if text.startswith(f"{each}{_BETWEEN}")), key=len, default=None)
        if name is None:
            raise SettingError(
                f"--leave-out {text!r}: there is no class {text.partition(_BETWEEN)[0]!r}",
                hint="CLASS or CLASS:CONFIGURATION",
            )
        configs.setdefault(name, set()).add(text.removeprefix(f"{name}{_BETWEEN}"))
    return whole, configs


def arguments(
    kernel: str,
    classes: Iterable[str],
    left_out: Iterable[str],
    lost: Iterable[str],
    options: Mapping[str, float | Path | None],
) -> list[str]:
    """Give the command line that goes on.

    Args:
        kernel: as it was given.
        classes: the names of those that are left to tune.
        left_out: see `parse`.
        lost: the names of those among them that had to be left out, which is an error in the end.
        options: the other options by name; those that are None are not given.
    """
    given = [f"--{name}={value}" for name, value in options.items() if value is not None]
    shapes = [f"--shapes={glob.escape(name)}" for name in classes]
    return [
        *("tune", kernel, *given, *shapes),
        *(f"--leave-out={text}" for text in left_out),
        *(f"--lost={name}" for name in lost),
    ]


def go_on(command_line: list[str]) -> NoReturn:
    """Let a fresh process take this one's place; its device, threads and memory go with it."""
    sys.stdout.flush()
    sys.stderr.flush()
    command = [*module_command("perfgate"), *command_line]
    os.execv(command[0], command)
