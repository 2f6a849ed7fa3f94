"""Are launches of passes that are replayed from graphs told with their results? An engine without vLLM."""

from __future__ import annotations

import pytest

from perfgate.measure import notes

pytest.importorskip("triton", reason="triton is not installed: pip install -e '.[suite]'")

from perf_workloads.slidesparse.serving import engine, workloads
from perf_workloads.slidesparse.serving.workloads import Point, Workload


class Replaying(engine.Engine):
    """An engine that captured graphs of 64 and 128 tokens, and replays nothing else."""

    def __init__(self) -> None:
        self._captured = {64: {"product": {"A of 64"}}, 128: {"product": {"A of 128"}, "choice": {"x"}}}
        self._memory = {}
        self._passes = engine.Passes.__new__(engine.Passes)
        self._passes.tokens, self._passes.times_s = [], []

    def _generate(self, load: Workload) -> tuple[float, float]:
        if load.point.tokens not in self._captured:
            notes.note("product", "ran")
        self._passes.tokens, self._passes.times_s = list(load.steps), [float(each) for each in range(len(load.steps))]
        return 0.0, 1.0


def noted(built: engine.Engine, tokens: int) -> dict[str, str]:
    assert built.run(workloads.workload(Point("decode", tokens), 1, 4))["pinned"] is None
    return notes.texts(built._notes)


def test_what_was_captured_for_m_tokens_is_told_of_m_tokens() -> None:
    built = Replaying()
    assert noted(built, 128) == {"product": "A of 128", "choice": "x"}
    assert noted(built, 64) == {"product": "A of 64"}
    assert noted(built, 256) == {"product": "ran"}
    # What ran later was not captured, and changes nothing that was.
    assert noted(built, 64) == {"product": "A of 64"}
    assert built._captured[128] == {"product": {"A of 128"}, "choice": {"x"}}
