"""What do the cases of text generation share? One loaded model at a time, and the figures that goals compare."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import pytest

from perf_workloads.text_generation import Generation, percentile
from perf_workloads.text_generation.bench import Figures, Models, rounds_for
from perf_workloads.text_generation.grid import Case, Point
from perf_workloads.text_generation.observe import observe
from perf_workloads.text_generation.setups import Configuration, GenerationSetup
from perfgate.progress import Progress

#: Figures by configuration and point.
Store = dict[tuple[Configuration, Point], Figures]


@pytest.hookimpl(optionalhook=True)
def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Name cases; those on real weights get names, and so baselines, of their own."""
    if not isinstance(val, Case | Configuration | GenerationSetup):
        return None
    setup = val.configuration.setup if isinstance(val, Case) else getattr(val, "setup", val)
    real = setup.model == "qwen3-4b" and config.getoption("--model-path") is not None
    return f"{val.label}-real" if real else val.label


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let cases of the same setup follow each other, so that each model is loaded once.

    Those of none come after them, and those of a CPU last: some profile, which slows down what a GPU does later.
    """
    here = Path(__file__).parent
    places = [place for place, item in enumerate(items) if here in item.path.parents]
    ours = [items[place] for place in places]
    order = {label: number for number, label in enumerate(dict.fromkeys(map(_setup_label, ours)))}
    order[""] = len(order)
    ours.sort(key=lambda item: (item.get_closest_marker("cpu") is not None, order[_setup_label(item)]))
    for place, item in zip(places, ours, strict=True):
        items[place] = item


def _setup_label(item: pytest.Item) -> str:
    callspec = getattr(item, "callspec", None)
    for value in callspec.params.values() if callspec is not None else ():
        if isinstance(value, Case):
            value = value.configuration
        setup = getattr(value, "setup", value)
        if isinstance(setup, GenerationSetup):
            return f"{setup.model}-{setup.label}"
    return ""


@pytest.fixture(scope="session")
def models(transformers: ModuleType, model_path: Path | None) -> Iterator[Models]:
    """Give the holder of the model that was loaded last."""
    holder = Models(model_path)
    yield holder
    holder.release()


@pytest.fixture(autouse=True)
def same_threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let what happens beside the measured call, on a CPU, have as many threads as that."""
    if request.node.get_closest_marker("cpu") is None:
        yield
        return
    from perfgate.measure.threads import pinned

    with pinned(1):
        yield


@pytest.fixture(scope="session")
def store() -> Store:
    """Give the figures of the cases that have run in this process."""
    return {}


@pytest.fixture
def figures(request: pytest.FixtureRequest, models: Models, store: Store) -> Callable[[Configuration, Point], Figures]:
    """Give ``figures(configuration, point)``: those of a case that has run, or measured now."""
    progress = Progress(request.config)

    def tell(text: str) -> None:
        progress.show(f"perfgate: {request.node.nodeid}: {text}")

    def look_up(configuration: Configuration, point: Point) -> Figures:
        if (configuration, point) not in store:
            store[configuration, point] = measured(models, configuration, point, tell)
        return store[configuration, point]

    return look_up


def measured(
    models: Models, configuration: Configuration, point: Point, progress: Callable[[str], None] = lambda text: None
) -> Figures:
    """Measure as the cases do: a generation of the same lengths, and then those that are timed; tell where it is."""
    progress(f"loading {configuration.setup.label}")
    runner = models.runner(configuration, point.batch, point.input_tokens + point.new_tokens)
    input_ids, _ = runner.prompt(point.input_tokens)
    progress(f"looking at {configuration.label}")
    observe(runner, input_ids, point.new_tokens)
    progress("the first generation of these lengths")
    runner.warm_up(input_ids, point.new_tokens)
    rounds = rounds_for(configuration, point.new_tokens)
    progress("timing generations")
    with runner.watching_memory() as peak:
        taken = [runner.timed(input_ids, point.new_tokens) for _ in range(rounds)]
    return reached(taken, peak, runner)


@pytest.fixture
def reached_figures(store: Store) -> Callable[..., Figures]:
    """Give ``reached_figures(case, generations, peak, runner)``, which keeps the figures for the goals."""

    def keep(case: Case, generations: list[Generation], peak: list[int], runner: Any) -> Figures:
        store[case.configuration, case.point] = reached(generations, peak, runner)
        return store[case.configuration, case.point]

    return keep


def reached(generations: list[Generation], peak: list[int], runner: Any) -> Figures:
    """Sum generations up."""
    return Figures(
        tokens_per_s=median(each.tokens_per_s for each in generations),
        inter_token_s=percentile([gap for each in generations for gap in each.inter_token_latencies_s], 0.5),
        peak_bytes=peak[0] if peak else 0,
        weight_bytes=runner.weight_bytes,
    )


@pytest.fixture(scope="session")
def copy_bandwidth() -> Callable[[bool], float]:
    """Give ``copy_bandwidth(on_gpu)`` in bytes per second, measured once a process."""
    from perfgate.measure.bandwidth import cpu_copy_bandwidth, device_copy_bandwidth

    return lambda on_gpu: device_copy_bandwidth(0) if on_gpu else cpu_copy_bandwidth()
