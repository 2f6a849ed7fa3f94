"""What does ``perfgate static`` show? The figures of a kernel's launches for each target, or the code itself."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from perfgate.errors import PerfgateError, SettingError
from perfgate.report.table import Column, layout
from perfgate.static import find, targets
from perfgate.static.answers import Answer, Question
from perfgate.static.figures import Figures, by_class
from perfgate.units import NOTHING, quantity

KINDS = ("sass", "ptx", "ttir", "ttgir", "llir", "amdgcn")
#: Launches that are listed where there is none of the name that was given.
_SHOWN = 8
_COLUMNS = (
    Column("launch", figures=False),
    Column("target", figures=False),
    Column("registers"),
    Column("occupancy"),
    Column("scalar registers"),
    Column("spills"),
    Column("stack"),
    Column("local memory"),
    Column("shared"),
    Column("loads 16/8/4/less"),
    Column("stores 16/8/4/less"),
    Column("asynchronous"),
    Column("tensor core"),
    Column("barriers"),
    Column("32-bit offsets"),
    Column("instructions"),
    Column("size"),
)


def add_parser(commands: Any) -> None:
    """Declare the command's arguments."""
    about = "compile a kernel for GPUs that are not here, and show its figures or its code"
    parser = commands.add_parser("static", help=about, description=about)
    parser.add_argument("kernel", metavar="KERNEL", help=f"name of a folder with a {find.MODULE}.py, or an import path")
    names = ", ".join(targets.TARGETS)
    launches = f"name of a launch, of any list *{find.LAUNCHES} (default: all of {find.LAUNCHES}); may be repeated"
    parser.add_argument("--target", action="append", help=f"one of {names} (default: all); may be repeated")
    parser.add_argument("--launch", action="append", help=launches)
    kinds = parser.add_mutually_exclusive_group()
    for kind in KINDS:
        kinds.add_argument(
            f"--{kind}", dest="code", action="store_const", const=kind, default="", help=f"print the {kind.upper()}"
        )


def run(options: argparse.Namespace) -> Iterator[str]:
    """Compile and show.

    Raises:
        SettingError: there is no such kernel, launch or target, or no such code.
        PerfgateError: what was asked for could not be compiled.
    """
    from perfgate.static.pool import shared

    chosen = [targets.find(name) for name in options.target or targets.TARGETS]
    roots = find.source_roots(Path.cwd())
    find.extend_path(roots)
    place = find.place_of(options.kernel, find.kernels(roots))
    pool = shared()
    known = _listed(place, pool.launches(place))
    places = _listed(place, pool.every_launch(place)).code if options.launch else {}
    for launch in options.launch or ():
        if launch not in {**places, **known.tuned}:
            names = _some([*places, *known.tuned], launch)
            raise SettingError(f"{place} has no launch {launch!r}", hint=f"launches are {names}")
    questions = [
        Question(places.get(launch, place), launch, target.name, options.code)
        for launch in options.launch or [*known.code, *known.tuned]
        for target in chosen
        # A tuned configuration is for the hardware that it was found on.
        if known.tuned.get(launch, target.name) == target.name
    ]
    if not questions:
        only = ", ".join(f"{launch} is for {known.tuned[launch]}" for launch in options.launch)
        raise SettingError(f"nothing to compile: {only}", hint="give another --target, or none")
    pool.submit(questions)
    answers = {question: pool.ask(question) for question in questions}
    yield from _code(options.code, answers) if options.code else _table(answers)


def _listed(place: str, answer: Answer) -> Answer:
    """Give the names of launches.

    Raises:
        SettingError: the launches cannot be listed.
        PerfgateError: there is no compiler.
    """
    if answer.status == "no_compiler":
        raise PerfgateError(answer.reason, "Kernels cannot be compiled without it.", "pip install torch triton")
    if answer.status != "compiled":
        raise SettingError(f"{place}: {answer.reason}", answer.detail.rstrip())
    return answer


def _some(names: list[str], wanted: str) -> str:
    """List names; of many, those that are most like what was wanted."""
    alike = difflib.get_close_matches(wanted, names, _SHOWN, cutoff=0.0)
    return ", ".join(names if len(names) <= _SHOWN else [*alike, f"and {len(names) - len(alike)} others"])


