"""Is what torch.compile does while steps are timed seen, where it compiles nothing?"""

from __future__ import annotations

import contextlib
import sys
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch._inductor import cudagraph_trees  # noqa: E402

from perf_workloads.implementation import WrongImplementation, nothing_compiled, recorded_graphs  # noqa: E402


class Graph:
    """Stands for a CUDA graph where there is no GPU."""

    def replay(self) -> None: ...


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give ``record()``, with which torch records the CUDA graph of a compiled function, as far as a CPU takes it."""
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "device", lambda index: contextlib.nullcontext())
    node: Any = cudagraph_trees.CUDAGraphNode
    monkeypatch.setattr(node, "_allocate_and_copy_recording_inputs", lambda self, inputs: [*inputs])
    monkeypatch.setattr(node, "_record", lambda self, model, inputs: model(inputs))
    function: Any = SimpleNamespace(model=lambda inputs: (), static_input_idxs=())

    def one() -> None:
        node(function, cudagraph_trees.GraphID(0), None, [], (0, 0), 0, None, None, None, None)

    return one


def test_recording_again_while_steps_are_timed_is_caught(record: Any) -> None:
    record()
    with pytest.raises(WrongImplementation) as raised, nothing_compiled():
        record()
    assert str(raised.value) == "torch.compile recorded 1 CUDA graphs while steps were timed"


def test_recordings_before_steps_are_timed_are_their_warm_up(record: Any) -> None:
    before = recorded_graphs()
    record()
    assert recorded_graphs() == before + 1
    with nothing_compiled():
        pass


def test_nothing_is_recorded_where_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch may not be there at all."""
    monkeypatch.delitem(sys.modules, "torch._dynamo.utils", raising=False)
    assert recorded_graphs() == 0
    with nothing_compiled():
        pass


def test_steps_after_a_reset_are_those_of_a_process_that_recorded_nothing(record: Any) -> None:
    """Torch forgets its times with what it compiled: fewer of them are no recordings."""
    record()
    with nothing_compiled():
        torch._dynamo.reset()
    assert recorded_graphs() == 0
