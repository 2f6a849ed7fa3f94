"""Do torchao and vLLM, which share no code with ours, give the same codes and scales?

Both multiply by a rounded reciprocal of the scale; ours divides. Quotients that are near a tie may round the other way.
"""

from __future__ import annotations

import pytest
import torch

from perf_kernels.row_inputs import random_rows
from perf_kernels.row_quantization import quantize_rows
from perf_kernels.row_quantization.reference import quotients
from perf_kernels.row_tests import DEVICE, FP8, HAS_FP8
from perf_kernels.undeclared_tests import few_short_rows

#: How far from a tie a quotient up to 127 may be moved by rounding the scale, its inverse and the product to fp32.
NEAR_A_TIE = 127 * 2**-22
#: In bf16 one element in a thousand is half the largest of its row: a tie.
TIES = 3e-3


def assert_agree(x: torch.Tensor, theirs: torch.Tensor, their_scale: torch.Tensor) -> None:
    q, scale = quantize_rows(x)
    torch.testing.assert_close(their_scale.flatten().float(), scale, rtol=1e-6, atol=0)
    steps = (theirs.int() - q.int()).abs()
    assert steps.max() <= 1
    near = (quotients(x, torch.int8).abs() % 1 - 0.5).abs() <= NEAR_A_TIE
    assert near[steps != 0].all()
    assert (steps != 0).float().mean() <= TIES


def assert_agree_in_fp8(x: torch.Tensor, theirs: torch.Tensor, their_scale: torch.Tensor) -> None:
    q, scale = quantize_rows(x, FP8)
    torch.testing.assert_close(their_scale.flatten().float(), scale, rtol=1e-6, atol=0)
    # Codes of one sign stand in the order of their bits: near a tie theirs may be the next one.
    steps = (theirs.view(torch.int8).int() - q.view(torch.int8).int()).abs()
    assert steps.max() <= 1
    assert (steps != 0).float().mean() <= TIES


@few_short_rows
@pytest.mark.parametrize(("rows", "width"), [(7, 131), (16, 3584)])
def test_torchao(rows: int, width: int) -> None:
    primitives = pytest.importorskip(
        "torchao.quantization.quant_primitives", reason="torchao is not installed: pip install torchao"
    )
    x = random_rows(rows, width, torch.bfloat16, DEVICE, seed=31)
    block, floats = (1, width), x.float()
    their_scale, zero = primitives.choose_qparams_affine(
        floats, primitives.MappingType.SYMMETRIC, block, torch.int8, quant_min=-127, quant_max=127
    )
    theirs = primitives.quantize_affine(floats, block, their_scale, zero, torch.int8, quant_min=-127, quant_max=127)
    assert not zero.any()
    assert_agree(x, theirs, their_scale)


@few_short_rows
@pytest.mark.skipif(not HAS_FP8, reason="this GPU has no FP8")
@pytest.mark.parametrize(("rows", "width"), [(7, 131), (16, 3584)])
def test_torchao_fp8(rows: int, width: int) -> None:
    primitives = pytest.importorskip(
        "torchao.quantization.quant_primitives", reason="torchao is not installed: pip install torchao"
    )
    x = random_rows(rows, width, torch.bfloat16, DEVICE, seed=34)
    their_scale = primitives._choose_scale_float8(x.float(), (1, width), float8_dtype=FP8)
    theirs = primitives._quantize_affine_float8(x.float(), their_scale, FP8)
    assert_agree_in_fp8(x, theirs, their_scale)


@few_short_rows
@pytest.mark.cuda
@pytest.mark.parametrize(("rows", "width"), [(7, 131), (512, 18944)])
def test_vllm(rows: int, width: int) -> None:
    operations = pytest.importorskip("vllm._custom_ops", reason="vllm is not installed: pip install vllm")
    x = random_rows(rows, width, torch.bfloat16, "cuda", seed=32)
    theirs, their_scale, _ = operations.scaled_int8_quant(x)
    assert_agree(x, theirs, their_scale)


@few_short_rows
@pytest.mark.cuda
@pytest.mark.skipif(not HAS_FP8, reason="this GPU has no FP8")
@pytest.mark.parametrize(("rows", "width"), [(7, 131), (512, 18944)])
def test_vllm_fp8(rows: int, width: int) -> None:
    operations = pytest.importorskip("vllm._custom_ops", reason="vllm is not installed: pip install vllm")
    x = random_rows(rows, width, torch.bfloat16, "cuda", seed=35)
    theirs, their_scale = operations.scaled_fp8_quant(x, use_per_token_if_dynamic=True)
    assert_agree_in_fp8(x, theirs, their_scale)
