"""Is the fastest configuration found, and is a default only given up for one that is really faster?"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfgate.errors import PerfgateError
from perfgate.tune.lost import DeviceLost
from perfgate.tune.search import CONFIRM_S, CONTENDERS, MARGIN, TURNS, Timer, Trial, search
from perfgate.tune.tunable import Tunable

torch = pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[suite]'")


@dataclass(frozen=True)
class Config:
    """A pretended launch."""

    warps: int
    tile: int = 0


class Clock:
    """Times calls by a table, and remembers what it was asked.

    Args:
        seconds: of a call by its configuration; a list gives one figure after the other, its last one for ever.
    """

    def __init__(self, seconds: Callable[[Config], float | Sequence[float]]) -> None:
        self.seconds = seconds
        self.asked: list[Config] = []

    def __call__(self, call: Callable[..., Any], arguments: Sequence[Any], seconds: float) -> float:
        config = call.args[0]  # type: ignore[attr-defined]
        figures = self.seconds(config)
        number = self.asked.count(config)
        self.asked.append(config)
        return figures if isinstance(figures, float) else figures[min(number, len(figures) - 1)]


def double(config: Config, x: Any) -> Any:
    return 2 * x


def tunable(
    candidates: Iterable[Config],
    *,
    neighbours: Callable[[Config], Iterable[Config]] = lambda config: (),
    launch: Callable[..., Any] = double,
) -> Tunable:
    return Tunable(
        kernel="rows",
        shapes=lambda: [(8,)],
        shape_class=lambda size: f"size-{size}",
        default=lambda size: Config(4),
        candidates=lambda size: list(candidates),
        neighbours=lambda config, size: neighbours(config),
        inputs=lambda size: (torch.arange(float(size)),),
        launch=launch,
    )


def by_warps(table: Mapping[int, float | Sequence[float]]) -> Clock:
    return Clock(lambda config: table[config.warps])


def test_the_fastest_candidate_is_chosen() -> None:
    clock = by_warps({4: 10e-6, 1: 12e-6, 2: 8e-6, 8: 9e-6})
    choice = search(tunable(map(Config, (1, 2, 4, 8))), (8,), timer=clock)
    assert (choice.shape_class, choice.default, choice.best) == ("size-8", Config(4), Config(2))
    assert (choice.default_s, choice.best_s) == (10e-6, 8e-6)
    assert [trial.config.warps for trial in choice.trials] == [4, 1, 2, 8]
    assert choice.changed
    assert choice.skipped == []


def test_the_fine_step_goes_on_from_the_best_as_long_as_it_gets_faster() -> None:
    clock = Clock(lambda config: (10 + abs(config.tile - 7)) * 1e-6)
    wanted = tunable([Config(1, 3)], neighbours=lambda config: [Config(1, config.tile + step) for step in (-1, 1)])
    choice = search(wanted, (8,), timer=clock)
    assert choice.best == Config(1, 7)
    # From 3 up to 7, where neither 6 nor 8 is faster.
    assert {trial.config.tile for trial in choice.trials} == {0, 2, 3, 4, 5, 6, 7}


def test_no_configuration_is_searched_twice() -> None:
    clock = by_warps({4: 10e-6, 2: 10e-6})
    search(tunable([Config(2)] * 3, neighbours=lambda config: [Config(2), Config(4)]), (8,), timer=clock)
    assert clock.asked == [Config(4), Config(2)]


@pytest.mark.parametrize(("other", "chosen"), [(9.81e-6, 4), (9.79e-6, 2)])
def test_the_default_stays_within_the_margin(other: float, chosen: int) -> None:
    assert MARGIN == 0.02
    choice = search(tunable([Config(2)]), (8,), timer=by_warps({4: 10e-6, 2: other}))
    assert choice.best == Config(chosen)
    assert choice.best_s == (10e-6 if chosen == 4 else other)


def test_a_figure_that_does_not_repeat_changes_nothing() -> None:
    clock = by_warps({4: 10e-6, 2: [5e-6, 10e-6]})
    choice = search(tunable([Config(2)]), (8,), timer=clock)
    assert not choice.changed
    # Once each in the search, then in turns.
    assert clock.asked == [Config(4), Config(2)] + [Config(4), Config(2)] * TURNS


def test_the_second_best_is_confirmed_when_the_best_was_luck() -> None:
    clock = by_warps({4: 10e-6, 1: [5e-6, 11e-6], 2: 8e-6, 8: 9e-6})
    choice = search(tunable(map(Config, (1, 2, 8))), (8,), timer=clock)
    assert CONTENDERS == 2
    assert choice.best == Config(2)


def test_the_figures_are_those_of_the_confirmation() -> None:
    clock = by_warps({4: [10e-6, 20e-6], 2: [5e-6, 6e-6]})
    choice = search(tunable([Config(2)]), (8,), timer=clock)
    assert (choice.default_s, choice.best_s) == (20e-6, 6e-6)


def test_what_was_found_before_is_tried_too() -> None:
    choice = search(tunable([]), (8,), timer=by_warps({4: 10e-6, 16: 5e-6}), also=[Config(16)])
    assert choice.best == Config(16)


class OutOfResources(Exception):
    """As triton calls it."""


def test_what_does_not_run_is_skipped_and_said() -> None:
    def launch(config: Config, x: Any) -> Any:
        match config.warps:
            case 1:
                raise OutOfResources("out of resource: shared memory, Required: 262144, Hardware limit: 232448\nmore")
            case 2:
                raise ValueError
            case 8:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return 2 * x

    wanted = tunable(map(Config, (1, 2, 8, 16)), launch=launch)
    choice = search(wanted, (8,), timer=by_warps({4: 10e-6, 16: 5e-6}))
    assert choice.best == Config(16)
    assert [(trial.config.warps, trial.problem) for trial in choice.skipped] == [
        (1, "compile error: out of resource: shared memory, Required: 262144, Hardware limit: 232448"),
        (2, "ValueError"),
        (8, "out of memory: CUDA out of memory. Tried to allocate 2 GiB"),
    ]


def test_a_fast_wrong_result_is_never_chosen() -> None:
    def launch(config: Config, x: Any) -> Any:
        return 2 * x if config.warps == 4 else 2 * x + (torch.arange(8) == 3)

    clock = by_warps({4: 10e-6})
    choice = search(tunable([Config(2)], launch=launch), (8,), timer=clock)
    assert not choice.changed
    assert choice.skipped[0].problem == "wrong result: 1 of 8 elements differ from the default's"
    assert clock.asked == [Config(4)]


LOST = "CUDA error: an illegal memory access was encountered"


def test_a_lost_device_ends_the_search() -> None:
    def launch(config: Config, x: Any) -> Any:
        if config.warps == 2:
            raise RuntimeError(f"{LOST}\nCompile with ...")
        return 2 * x

    with pytest.raises(DeviceLost) as caught:
        search(tunable(map(Config, (2, 8)), launch=launch), (8,), timer=by_warps({4: 10e-6, 8: 5e-6}))
    assert str(caught.value) == (
        f"rows: size-8: warps=2 tile=0: illegal access: {LOST}\n"
        "The device cannot be used by this process any more.\n"
        "hint: mend the kernel, or leave the configuration out of its candidates"
    )
    assert caught.value.left_out == "size-8:warps=2 tile=0"


def test_what_is_left_out_is_not_launched() -> None:
    launched = []

    def launch(config: Config, x: Any) -> Any:
        launched.append(config.warps)
        return 2 * x

    wanted = tunable(map(Config, (2, 8)), launch=launch, neighbours=lambda config: [Config(2)])
    choice = search(wanted, (8,), timer=by_warps({4: 10e-6, 8: 5e-6}), left_out={"warps=2 tile=0"})
    assert (choice.best, choice.skipped) == (Config(8), [Trial(Config(2), None, "left out")])
    assert 2 not in launched


@pytest.mark.parametrize("where", ["inputs", "launch", "timer", "candidates", "neighbours"])
def test_a_default_that_loses_the_device_leaves_its_class_out(where: str) -> None:
    def fail(*arguments: Any) -> Any:
        raise RuntimeError(LOST)

    wanted = tunable([], launch=fail if where == "launch" else double)
    if where not in ("launch", "timer"):
        wanted = dataclasses.replace(wanted, **{where: fail})
    with pytest.raises(DeviceLost) as caught:
        search(wanted, (8,), timer=fail if where == "timer" else by_warps({4: 10e-6}))
    assert caught.value.left_out == "size-8"
    assert caught.value.what == f"rows: size-8: the default configuration: illegal access: {LOST}"


def test_a_device_that_is_lost_in_turns_with_the_default_is_told() -> None:
    def timer(call: Any, arguments: Sequence[Any], seconds: float) -> float:
        if call.args[0].warps == 8 and seconds == CONFIRM_S:
            raise RuntimeError(LOST)
        return 40e-6 / call.args[0].warps

    with pytest.raises(DeviceLost) as caught:
        search(tunable([Config(8)]), (8,), timer=timer)
    assert caught.value.left_out == "size-8:warps=8 tile=0"


def test_a_default_that_does_not_run_is_an_error() -> None:
    def launch(config: Config, x: Any) -> Any:
        raise ValueError("no")

    with pytest.raises(PerfgateError) as caught:
        search(tunable([], launch=launch), (8,), timer=by_warps({}))
    assert str(caught.value) == (
        "rows: size-8: the default configuration warps=4 tile=0 does not run: ValueError: no\n"
        "Without it there is nothing to compare with."
    )


def test_an_interrupt_is_not_taken_for_a_configuration_that_does_not_run() -> None:
    def launch(config: Config, x: Any) -> Any:
        if config.warps == 2:
            raise KeyboardInterrupt
        return 2 * x

    with pytest.raises(KeyboardInterrupt):
        search(tunable([Config(2)], launch=launch), (8,), timer=by_warps({4: 10e-6}))


def test_progress_is_told() -> None:
    told: list[str] = []
    search(tunable([Config(2)]), (8,), timer=by_warps({4: 10e-6, 2: 5e-6}), tell=told.append)
    assert told == [
        "size-8: warps=4 tile=0",
        "size-8: warps=2 tile=0",
        "size-8: warps=2 tile=0 in turns with the default",
    ]


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.integers(1, 64), st.floats(1e-6, 1e-3), min_size=1))
def test_with_a_steady_clock_nothing_slower_is_ever_chosen(times: dict[int, float]) -> None:
    times = {4: 1e-4, **times}
    clock: Timer = by_warps(times)
    choice = search(tunable(map(Config, times)), (8,), timer=clock)
    fastest = min(times.values())
    if fastest < (1 - MARGIN) * times[4]:
        assert choice.best_s == fastest
    else:
        assert choice.best == choice.default
    assert dataclasses.is_dataclass(choice.best)


def test_neighbours_may_be_a_generator() -> None:
    def neighbours(config: Config) -> Iterator[Config]:
        yield Config(config.warps, config.tile + 1)

    choice = search(tunable([], neighbours=neighbours), (8,), timer=Clock(lambda config: (9 - config.tile) * 1e-6))
    # As many steps as there are.
    assert choice.best == Config(4, 4)


def test_what_is_timed_next_is_prepared_before_any_of_it_is_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def recording() -> Iterator[list[Any]]:
        yield [SimpleNamespace(hash="key")]

    monkeypatch.setattr("perfgate.tune.search.recording", recording)
    done: list[Any] = []

    def launch(config: Config, x: Any) -> Any:
        done.append(config.warps)
        return x

    def prepare(default: Any, keys: frozenset[str], configs: Sequence[Any]) -> None:
        assert (default, keys) == (Config(4), {"key"})
        done.append([config.warps for config in configs])

    wanted = tunable(
        map(Config, (1, 2, 4, 2)), neighbours=lambda config: [Config(2), Config(config.warps + 6)], launch=launch
    )
    clock = by_warps({4: 10e-6, 1: 12e-6, 2: 8e-6, 3: 9e-6, 8: 7e-6, 14: 7e-6})
    search(wanted, (8,), timer=clock, also=[Config(3)], prepare=prepare)
    assert done == [4, [1, 2, 3], 1, 2, 3, [8], 8, [14], 14]


def test_nothing_is_prepared_for_what_is_no_kernel_of_triton() -> None:
    def prepare(default: Any, keys: frozenset[str], configs: Sequence[Any]) -> None:
        pytest.fail("there is nothing to compile")

    choice = search(tunable([Config(2)]), (8,), timer=by_warps({4: 10e-6, 2: 8e-6}), prepare=prepare)
    assert choice.best == Config(2)
