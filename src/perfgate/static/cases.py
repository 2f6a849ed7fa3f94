"""How does a compiled launch become a pytest case? Parameters, the ``compiled`` argument, and what it measured."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from perfgate.errors import SettingError
from perfgate.model import METHOD_VERSION, Measurement, Outcome
from perfgate.static import launch_change, marker
from perfgate.static.answers import Answer, Question
from perfgate.static.figures import VERSION, Figures
from perfgate.static.marker import Wanted
from perfgate.static.metrics import ALLOCATED, LAUNCHES, OPERATORS, PASSED_OVER, metrics_of
from perfgate.static.pool import shared
from perfgate.static.targets import PLACEHOLDER, TARGETS

#: What the measuring method of a static case calls its clock.
CLOCK = "compiler"
INSTALL = "pip install torch triton"

_BROKEN = {
    "unsupported": Outcome.UNSUPPORTED,
    "compile_error": Outcome.COMPILE_ERROR,
    "crashed": Outcome.CRASHED,
}
_NOTHING = (
    "{launch} refuses all targets that its test asks for, so nothing of it is compiled: {reason}\n"
    "hint: give the test a target that it is for, or remove it from the launches of the test"
)
_PASSED_OVER = (
    "{launch} on {target} goes on without what does not compile: {kernels}\n"
    "hint: launch it only where it is meant to run, so that one that breaks is told as a failure"
)
_ANSWER = pytest.StashKey[Answer]()
#: The case that told an error: place and name of the launch, reason and detail.
_TOLD = pytest.StashKey[dict[tuple[str, str, str, str], str]]()


class NothingCompiled(UserWarning):
    """A declared launch is compiled for no target."""


class PassedOver(UserWarning):
    """A kernel of a launch does not compile, and the launch goes on without it."""


@dataclass
class Compiled:
    """The ``compiled`` argument of a static case.

    Attributes:
        launch: name of the launch.
        target: name of the target.
        kernels: figures of each kernel that it launches, in order.
    """

    launch: str
    target: str
    kernels: tuple[Figures, ...] = ()

    @property
    def kernel(self) -> Figures:
        """Give the only kernel.

        Raises:
            SettingError: there is more than one.
        """
        if len(self.kernels) != 1:
            names = ", ".join(kernel.name for kernel in self.kernels)
            raise SettingError(
                f"{self.launch} launches {len(self.kernels)} kernels: {names}", hint="use compiled.kernels"
            )
        return self.kernels[0]


def generate(metafunc: pytest.Metafunc) -> None:
    """Make a case of every launch and target that the ``static`` marker of a test asks for.

    Raises:
        pytest.Collector.CollectError: the marker or the launches cannot be used.
    """
    definition = metafunc.definition
    try:
        wish = marker.of(definition)
    except SettingError as error:
        raise pytest.Collector.CollectError(str(error)) from None
    if wish is None:
        return
    if "compiled" not in metafunc.fixturenames:
        lacking = SettingError(
            f"{definition.nodeid}: static marker: the test does not take compiled",
            "Nothing would be compiled, and nothing gated.",
            f"write def {definition.name}(compiled)",
        )
        raise pytest.Collector.CollectError(str(lacking))
    if not _is_wanted(metafunc):
        metafunc.parametrize("compiled", [], indirect=True)
        return
    answer = shared().launches(wish.place)
    if answer.status == "no_compiler":
        reason = f"{answer.reason}: {INSTALL}"
        skipped = pytest.param(None, id=PLACEHOLDER, marks=pytest.mark.skip(reason=reason))
        metafunc.parametrize("compiled", [skipped], indirect=True)
        return
    if answer.status != "compiled":
        unusable = SettingError(f"{definition.nodeid}: static marker: {answer.reason}", answer.detail.rstrip())
        raise pytest.Collector.CollectError(str(unusable))
    pairs = itertools.product(answer.code, wish.targets)
    tuned = ((launch, target) for launch, target in answer.tuned.items() if target in wish.targets)
    wanted = [
        pytest.param(
            Wanted(wish.place, launch, target, wish.limits),
            id=f"{launch}-{target}",
            marks=getattr(pytest.mark, target),
        )
        for launch, target in itertools.chain(pairs, tuned)
    ]
    metafunc.parametrize("compiled", wanted, indirect=True)


def _is_wanted(metafunc: pytest.Metafunc) -> bool:
    """Tell whether this process may run cases of a test: a fresh process was started for a few only."""
    child = metafunc.config.pluginmanager.getplugin("perfgate-child")
    return child is None or any(case.startswith(f"{metafunc.definition.nodeid}[") for case in child.task.cases)


def make(request: pytest.FixtureRequest) -> Compiled:
    """Give the ``compiled`` argument of a case, which is filled when the test is called.

    Raises:
        SettingError: the test has no ``static`` marker that names launches.
    """
    wanted = getattr(request, "param", None)
    if not isinstance(wanted, Wanted):
        raise SettingError(
            f"{request.node.nodeid}: compiled needs a static marker that names launches",
            hint='write @pytest.mark.static("my_kernels.specialisations") above the test',
        )
    return Compiled(wanted.launch, wanted.target)


def before_call(item: pytest.Function) -> None:
    """Compile the launch of a case, and fill its ``compiled`` argument.

    Raises:
        pytest.skip.Exception: the target or the compiler is not there, or the launcher refuses the target.
        pytest.fail.Exception: it does not compile.
    """
    wanted = marker.wanted_of(item)
    if wanted is None:
        return
    pool = shared()
    pool.submit(_upcoming(item))
    answer = item.stash[_ANSWER] = pool.ask(_question(wanted))
    match answer.status:
        case "compiled":
            argument = item.funcargs["compiled"]
            assert isinstance(argument, Compiled)
            argument.kernels = answer.kernels
            if answer.passed_over:
                kernels = "; ".join(answer.passed_over)
                told = _PASSED_OVER.format(launch=wanted.launch, target=wanted.target, kernels=kernels)
                item.warn(PassedOver(told))
        case "no_compiler":
            pytest.skip(f"{answer.reason}: {INSTALL}")
        case "no_target":
            pytest.skip(answer.reason)
        case "unsupported":
            if _refuses_all(item, wanted):
                item.warn(NothingCompiled(_NOTHING.format(launch=wanted.launch, reason=answer.reason)))
            pytest.skip(f"unsupported on {wanted.target}: {answer.reason}")
        case _:
            pytest.fail(_failure(item, wanted, answer), pytrace=False)


def _refuses_all(item: pytest.Function, wanted: Wanted) -> bool:
    """Tell, with its first case, whether a launch refuses all targets that its test asks for, where all are run."""
    wish = marker.of(item)
    alike = [
        each
        for other in item.session.items
        if (each := marker.wanted_of(other)) and (each.place, each.launch) == (wanted.place, wanted.launch)
    ]
    if wish is None or alike[0] != wanted or not {each.target for each in alike} >= set(wish.targets):
        return False
    return all(shared().ask(_question(each)).status == "unsupported" for each in alike)


def _failure(item: pytest.Function, wanted: Wanted, answer: Answer) -> str:
    """Say what is wrong with a launch: once the whole error, with all targets of which it is known to be the same."""
    told = item.session.stash.setdefault(_TOLD, {})
    says = " does not compile" if answer.status == "compile_error" else ""
    error = (wanted.place, wanted.launch, answer.reason, answer.detail)
    if (first := told.setdefault(error, item.nodeid)) != item.nodeid and answer.detail:
        return f"{wanted.launch} on {wanted.target}{says}: {answer.reason}\nThe whole error is told of {first}."
    others = [
        each.target
        for each in _upcoming(item)
        if (each.place, each.launch) == (wanted.place, wanted.launch) and _error(each) == (answer.reason, answer.detail)
    ]
    targets = ", ".join(dict.fromkeys([wanted.target, *others]))
    return f"{wanted.launch} on {targets}{says}: {answer.reason}\n{answer.detail}".rstrip()


def _error(question: Question) -> tuple[str, str]:
    answer = shared().ask(question)
    return answer.reason, answer.detail


def _upcoming(item: pytest.Item) -> list[Question]:
    """Give this case and the static ones that follow it directly, so that all workers are busy.

    A case that is timed after them must find them idle. With pytest-xdist other processes may run what follows.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        return []
    items = item.session.items
    at = items.index(item)
    following = itertools.takewhile(bool, map(marker.wanted_of, items[at:]))
    return [_question(wanted) for wanted in following if wanted]


