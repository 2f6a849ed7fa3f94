"""Does the device clock time what it should, and hand back what a timed call wrote? For real, on a GPU."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.cuda


@pytest.fixture(scope="module")
def torch() -> ModuleType:
    return pytest.importorskip("torch")


def timed(function: Any, *args: Any, **options: Any) -> Any:
    from perfgate.measure.device import time_device

    return time_device(function, args, budget_s=0.05, **options)


def test_result_is_of_the_call(torch: ModuleType) -> None:
    x = torch.arange(1 << 16, device="cuda", dtype=torch.float32)
    timing = timed(torch.sin, x)
    assert timing.launch == "graph"
    assert timing.cache in ("rotated", "flushed")
    assert torch.equal(timing.result, torch.sin(x))


def test_in_place_call_is_checked_on_the_input_as_it_was(torch: ModuleType) -> None:
    x = torch.arange(1 << 16, device="cuda", dtype=torch.float32)
    timing = timed(lambda tensor: tensor.mul_(2), x)
    assert torch.equal(x, torch.arange(1 << 16, device="cuda", dtype=torch.float32))
    assert torch.equal(timing.result, 2 * x)


def test_output_that_is_not_written_is_seen(torch: ModuleType) -> None:
    def forgets_the_end(x: Any) -> Any:
        out = torch.empty_like(x)
        out[:-1] = x[:-1]
        return out

    result = timed(forgets_the_end, torch.ones(1 << 12, device="cuda")).result
    assert result[:-1].eq(1).all()
    assert result[-1].isnan()


def test_output_of_a_closure_that_is_not_written_is_seen(torch: ModuleType) -> None:
    x = torch.ones(1 << 12, device="cuda")

    def forgets_the_end() -> Any:
        out = torch.empty_like(x)
        out[:-1] = x[:-1]
        return out

    result = timed(forgets_the_end).result
    assert result[:-1].eq(1).all()
    assert result[-1].isnan()


def test_buffer_returned_as_it_is_keeps_its_values(torch: ModuleType) -> None:
    buffer = torch.arange(1000, device="cuda", dtype=torch.float32)
    timing = timed(lambda x: (x + 1, buffer), torch.zeros(1000, device="cuda"))
    assert torch.equal(timing.result[1], torch.arange(1000, device="cuda", dtype=torch.float32))
    assert timing.result[0].eq(1).all()


def test_output_beside_other_values_is_of_the_timed_call(torch: ModuleType) -> None:
    def forgets_the_end(x: Any) -> tuple[Any, None, str]:
        out = torch.empty_like(x)
        out[:-1] = x[:-1]
        return out, None, "chunk"

    out, nothing, name = timed(forgets_the_end, torch.ones(1 << 12, device="cuda")).result
    assert out[:-1].eq(1).all()
    assert out[-1].isnan()
    assert (nothing, name) == (None, "chunk")


def test_weights_that_are_no_argument_are_cold_too(torch: ModuleType) -> None:
    x = torch.randn(1, 512, device="cuda")
    with torch.no_grad():
        linear = torch.nn.Linear(512, 512, bias=False, device="cuda").requires_grad_(False)
        assert timed(linear, x).cache == "flushed"
        assert timed(lambda module, rows: module(rows), linear, x).cache == "flushed"
        assert timed(lambda rows: rows @ linear.weight, x).cache == "flushed"
        assert timed(torch.nn.functional.linear, x, linear.weight).cache == "rotated"


def test_sparse_arguments_are_timed(torch: ModuleType) -> None:
    dense = torch.eye(256, device="cuda")
    timing = timed(torch.sparse.mm, dense.to_sparse_csr(), dense)
    assert timing.cache == "flushed"
    assert torch.equal(timing.result, dense)


def test_call_that_cannot_be_captured_is_queued(torch: ModuleType) -> None:
    x = torch.ones(1 << 12, device="cuda")
    timing = timed(lambda tensor: tensor.sum().item(), x)
    assert timing.launch == "queue"
    assert timing.result == 1 << 12


def test_random_numbers_go_on_after_a_failed_capture(torch: ModuleType) -> None:
    from perfgate.measure.device import time_device

    numbers = torch.rand(1024, device="cuda")
    timing = time_device(lambda: float(torch.rand_like(numbers).sum()), budget_s=0.01)
    assert timing.launch == "queue"
    torch.manual_seed(7)
    first = torch.rand(4, device="cuda")
    torch.manual_seed(7)
    assert torch.equal(torch.rand(4, device="cuda"), first)


def test_first_graph_of_a_process_is_like_the_others(torch: ModuleType, pytester: pytest.Pytester) -> None:
    program = """
import torch
from perfgate.measure.device import time_device
x = torch.ones(1 << 18, device="cuda")
print(*(time_device(torch.neg, (x,)).median_s for _ in range(4)))
"""
    done = pytester.run(sys.executable, "-c", program)
    first, *later = map(float, done.outlines[-1].split())
    assert first == pytest.approx(sorted(later)[1], rel=0.05)


def test_memory_of_a_call_does_not_depend_on_what_others_left_free(torch: ModuleType) -> None:
    from perfgate.measure.device_memory import peak_memory

    x = torch.ones(3 << 20, dtype=torch.uint8, device="cuda")
    peaks = {peak_memory(lambda: x.clone()).peak_bytes}
    for hole in (4 << 20, 5 << 20, 6 << 20):
        around = [torch.empty(size, dtype=torch.uint8, device="cuda") for size in (7 << 20, hole, 9 << 20)]
        del around[1]
        peaks.add(peak_memory(lambda: x.clone()).peak_bytes)
    assert peaks == {3 << 20}
