"""Do tests launch kernels in forms that the static gate never compiles? Told for each kernel, and fails nothing.

Tests of correctness launch ragged sizes and strides on purpose, and kernels are compiled with other hints for them.
What of it no declared launch has is told, so that a launch that users make and the gate never sees does not go
unnoticed. Watched are launches on a GPU and in Triton's interpreter, which compiles nothing: there a form is what the
arguments of the launch would be compiled as.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from unittest import mock

from perfgate.static.answers import Question
from perfgate.static.figures import Form
from perfgate.static.launched import declared_in, form_text
from perfgate.static.pool import Pool

#: Values of an argument that are told one by one.
_SHOWN = 4


@contextlib.contextmanager
def watched() -> Iterator[dict[str, Form]]:
    """Collect the forms of all kernels that are launched inside of the block, by their text and the kernel's name."""
    found: dict[str, Form] = {}
    with contextlib.ExitStack() as stack:
        for module, name, form in (
            ("triton.runtime.jit", "JITFunction", _compiled_form),
            ("triton.runtime.interpreter", "InterpretedFunction", interpreted_form),
        ):
            if module in sys.modules:
                kind = getattr(sys.modules[module], name)
                stack.enter_context(mock.patch.object(kind, "run", _watching(kind.run, form, found)))
        yield found


def _watching(original: Callable[..., Any], form: Callable[..., Form | None], found: dict[str, Form]) -> Any:
    """Give what launches as before, and notes the form."""
    seen: dict[int, Any] = {}

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        kernel = original(self, *args, grid=grid, warmup=warmup, **kwargs)
        if warmup or id(kernel) in seen:
            return kernel
        if kernel is not None:
            # Kept, so that no other one gets its number.
            seen[id(kernel)] = kernel
        # What cannot be described is no reason to fail a test.
        with contextlib.suppress(Exception):
            launched = form(self, kernel, args, kwargs)
            if launched is not None:
                found[f"{launched.kernel} {form_text(launched)}"] = launched
        return kernel

    return run


def _compiled_form(_: Any, kernel: Any, args: Any, kwargs: Any) -> Form | None:
    """Give the form of a compiled kernel."""
    from perfgate.static.reading import form_of

    return form_of(kernel) if kernel is not None else None


def interpreted_form(function: Any, _: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Form:
    """Give the form in which an interpreted kernel would be compiled for these arguments, by Triton's own rules.

    Args:
        function: Triton's record of the kernel.
        args: of the launch.
        kwargs: of the launch; those that are no arguments of the kernel are options.
    """
    signature = inspect.signature(function.fn)
    options = {name: str(value) for name, value in kwargs.items() if name not in signature.parameters}
    bound = signature.bind(*args, **{name: value for name, value in kwargs.items() if name in signature.parameters})
    bound.apply_defaults()
    arguments = {}
    for name, value in bound.arguments.items():
        constant = "constexpr" in str(signature.parameters[name].annotation)
        plain = name in (function.kwargs.get("do_not_specialize") or ())
        arguments[name] = f"={getattr(value, 'value', value)}" if constant else _argument(value, specialize=not plain)
    return Form(f"{function.fn.__module__}.{function.fn.__name__}", arguments, options)


def _argument(value: Any, *, specialize: bool) -> str:
    from triton.backends.compiler import BaseBackend
    from triton.runtime.jit import native_specialize_impl

    kind, hint = native_specialize_impl(BaseBackend, value, False, specialize, True)
    if kind == "constexpr":
        return f"={value}"
    return f"{kind}:16" if hint == "D" else str(kind)


def never_compiled(forms: Iterable[Form], pool: Pool, target: str = "sm90", *, tuned: bool = False) -> list[str]:
    """Tell of each launched kernel what of its forms no declared launch has, a line a kernel.

    Only kernels are looked at whose package declares launches, and of those only where the pool was asked to compile
    all of them before: a run of a few tests compiles nothing for this alone. Other launches of the same module that it
    compiled count too.

    Args:
        forms: of launched kernels.
        pool: has compiled the declared launches.
        target: that they were compiled for.
        tuned: compile launches with tuned configurations too: they are launched here.
    """
    by_kernel: dict[str, list[Form]] = {}
    for form in forms:
        by_kernel.setdefault(form.kernel, []).append(form)
    lines = []
    for kernel, launched in sorted(by_kernel.items()):
        place = declared_in(kernel.rpartition(".")[0])
        declared = _declared(place, target, pool, tuned) if place is not None else None
        if place is None or declared is None:
            continue
        known = [form for form in declared if form.kernel == kernel]
        name = kernel.rpartition(".")[2]
        if not known:
            lines.append(f"{name}: tests launch it, and no launch of {place} does")
        elif unknown := _unknown(launched, known):
            lines.append(f"{name}: tests launch it in forms that no launch of {place} has: {unknown}")
    return lines


def _declared(place: str, target: str, pool: Pool, tuned: bool) -> list[Form] | None:
    """Give the forms that the launches of a module were compiled in; None where not all declared ones were."""
    known = pool.known()
    listed = next((answer for asked, answer in known.items() if asked.place == place and not asked.launch), None)
    if listed is None or any(Question(place, launch, target) not in known for launch in listed.code):
        return None
    if tuned:
        questions = [Question(place, launch, target) for launch in listed.names(target)]
        pool.submit(questions)
        known |= {question: pool.ask(question) for question in questions}
    return [
        kernel.form
        for asked, answer in known.items()
        if asked.place.partition(":")[0] == place and asked.target == target
        for kernel in answer.kernels
    ]


def _unknown(launched: Iterable[Form], known: Iterable[Form]) -> str:
    """Name the hints, constants and options that only tests launch with, e.g. ``width i32; num_warps 1, 2``."""
    declared: dict[str, set[str]] = {}
    for form in known:
        for name, value in {**form.arguments, **form.options}.items():
            declared.setdefault(name, set()).add(value)
    others: dict[str, dict[str, None]] = {}
    for form in launched:
        for name, value in {**form.arguments, **form.options}.items():
            if value not in declared.get(name, ()):
                others.setdefault(name, {})[value] = None
    return "; ".join(f"{name} {_shown(list(values))}" for name, values in others.items())


def _shown(values: list[str]) -> str:
    more = len(values) - _SHOWN
    return ", ".join(values[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
