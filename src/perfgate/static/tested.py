"""In which forms do tests launch kernels, and what does no declared launch have of that?

Watched are launches on a GPU and in Triton's interpreter, which compiles nothing: a form is what the arguments of a
launch would be compiled as. That of a declared launch is found in the same way, so nothing is compiled for it either.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

from perfgate.static.answers import FORMS, Answer, Question
from perfgate.static.figures import Form
from perfgate.static.launch_form import form_of_launch
from perfgate.static.launched import form_text

#: The type and hints, or the constant, that arguments and options are, by their names.
Values = Mapping[str, str]
#: What an argument or option is here, and in the declared launch; None where it is not given.
Change = tuple[str | None, str | None]


@dataclass(frozen=True)
class Nearest:
    """The declared launch that a launch resembles most.

    Attributes:
        launch: its name.
        changes: what is another here, by the name of the argument or option; empty where nothing is.
    """

    launch: str
    changes: Mapping[str, Change]


@contextlib.contextmanager
def watched() -> Iterator[dict[str, Form]]:
    """Collect the forms of all kernels that are launched inside of the block, by their text and the kernel's name.

    A process that has not imported triton launches none of its kernels.
    """
    found: dict[str, Form] = {}
    with contextlib.ExitStack() as stack:
        for module, name in (
            ("triton.runtime.jit", "JITFunction"),
            ("triton.runtime.interpreter", "InterpretedFunction"),
        ):
            if module in sys.modules:
                kind = getattr(sys.modules[module], name)
                stack.enter_context(mock.patch.object(kind, "run", _watching(kind.run, found)))
        yield found


def _watching(original: Callable[..., Any], found: dict[str, Form]) -> Any:
    """Give what launches as before, and notes the form: on a GPU once for each compiled kernel."""
    seen: dict[int, Any] = {}

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        kernel = original(self, *args, grid=grid, warmup=warmup, **kwargs)
        # Also of what is warmed up: the compiled kernel may be launched by itself.
        if id(kernel) in seen:
            return kernel
        if kernel is not None:
            # Kept, so that no other one gets its number.
            seen[id(kernel)] = kernel
        # What cannot be described is no reason to fail a test.
        with contextlib.suppress(Exception):
            launched = form_of_launch(self, args, kwargs)
            found[f"{launched.kernel} {form_text(launched)}"] = launched
        return kernel

    return run


def question(place: str, target: str) -> Question:
    """Ask for the forms of all launches of a module."""
    return Question(place, "", target, FORMS)


def declared(answer: Answer, kernel: str, *, tuned: bool) -> list[tuple[str, Values]]:
    """Give as what declared launches launch a kernel, each with the name of the launch.

    Args:
        answer: to :func:`question`.
        kernel: module and name.
        tuned: also what was tuned for the target's hardware.
    """
    return [
        (launch, values(form))
        for launch, forms in answer.forms.items()
        for form in forms
        if form.kernel == kernel and (tuned or launch not in answer.tuned)
    ]


def values(form: Form) -> Values:
    """Give the arguments and options of a form by their names."""
    return {**form.arguments, **form.options}


def nearest(here: Values, known: Sequence[tuple[str, Values]], allowed: Collection[str] = ()) -> Nearest:
    """Give the declared launch that a launch resembles most: that with the fewest changes which are not allowed.

    Args:
        here: of the launch.
        known: of the declared launches of its kernel; at least one.
        allowed: names of arguments and options that may be others.
    """
    found = [Nearest(launch, _changes(here, there)) for launch, there in known]
    return min(found, key=lambda each: (sum(name not in allowed for name in each.changes), len(each.changes)))


def _changes(here: Values, there: Values) -> dict[str, Change]:
    if here == there:
        return {}
    names = dict.fromkeys([*here, *there])
    return {name: (here.get(name), there.get(name)) for name in names if here.get(name) != there.get(name)}


def change_text(name: str, change: Change) -> str:
    """Write a change, e.g. ``x_ptr: *bf16, not aligned to 16 bytes (declared: aligned to 16 bytes)``."""
    here, there = map(words, change)
    same = here[0] == there[0]
    return f"{name}: {', '.join(filter(None, here))} (declared: {', '.join(filter(None, there[same:]))})"


def words(value: str | None) -> tuple[str, str]:
    """Give the type of an argument, or its value, and what Triton assumes of it."""
    if value is None:
        return "not given", ""
    if value.startswith("="):
        return f"constant {value[1:] or repr('')}", ""
    kind, _, hint = value.partition(":")
    if kind.startswith("*"):
        return kind, "aligned to 16 bytes" if hint else "not aligned to 16 bytes"
    if kind[:1] in "iu" and kind[1:].isdigit() and kind[1:] != "1":
        return kind, "a multiple of 16" if hint else "not a multiple of 16"
    return value, ""
