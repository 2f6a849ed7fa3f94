"""What does a launch compile to? Answers questions about one target. Heavy: imports torch and triton."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import triton
from triton._C.libtriton import get_cache_invalidating_env_vars
from triton.backends.nvidia.compiler import get_ptxas
from triton.runtime.cache import triton_key

from perfgate.errors import PerfgateError, SettingError
from perfgate.static import candidate, capture, failures, launcher, nvidia, pretend, reading, refusal, tuned
from perfgate.static.answers import CACHED, EVERY, FORMS, Answer, Question
from perfgate.static.figures import Code, Form
from perfgate.static.find import LAUNCHES
from perfgate.static.targets import Target
from perfgate.static.torch_work import TorchWork

#: Settings of the compiler that change what it gives, and are not told by the compiler itself.
_SETTINGS = ("TRITON_DEFAULT_FP_FUSION",)


def answers(
    questions: Sequence[Question], target: Target, unsupported: str = "", tell: Callable[[], None] = lambda: None
) -> list[Answer]:
    """Answer some questions; what was compiled is read together, which is quicker by far.

    Args:
        questions: about one target.
        target: that target.
        unsupported: why the compiler at hand cannot compile for it.
        tell: called after each question whose launch is compiled.
    """
    done: list[Answer | _Compiled] = []
    for question in questions:
        if not question.launch and question.code == FORMS:
            done.append(_forms(question.place, target))
        elif not question.launch and question.code == EVERY:
            done.append(_list_every(question.place))
        elif not question.launch:
            done.append(_list(question.place))
        elif unsupported:
            done.append(Answer("no_target", unsupported))
        elif question.code == CACHED:
            done.append(_cached(question, target))
        else:
            done.append(_compile(question, target))
        tell()
    codes = _read([kernel for each in done if isinstance(each, _Compiled) for kernel in each.kernels])
    return [
        each if isinstance(each, Answer) else _told(each, question, target, codes)
        for question, each in zip(questions, done, strict=True)
    ]


def warm_up() -> None:
    """Do once what every process that compiles would do first."""
    pretend.allow_gpu_tensors()
    # The first tensor without memory imports a lot.
    with pretend.no_memory():
        torch.empty(1, device="meta")
    # Hashes the whole compiler, which takes a second.
    triton_key()


def _read(kernels: Sequence[Any]) -> Mapping[str, Code]:
    """Read the code of kernels, by their hashes; of none where it fails for one, which is then found one by one."""
    try:
        return reading.codes_of(kernels)
    except PerfgateError:
        return {}


def _launches(place: str) -> Mapping[str, Callable[[], object]]:
    """Import the launches of a place.

    Raises:
        SettingError: there are none.
        PerfgateError: the import raises what is no ``Exception``.
        Exception: whatever else it raises.
    """
    module, _, name = place.partition(":")
    found = getattr(_imported(module), name or LAUNCHES, None)
    if found is None:
        raise SettingError(f"{module} has no {name or LAUNCHES}")
    if not isinstance(found, Mapping):
        raise SettingError(f"{module}.{name or LAUNCHES} must map names to functions")
    for each, launch in found.items():
        if not isinstance(each, str) or not callable(launch):
            raise SettingError(f"{module}.{name or LAUNCHES} must map names to functions; {each!r} is {_kind(launch)}")
    if not found:
        raise SettingError(f"{module}.{name or LAUNCHES} is empty")
    return found


def _imported(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except Exception:
        raise
    # What ends a process, or a test: SystemExit, pytest.importorskip().
    except BaseException as error:
        raise PerfgateError(
            f"{type(error).__name__}: {error}",
            f"That ends more than the import of {module}.",
            "to skip a test, skip it in its own module",
        ) from error


def _kind(value: object) -> str:
    return "a function" if callable(value) else f"of type {type(value).__name__}"


def _list(place: str) -> Answer:
    """Name the launches of a place, as the names of ``code``, and those with tuned configurations."""
    try:
        return Answer("compiled", code=dict.fromkeys(_launches(place), ""), tuned=tuned.names(place, gated=True))
    except Exception as error:
        return failures.answer_of(error)


def _every(place: str) -> list[tuple[str, str]]:
    """Give place and name of the launches in all lists of a module, or in the one that the place names."""
    module, _, only = place.partition(":")
    lists = [only] if only else [name for name in vars(_imported(module)) if name.endswith(LAUNCHES)]
    return [(f"{module}:{name}", launch) for name in lists for launch in _launches(f"{module}:{name}")]


def _list_every(place: str) -> Answer:
    """Name all launches, as the names of ``code``, with their places: the first list's, where several have one."""
    places: dict[str, str] = {}
    try:
        for where, launch in _every(place):
            places.setdefault(launch, where)
    except Exception as error:
        return failures.answer_of(error)
    return Answer("compiled", code=places)


def _forms(module: str, target: Target) -> Answer:
    """Give the forms in which all launches that a module declares launch their kernels, those of tuned ones too."""
    forms: dict[str, tuple[Form, ...]] = {}
    launch = ""
    try:
        wanted = _every(module)
        found = {name: only for name, only in tuned.names(module).items() if only == target.name}
        for place, launch in [*wanted, *((module, name) for name in found)]:
            call, inputs = _launch(Question(place, launch, target.name))
            try:
                forms[launch] = (*forms.get(launch, ()), *capture.forms(call, target, inputs))
            except refusal.REFUSALS as error:
                # One that the launcher refuses on this target has none.
                if not refusal.is_refusal(error):
                    raise
    except Exception as error:
        failed = failures.answer_of_launch(error)
        return replace(failed, reason=f"{launch}: {failed.reason}") if launch else failed
    return Answer("compiled", tuned=found, forms=forms)


