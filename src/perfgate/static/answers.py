"""What does one compilation answer? What travels between this process and the ones that compile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from perfgate.static.figures import Figures, Form, from_json

#: What is asked for in place of code where nothing is to be compiled: in which forms all launches launch their kernels.
FORMS = "forms"
#: Asked for without a launch: the names of the launches in all lists of the module.
EVERY = "every"
#: Asked for with a candidate (see ``candidate``): to be compiled into Triton's cache, as it will be launched.
CACHED = "cached"
#: "compiled"; "unsupported": the launcher refuses this target; "compile_error"; "failed": the launch itself is broken;
#: "no_target": the compiler at hand does not know the target; "no_compiler": torch or triton is missing;
#: "crashed": the compiler ended the process.
Status = Literal["compiled", "unsupported", "compile_error", "failed", "no_target", "no_compiler", "crashed"]


@dataclass(frozen=True)
class Question:
    """One launch to compile for one target.

    Attributes:
        place: module and name of the launches, e.g. ``kernels.rows.specialisations:LAUNCHES``.
        launch: name of the launch; empty to ask for the names of all.
        target: name of the target.
        code: also give the code: "sass", "ptx", "ttir", "ttgir", "llir" or "amdgcn". Without a launch ``FORMS``: the
            forms of all launches of the module, or ``EVERY``: the names of them all. ``CACHED``: ``place`` and
            ``launch`` are those of a candidate.
    """

    place: str
    launch: str
    target: str
    code: str = ""


@dataclass(frozen=True)
class Answer:
    """What came of it.

    Attributes:
        status: how it ended.
        reason: why it is not "compiled", in one line.
        detail: the whole error.
        kernels: the kernels that the launch launched, in order; each compiled form once.
        launches: how many times it launched one.
        environment: the compiler, and settings of it that are not the default.
        code: by kernel, where it was asked for; by launch (and empty), where the names were asked for; by launch its
            place, where the names of all lists were asked for; by key of Triton's cache (and empty), for a candidate.
        tuned: where the names or forms were asked for, the target of each launch with a tuned configuration, by its
            name.
        forms: where they were asked for, by launch the forms in which it launches kernels.
        passed_over: the kernels that do not compile, each with what the compiler says, where the launch caught that and
            went on.
        too_large: likewise those that the target has no room for.
        operators: torch's operators that run on the device beside the kernels, in words.
        operator_calls: how many there are.
        allocated: bytes of the tensors that come into being meanwhile.
    """

    status: Status
    reason: str = ""
    detail: str = ""
    kernels: tuple[Figures, ...] = ()
    launches: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)
    tuned: Mapping[str, str] = field(default_factory=dict)
    forms: Mapping[str, tuple[Form, ...]] = field(default_factory=dict)
    passed_over: tuple[str, ...] = ()
    too_large: tuple[str, ...] = ()
    operators: str = ""
    operator_calls: int = 0
    allocated: int = 0

    def names(self, target: str) -> list[str]:
        """List the launches to compile for a target, where the names were asked for."""
        return [*self.code, *(name for name, only in self.tuned.items() if only == target)]


def answer_from_json(data: Mapping[str, Any]) -> Answer:
    """Turn what came over the pipe into an answer."""
    forms = {launch: tuple(Form(**form) for form in found) for launch, found in data.get("forms", {}).items()}
    kernels = tuple(map(from_json, data.get("kernels", ())))
    told = {name: tuple(data.get(name, ())) for name in ("passed_over", "too_large")}
    return Answer(**{**data, "kernels": kernels, "forms": forms, **told})