def _question(wanted: Wanted) -> Question:
    return Question(wanted.place, wanted.launch, wanted.target)


def measurement_of(item: pytest.Item, case: str, reports: Sequence[pytest.TestReport]) -> Measurement:
    """Build the measurement of a static case.

    Args:
        item: the test.
        case: its name in baselines.
        reports: of its phases.
    """
    wanted = marker.wanted_of(item)
    answer = item.stash.get(_ANSWER, Answer("failed"))
    measurement = Measurement(
        case=case,
        key=TARGETS[wanted.target].key if wanted else "",
        environment=answer.environment,
        method={"version": METHOD_VERSION, "clock": CLOCK, "figures": str(VERSION)},
        repeats=True,
    )
    if answer.status in _BROKEN:
        reason = answer.reason.splitlines()[0]
        return replace(measurement, outcome=_BROKEN[answer.status], reason=reason)
    for report in reports:
        if report.failed:
            reason = answer.reason.splitlines()[0] if answer.reason else f"failed in {report.when}"
            return replace(measurement, outcome=Outcome.FAILED, reason=reason)
        if report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
            return replace(measurement, outcome=Outcome.SKIPPED, reason=reason.removeprefix("Skipped: "))
    assert wanted is not None
    passed_over = (*answer.passed_over, *answer.too_large)
    of_launch = {
        LAUNCHES: (answer.launches, ""),
        PASSED_OVER: (len(passed_over), "; ".join(passed_over)),
        OPERATORS: (answer.operator_calls, answer.operators),
        ALLOCATED: (answer.allocated, ""),
    }
    return replace(
        measurement,
        metrics=metrics_of(answer.kernels, of_launch, wanted.limits),
        kernels=launch_change.records_of(answer.kernels),
    )