def _table(answers: Mapping[Question, Answer]) -> Iterator[str]:
    rows = []
    for question, answer in answers.items():
        for kernel in answer.kernels:
            name = question.launch + (f": {kernel.name}" if len(answer.kernels) > 1 else "")
            rows.append((name, question.target, *_figures(kernel)))
    if rows:
        table = layout(_COLUMNS, rows)
        yield table.heading()
        for row in rows:
            yield from table.row(row)
    if len(answers) == 1:
        yield from (f"32-bit offset: {line}" for answer in answers.values() for line in _narrow(answer))
    yield from _failures(answers)
    for question, answer in answers.items():
        if answer.passed_over:
            kernels = "; ".join(answer.passed_over)
            yield f"{question.launch} on {question.target} goes on without what does not compile: {kernels}"
        of_launch = f"{question.launch} on {question.target}"
        if answer.too_large:
            yield f"{of_launch} goes on without what does not fit: {'; '.join(answer.too_large)}"
        if answer.operators:
            yield f"{of_launch} runs operators of torch beside its kernels: {answer.operators}"
    versions = {" ".join((name, version)) for a in answers.values() for name, version in a.environment.items()}
    if versions:
        yield f"compiled with {', '.join(sorted(versions, reverse=True))}"


def _failures(answers: Mapping[Question, Answer]) -> Iterator[str]:
    """Tell what was not compiled, with all targets that say the same; of one launch the whole error."""
    told: dict[tuple[str, str, str, str], list[str]] = {}
    for question, answer in answers.items():
        if answer.status != "compiled":
            detail = answer.detail if answer.status != "unsupported" else ""
            told.setdefault((question.launch, _word(answer), answer.reason, detail), []).append(question.target)
    one = len({question.launch for question in answers}) == 1
    for (launch, word, reason, detail), names in told.items():
        yield f"{launch} on {', '.join(names)}: {word}: {reason}"
        if one:
            yield from detail.splitlines()
    if not one and (longer := [launch for launch, _, _, detail in told if detail]):
        yield f"hint: --launch {longer[0]} shows the whole error"


def _narrow(answer: Answer) -> Iterator[str]:
    """Give the lines of Triton IR that the column of 32-bit offsets counts."""
    for kernel in answer.kernels:
        yield from (f"{kernel.name}: {line}" for line in kernel.narrow_offsets)


def _figures(kernel: Figures) -> Sequence[str]:
    code = kernel.code
    return (
        str(code.registers),
        f"{100 * kernel.occupancy:.3g} %",
        str(code.scalars) if targets.TARGETS[kernel.target].backend == "hip" else NOTHING,
        str(code.spills),
        quantity(code.stack, "B"),
        str(code.local_memory),
        quantity(kernel.shared, "B"),
        "/".join(str(number) for number in by_class(code.loads).values()),
        "/".join(str(number) for number in by_class(code.stores).values()),
        f"{100 * kernel.asynchronous:.3g} %" if targets.TARGETS[kernel.target].backend == "cuda" else NOTHING,
        str(code.tensor_core),
        str(code.barriers),
        str(len(kernel.narrow_offsets)),
        str(code.instructions),
        quantity(code.code_size, "B"),
    )


def _word(answer: Answer) -> str:
    return {"compile_error": "does not compile", "no_target": "skipped"}.get(answer.status, answer.status)


def _code(kind: str, answers: Mapping[Question, Answer]) -> Iterator[str]:
    several = len(answers) > 1
    for question, answer in answers.items():
        if answer.status != "compiled":
            raise PerfgateError(f"{question.launch} on {question.target}: {_word(answer)}: {answer.reason}")
        for kernel, text in answer.code.items():
            if several or len(answer.code) > 1:
                yield f"// {question.launch} on {question.target}: {kernel}"
            if not text:
                raise SettingError(
                    f"{question.target} has no {kind or NOTHING}",
                    hint="sass and ptx are NVIDIA's, amdgcn is AMD's; ttir, ttgir and llir are there for both",
                )
            yield text.rstrip("\n")
