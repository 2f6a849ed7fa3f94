"""Which configuration is fastest for one shape? Coarse over the candidates, fine around the best, then confirmed.

The default stays unless another one is faster by more than MARGIN, in a second measurement that takes both in turns: of
many configurations that are equally fast one always looks faster.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from perfgate.errors import PerfgateError
from perfgate.model import Outcome
from perfgate.outcomes import classify, words
from perfgate.static.launched import recording
from perfgate.tune.check import spoil
from perfgate.tune.lost import DeviceLost, loses_device
from perfgate.tune.tunable import Shape, Tunable, text_of
from perfgate.units import count

#: Share of the default's time that another configuration has to save.
MARGIN = 0.02
#: Seconds of sampling for one figure of the search, and of the confirmation.
SEARCH_S, CONFIRM_S = 0.03, 0.06
#: Times that both are measured in turns, and how many configurations get that chance.
TURNS, CONTENDERS = 5, 2
#: Steps from the best configuration to its neighbours.
STEPS = 4

#: Gives the seconds that ``call(*arguments)`` takes, from so many seconds of sampling.
Timer = Callable[[Callable[..., Any], Sequence[Any], float], float]

#: Has configurations compiled that will be timed next: takes the default, the keys of the kernels that it launched,
#: and the configurations.
Prepare = Callable[[Any, frozenset[str], Sequence[Any]], None]


@dataclass(frozen=True)
class Trial:
    """One configuration and what it took.

    Attributes:
        config: the configuration.
        seconds: a call; None where it could not be used.
        problem: why it could not be used.
    """

    config: Any
    seconds: float | None
    problem: str = ""


@dataclass(frozen=True)
class Choice:
    """What was found for one class of shapes.

    Attributes:
        shape_class: its name.
        default: the configuration that is launched without tuning.
        default_s: seconds that a call takes with it.
        best: the configuration to be used; the default, where no other one is faster by more than the margin.
        best_s: seconds that a call takes with that.
        trials: everything that was tried, the default first.
    """

    shape_class: str
    default: Any
    default_s: float
    best: Any
    best_s: float
    trials: tuple[Trial, ...]

    @property
    def changed(self) -> bool:
        """Whether another configuration than the default is to be used."""
        return bool(self.best != self.default)

    @property
    def skipped(self) -> list[Trial]:
        """Give the configurations that could not be used."""
        return [trial for trial in self.trials if trial.seconds is None]


def time_on_device(call: Callable[..., Any], arguments: Sequence[Any], seconds: float) -> float:
    """Give the device time of a call with a cold L2 cache, in seconds."""
    from perfgate.measure.device import time_device

    return time_device(call, arguments, budget_s=seconds).median_s


def search(
    tunable: Tunable,
    shape: Shape,
    *,
    timer: Timer,
    also: Iterable[Any] = (),
    left_out: Collection[str] = (),
    tell: Callable[[str], None] = lambda line: None,
    prepare: Prepare = lambda default, keys, configs: None,
) -> Choice:
    """Find the fastest configuration for a shape.

    Args:
        tunable: the kernel.
        shape: the shape.
        timer: times a call.
        also: configurations to try besides the candidates: what was found before.
        left_out: texts of configurations that are not tried.
        tell: told what is being tried.
        prepare: asked before configurations are timed, if the default launches kernels of Triton.

    Raises:
        DeviceLost: this process cannot use the device any more.
        PerfgateError: the default configuration does not run.
    """
    name = tunable.shape_class(*shape)
    default = tunable.default(*shape)

    def timed(config: Any, seconds: float) -> float:
        try:
            return timer(functools.partial(tunable.launch, config), inputs, seconds)
        except Exception as error:
            check_device(config, error)
            raise

    def check_device(config: Any, error: Exception) -> None:
        if loses_device(error):
            raise DeviceLost(tunable.kernel, name, None if config == default else config, _problem(error)) from error

    def declared(give: Callable[..., Iterable[Any]], *arguments: Any) -> list[Any]:
        """Give what the kernel declares, which may launch something to find it."""
        try:
            return list(give(*arguments))
        except Exception as error:
            check_device(default, error)
            raise

    inputs = tuple(declared(tunable.inputs, *shape))
    tell(f"{name}: {text_of(default)}")
    try:
        with recording() as launched:
            expected = tunable.launch(default, *inputs)
        trials = {default: Trial(default, timed(default, SEARCH_S))}
    except DeviceLost:
        raise
    except Exception as error:
        check_device(default, error)
        raise PerfgateError(
            f"{tunable.kernel}: {name}: the default configuration {text_of(default)} does not run: {_problem(error)}",
            "Without it there is nothing to compare with.",
        ) from error

    keys = frozenset(kernel.hash for kernel in launched)

    def attempt_all(configs: Iterable[Any]) -> None:
        wanted = []
        for config in dict.fromkeys(configs):
            if text_of(config) in left_out:
                trials.setdefault(config, Trial(config, None, "left out"))
            elif config not in trials:
                wanted.append(config)
        if keys and wanted:
            tell(f"{name}: compiling {count(len(wanted), 'configuration')}")
            prepare(default, keys, wanted)
        for config in wanted:
            attempt(config)

    def attempt(config: Any) -> None:
        tell(f"{name}: {text_of(config)}")
        try:
            spoil(expected)
            wrong = tunable.check(expected, tunable.launch(config, *inputs))
            trials[config] = Trial(config, None, f"wrong result: {wrong}") if wrong else _timed_trial(config)
        except DeviceLost:
            raise
        except Exception as error:
            check_device(config, error)
            trials[config] = Trial(config, None, _problem(error))

    def _timed_trial(config: Any) -> Trial:
        return Trial(config, timed(config, SEARCH_S))

    attempt_all([*declared(tunable.candidates, *shape), *also])
    best = _ranked(trials.values())[0]
    for _ in range(STEPS):
        attempt_all(declared(tunable.neighbours, best.config, *shape))
        nearby = _ranked(trials.values())[0]
        if nearby.config == best.config:
            break
        best = nearby

    default_s = trials[default].seconds
    assert default_s is not None
    kept = Choice(name, default, default_s, default, default_s, tuple(trials.values()))
    return _confirmed(kept, timed, tell)


def _confirmed(kept: Choice, timed: Callable[[Any, float], float], tell: Callable[[str], None]) -> Choice:
    """Measure what looks faster than the default in turns with it; give the first that is."""
    contenders = [
        trial.config
        for trial in _ranked(kept.trials)
        if trial.seconds is not None and _faster(trial.seconds, kept.default_s)
    ]
    for config in contenders[:CONTENDERS]:
        tell(f"{kept.shape_class}: {text_of(config)} in turns with the default")
        turns = [(timed(kept.default, CONFIRM_S), timed(config, CONFIRM_S)) for _ in range(TURNS)]
        default_s = statistics.median(first for first, _ in turns)
        best_s = statistics.median(second for _, second in turns)
        if _faster(best_s, default_s):
            return Choice(kept.shape_class, kept.default, default_s, config, best_s, kept.trials)
    return kept


def _faster(seconds: float, default_s: float) -> bool:
    return seconds < (1 - MARGIN) * default_s


def _ranked(trials: Iterable[Trial]) -> list[Trial]:
    """Give the trials that ran, the fastest first; of equals the one that was tried first."""
    return sorted((trial for trial in trials if trial.seconds is not None), key=lambda trial: trial.seconds or 0.0)


def _problem(error: Exception) -> str:
    """Say what went wrong in one line."""
    outcome = classify(error)
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else ""
    kind = words(outcome) if outcome is not Outcome.FAILED else type(error).__name__
    return f"{kind}: {text}" if text else kind
