"""Do all implementations agree, and does the wrapper call the one that it is told to call?"""

from __future__ import annotations

import inspect
import sys
import types
from typing import Any

import pytest
import torch

from perf_kernels.linear_attention import (
    IMPLEMENTATIONS,
    chunked_reference,
    linear_attention,
    recurrent_reference,
    relative_rms,
)
from perf_kernels.linear_attention.fla_tests import hide_fla, import_fla
from perf_kernels.linear_attention.inputs import random_heads, random_state
from perf_kernels.linear_attention.oracle import FLOOR
from perf_kernels.linear_attention.strategies import DEVICE, FP64, carried
from perf_kernels.undeclared_tests import any_state, any_type_of_tokens, few_tokens


@any_type_of_tokens
@few_tokens
@pytest.mark.parametrize("name", [name for name in IMPLEMENTATIONS if not name.startswith("fla_")])
@pytest.mark.parametrize("normalize", [False, True])
def test_implementations_agree(name: str, normalize: bool) -> None:
    inputs = random_heads(1, 20, 2, 16, 8, torch.float32, DEVICE, positive=normalize)
    state = random_state(1, 2, 16, 8, DEVICE, normalize=normalize)
    options = {"initial_state": state, "output_final_state": True, "normalize": normalize}
    result = linear_attention(*inputs, implementation=name, **options)
    expected, expected_state = recurrent_reference(*inputs, **options, dtype=FP64)
    assert result.implementation == name
    assert relative_rms(result.output, expected) <= FLOOR[torch.float32]
    assert relative_rms(carried(result.final_state, 0), carried(expected_state, 0)) <= FLOOR[torch.float32]


@pytest.fixture(scope="module")
def fla() -> Any:
    import_fla("fla.ops.linear_attn.naive")
    return import_fla("fla.ops.linear_attn")


@pytest.mark.parametrize("normalize", [False, True])
def test_references_agree_with_those_of_fla(fla: Any, normalize: bool) -> None:
    inputs = random_heads(2, 128, 2, 8, 5, torch.float32, seed=3, positive=normalize)
    state = random_state(2, 2, 8, 5, normalize=normalize)
    options = {"initial_state": state, "output_final_state": True, "normalize": normalize}
    expected = fla.naive.naive_recurrent_linear_attn(*inputs, **options)
    for reference in (recurrent_reference, chunked_reference):
        torch.testing.assert_close(reference(*inputs, **options), expected, rtol=1e-4, atol=1e-4)
    # fla's chunked one takes neither a state nor a ragged length; it scales q in place of the scores.
    expected = fla.naive.naive_chunk_linear_attn(*inputs, normalize=normalize)
    torch.testing.assert_close(chunked_reference(*inputs, normalize=normalize)[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["chunk", "fused_chunk", "fused_recurrent"])
def test_calls_bind_to_the_functions_of_fla(fla: Any, name: str) -> None:
    parameters = inspect.signature(getattr(fla, f"{name}_linear_attn")).parameters
    assert list(parameters)[:3] == ["q", "k", "v"]
    assert {"scale", "initial_state", "output_final_state", "normalize"} <= set(parameters)


@pytest.mark.parametrize("name", ["fla_chunk", "fla_fused_chunk", "fla_fused_recurrent"])
def test_arguments_that_fla_gets(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    from perf_kernels.linear_attention import implementations

    seen: list[Any] = []

    def record(*arguments: Any, **options: Any) -> tuple[torch.Tensor, Any]:
        seen.extend([arguments, options])
        return arguments[2].float(), (None, "sum of keys")

    module = types.ModuleType("fla.ops.linear_attn")
    setattr(module, f"{name.removeprefix('fla_')}_linear_attn", record)
    monkeypatch.setitem(sys.modules, "fla.ops.linear_attn", module)
    monkeypatch.setattr(implementations, "require_gpu", lambda *_: None)
    q, k, v = random_heads(1, 3, 1, 16)
    result = linear_attention(q, k, v, implementation=name, normalize=True)
    assert (result.implementation, result.final_state, result.output.dtype) == (name, None, torch.bfloat16)
    assert all(one is other for one, other in zip(seen[0], (q, k, v), strict=True))
    assert seen[1] == {"scale": 0.25, "initial_state": None, "output_final_state": False, "normalize": True}


@pytest.mark.skipif(DEVICE == "cuda", reason="on a GPU the default is fla's")
def test_default_on_a_cpu_is_reported() -> None:
    assert linear_attention(*random_heads(1, 3, 1, 16)).implementation == "naive_chunk"


def test_fla_on_a_cpu() -> None:
    with pytest.raises(ValueError) as caught:
        linear_attention(*random_heads(1, 3, 1, 16), implementation="fla_fused_chunk")
    assert str(caught.value) == (
        "linear_attention: fla_fused_chunk runs on a GPU, and q is on cpu\n"
        "hint: on a CPU choose naive_chunk or naive_recurrent"
    )


def test_unknown_implementation() -> None:
    with pytest.raises(ValueError) as caught:
        linear_attention(*random_heads(1, 3, 1, 16), implementation="flash")
    assert str(caught.value) == (
        "linear_attention: implementation is 'flash'; it must be one of chunk, fla_chunk, fla_fused_chunk, "
        "fla_fused_recurrent, naive_chunk, naive_recurrent"
    )


@pytest.mark.parametrize("missing", ["fla", "einops"])
def test_fla_missing(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    from perf_kernels.linear_attention import implementations

    hide_fla(monkeypatch, missing)
    monkeypatch.setattr(implementations, "require_gpu", lambda *_: None)
    with pytest.raises(ModuleNotFoundError) as caught:
        linear_attention(*random_heads(1, 3, 1, 16), implementation="fla_chunk")
    assert str(caught.value) == (
        f"linear_attention: implementation 'fla_chunk' needs fla, and {missing} is not installed\n"
        "hint: pip install fla-core, or choose another implementation"
    )


@few_tokens
@any_state
@pytest.mark.cuda
@pytest.mark.parametrize("name", ["chunk", "fla_chunk", "fla_fused_chunk", "fla_fused_recurrent"])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("shape", [(8, 1024, 8, 128, 128), (1, 5000, 2, 128, 64), (2, 300, 4, 64, 128)], ids=str)
def test_kernels_equal_the_reference(shape: tuple[int, ...], normalize: bool, name: str) -> None:
    if name.startswith("fla_"):
        pytest.importorskip("fla", reason="fla is not installed: pip install fla-core")
    batch, _, heads, keys, values = shape
    inputs = random_heads(*shape, torch.bfloat16, "cuda", seed=6, positive=normalize)
    state = random_state(batch, heads, keys, values, "cuda", normalize=normalize)
    options = {"initial_state": state, "output_final_state": True, "normalize": normalize}
    result = linear_attention(*inputs, implementation=name, **options)
    expected, expected_state = chunked_reference(*inputs, **options, dtype=FP64)
    # fla sums the keys up in bf16.
    assert relative_rms(result.output, expected) <= (0.02 if normalize and name.startswith("fla_") else 0.005)
    assert relative_rms(carried(result.final_state, 0), carried(expected_state, 0)) <= 0.005
