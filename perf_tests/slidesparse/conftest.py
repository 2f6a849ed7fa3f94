"""What do the cases of products and layers share? Their tensors, drawn once a layer, and the time of the dense one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

#: Of weights and of tokens. One seed for both would make row i of the tokens row i of the weights, and its sum one of
#: squares: as large as no layer has it.
WEIGHTS_SEED, TOKENS_SEED = 24, 25


@pytest.fixture(scope="module")
def slidesparse(torch: ModuleType) -> Iterator[Any]:
    """Give what draws the tensors of a case; the last weights and the last tokens are kept."""
    pytest.importorskip("triton", reason="triton is not installed: pip install -e '.[suite]'")
    from perf_workloads.slidesparse.cases import draw_tokens, draw_weights
    from perf_workloads.slidesparse.shapes import MODELS

    class Drawn:
        @staticmethod
        @functools.lru_cache(maxsize=1)
        def weights(model: str, layer: str, scheme: Any, device: str) -> Any:
            return draw_weights(MODELS[model][layer], scheme, device, WEIGHTS_SEED)

        @staticmethod
        @functools.lru_cache(maxsize=1)
        def tokens(tokens: int, model: str, layer: str, device: str) -> Any:
            return draw_tokens(tokens, MODELS[model][layer], device, TOKENS_SEED)

    yield Drawn
    Drawn.weights.cache_clear()
    Drawn.tokens.cache_clear()


@pytest.fixture(scope="session")
def require_cusparselt(torch: ModuleType) -> Callable[[str], None]:
    """Give ``require_cusparselt(scheme)``: it skips a sparse scheme where torch was built without cuSPARSELt."""
    from perf_workloads.slidesparse.schemes import find

    def require(scheme: str) -> None:
        if find(scheme).group is not None and not torch.backends.cusparselt.is_available():
            pytest.skip("this torch has no cuSPARSELt: pip install a build for CUDA")

    return require


@pytest.fixture(scope="module")
def dense_seconds(torch: ModuleType) -> Callable[..., float]:
    """Give ``dense_seconds(key, call, arguments)``: device time of a dense call, measured once for each key."""
    known: dict[tuple[Any, ...], float] = {}

    def seconds(key: tuple[Any, ...], call: Callable[..., Any], arguments: tuple[Any, ...]) -> float:
        from perfgate.measure.device import time_device

        if key not in known:
            known[key] = time_device(call, arguments, budget_s=0.05).median_s
        return known[key]

    return seconds


@pytest.fixture
def report_speedup(benchmark: Any) -> Callable[[Any, float], None]:
    """Give ``report_speedup(scheme, dense_s)`` for after the measured call: reported, or flagged as not plausible."""
    from perf_workloads.slidesparse.speedup import speedup

    def report(scheme: Any, dense_s: float) -> None:
        own = [metric.value for metric in benchmark.metrics if metric.name == "device_time"]
        if not own:
            return
        found = speedup(dense_s, own[0], scheme)
        if found.flag:
            benchmark.note("speedup", found.flag)
        else:
            benchmark.report("speedup_over_dense", found.ratio)

    return report