def _cached(question: Question, target: Target) -> Answer:
    """Compile a candidate into Triton's cache, and name the keys, as the names of ``code``."""
    try:
        wanted = candidate.of_question(question)
        tunable = candidate.tunable_of(wanted)
        keys = capture.keys(tunable.launch, candidate.on_card(target, wanted), lambda: candidate.arguments(wanted))
    except launcher.InputsFailed as failure:
        cause = failure.__cause__
        assert isinstance(cause, Exception)
        return failures.answer_of(cause)
    except Exception as error:
        return failures.answer_of_launch(error)
    return Answer("compiled", code=dict.fromkeys(keys, ""))


@dataclass(frozen=True)
class _Compiled:
    """What a launch was compiled to.

    Attributes:
        kernels: each compiled form once.
        launches: how many times the launch launched one.
        environment: the compiler.
        passed_over: what does not compile, and why.
        too_large: what the target has no room for, and why.
        work: what torch does beside the kernels.
    """

    kernels: Sequence[Any]
    launches: int
    environment: Mapping[str, str]
    passed_over: tuple[str, ...]
    too_large: tuple[str, ...]
    work: TorchWork


def _compile(question: Question, target: Target) -> Answer | _Compiled:
    """Compile one launch for a target."""
    environment = environment_of(target)
    try:
        launch, inputs = _launch(question)
    except Exception as error:
        return failures.answer_of(error)
    try:
        captured = capture.run(launch, target, inputs)
    except capture.CompileFailed as failure:
        cause = failure.__cause__
        assert cause is not None
        reason = failures.compiler_says(str(failure), cause)
        return Answer("compile_error", reason, failures.said_of_source(cause), environment=environment)
    except launcher.InputsFailed as failure:
        cause = failure.__cause__
        assert cause is not None
        reason = f"its inputs cannot be made without memory: {type(cause).__name__}: {failures.first_line(cause)}"
        return Answer("failed", reason, failures.traced(cause), environment=environment)
    except Exception as error:
        if not refusal.is_refusal(error):
            return failures.answer_of_launch(error)
        # Said before any kernel is launched, by the launcher: it knows that this target cannot do it.
        return Answer("unsupported", failures.first_line(error), failures.traced(error), environment=environment)
    told = [(each.too_large, failures.compiler_says(each.kernel, each.error)) for each in captured.passed_over]
    passed_over = tuple(text for large, text in told if not large)
    too_large = tuple(text for large, text in told if large)
    kernels = captured.kernels
    if not kernels:
        reason = f"the launch {question.launch!r} launched no Triton kernel"
        if passed_over:
            reason += f", and passed over what does not compile: {'; '.join(passed_over)}"
        if too_large:
            reason += f", and what does not fit: {'; '.join(too_large)}"
        return Answer("failed", reason, environment=environment)
    once = list({kernel.hash: kernel for kernel in kernels}.values())
    return _Compiled(once, len(kernels), environment, passed_over, too_large, captured.work)


def _launch(question: Question) -> tuple[Callable[..., object], Callable[[], tuple[Any, ...]] | None]:
    """Give the launch that a question is about, and what makes its arguments.

    Raises:
        SettingError: there is none of this name.
        Exception: whatever the import of the launches raises.
    """
    launches = _launches(question.place)
    if question.launch in launches:
        return launches[question.launch], None
    found = tuned.launch_of(question.place, question.launch)
    if found is None:
        raise SettingError(f"{question.place} has no launch {question.launch!r}; it has {', '.join(launches)}")
    return found.call, found.inputs


def _told(compiled: _Compiled, question: Question, target: Target, codes: Mapping[str, Code]) -> Answer:
    """Give the figures of what was compiled, and its code where it was asked for."""
    kernels = compiled.kernels
    names = _names([kernel.metadata.name for kernel in kernels])
    try:
        figures = [
            replace(reading.figures_of(kernel, target, codes.get(kernel.hash)), name=name)
            for kernel, name in zip(kernels, names, strict=True)
        ]
        shown = {name: code_of(kernel, question.code) for name, kernel in zip(names, kernels, strict=True)}
    except Exception as error:
        return failures.answer_of(error)
    code = shown if question.code else {}
    return Answer(
        "compiled",
        kernels=tuple(figures),
        launches=compiled.launches,
        environment=compiled.environment,
        code=code,
        passed_over=compiled.passed_over,
        too_large=compiled.too_large,
        operators=compiled.work.told(),
        operator_calls=compiled.work.operators.total(),
        allocated=compiled.work.allocated,
    )


def _names(names: list[str]) -> list[str]:
    """Tell kernels of one name apart: ``k``, ``k#2``, ``k#3``."""
    return [
        name if names.index(name) == index else f"{name}#{names[: index + 1].count(name)}"
        for index, name in enumerate(names)
    ]


def code_of(kernel: Any, kind: str) -> str:
    """Give the code of a kernel in one of its forms; empty where the target has none of it."""
    if kind == "sass" and "cubin" in kernel.asm:
        return nvidia.sass(kernel.asm["cubin"])
    text = dict(kernel.asm).get(kind, "")
    return text if isinstance(text, str) else ""


def environment_of(target: Target) -> dict[str, str]:
    """Give the versions and settings that compiled code depends on."""
    environment = {"triton": str(triton.__version__)}
    if target.backend == "cuda":
        assert isinstance(target.arch, int)
        environment["ptxas"] = str(get_ptxas(target.arch).version)
    settings = {name: os.environ[name] for name in _SETTINGS if name in os.environ}
    settings |= {str(name): str(value) for name, value in get_cache_invalidating_env_vars().items()}
    if settings:
        environment["settings"] = " ".join(f"{name}={settings[name]}" for name in sorted(settings))
    return environment
