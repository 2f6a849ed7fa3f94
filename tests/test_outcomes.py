"""Is what an error stands for told from its class and its text?"""

from __future__ import annotations

import pytest

from perfgate.model import Outcome
from perfgate.outcomes import classify
from perfgate.tune.lost import loses_device


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB.",
        "CUDA error: out of memory",
        "CUDA driver error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "[enforce fail] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate",
        "[enforce fail] data. DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes.",
    ],
)
def test_too_little_memory_for_torch(text: str) -> None:
    assert classify(RuntimeError(text)) is Outcome.OUT_OF_MEMORY


@pytest.mark.parametrize(
    "text",
    [
        "No available memory for the cache blocks. Try increasing `gpu_memory_utilization`.",
        "To serve at least one request with the model's max seq len (1280), (2.5 GiB KV cache is needed, which is "
        "larger than the available KV cache memory (1.1 GiB).",
        "Free memory on device cuda:0 (12.5/139.7 GiB) on startup is less than desired GPU memory utilization (0.9, "
        "125.7 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes.",
    ],
)
def test_too_little_memory_for_vllm(text: str) -> None:
    assert classify(ValueError(text)) is Outcome.OUT_OF_MEMORY
    # As the last line of a process that died of it.
    assert classify(RuntimeError(f"ValueError: {text}")) is Outcome.OUT_OF_MEMORY


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("CUDA error: an illegal memory access was encountered", Outcome.ILLEGAL_ACCESS),
        ("Triton Error [CUDA]: misaligned address", Outcome.CRASHED),
        ("CUDA error: an illegal instruction was encountered", Outcome.CRASHED),
        ("CUDA error: device-side assert triggered", Outcome.CRASHED),
        ("CUDA error: unspecified launch failure", Outcome.CRASHED),
    ],
)
def test_a_device_that_is_lost(text: str, outcome: Outcome) -> None:
    assert classify(RuntimeError(text)) is outcome
    assert loses_device(RuntimeError(text))


def test_a_device_that_is_not_lost() -> None:
    assert not loses_device(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."))


@pytest.mark.parametrize(
    "error",
    [
        ValueError("M must be at least 1"),
        KeyError("CUDA out of memory"),
        # What vLLM logs where there is enough.
        RuntimeError(
            "Free memory on device (130/139 GiB) on startup. Desired GPU memory utilization is (0.9, 125 GiB)."
        ),
    ],
)
def test_other_errors_are_failures(error: Exception) -> None:
    assert classify(error) is Outcome.FAILED
