"""What do the steps refuse, and how do they say it?"""

from __future__ import annotations

import pytest
import torch

from perf_kernels.sparse_weights import check_sparse, check_two_in_four, compress, prune_weight, slide_weight


def test_wrong_type() -> None:
    with pytest.raises(TypeError) as caught:
        prune_weight(torch.zeros(2, 4, dtype=torch.float64), 4)
    assert str(caught.value) == (
        "prune_weight: weight is torch.float64; it must be torch.int8, torch.float8_e4m3fn, torch.float8_e5m2, "
        "torch.bfloat16, torch.float16 or torch.float32"
    )


def test_wrong_dimensions() -> None:
    with pytest.raises(ValueError) as caught:
        slide_weight(torch.zeros(2, 4, 4), 4)
    assert str(caught.value) == "slide_weight: weight has 3 dimensions; it must have 2, outputs and inputs"


@pytest.mark.parametrize("group", [2, 5, 18])
def test_wrong_group(group: int) -> None:
    with pytest.raises(ValueError) as caught:
        prune_weight(torch.zeros(2, 4), group)
    assert str(caught.value) == f"prune_weight: group is {group}; it must be even, from 4 to 16"


def test_too_dense() -> None:
    weight = torch.zeros(4, 20)
    weight[2, 8:15] = 1
    with pytest.raises(ValueError) as caught:
        slide_weight(weight, 8)
    assert str(caught.value) == (
        "slide_weight: row 2, group 1 (columns 8 to 15) has 7 non-zeros; 2:8 allows 6: prune the weights first"
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_not_sparse(dtype: torch.dtype) -> None:
    """However small; -0 is a zero, and missing columns of a ragged last group are zeros too."""
    weight = torch.zeros(4, 20)
    weight[2, 8:14] = 1
    weight[3, 16:] = 1
    weight[2, 14] = -0.0
    check_sparse(weight.to(dtype), 8)
    weight[2, 15] = 1 if dtype is torch.int8 else 1e-30
    with pytest.raises(ValueError) as caught:
        check_sparse(weight.to(dtype), 8)
    assert str(caught.value) == (
        "check_sparse: row 2, group 1 (columns 8 to 15) has 7 non-zeros; 2:8 allows 6: prune the weights first"
    )


def test_not_two_in_four() -> None:
    weight = torch.zeros(3, 12)
    weight[1, 5:8] = -1.0
    with pytest.raises(ValueError) as caught:
        check_two_in_four(weight)
    assert str(caught.value) == "check_two_in_four: row 1, columns 4 to 7 hold 3 non-zeros; 2:4 allows 2"
    with pytest.raises(ValueError) as caught:
        check_two_in_four(torch.zeros(3, 6))
    assert str(caught.value) == "check_two_in_four: weight has 6 columns; it must have a multiple of 4"


def test_compressing_on_a_cpu() -> None:
    with pytest.raises(ValueError) as caught:
        compress(torch.zeros(32, 32))
    assert str(caught.value) == (
        "compress: weight is on cpu; it must be on an NVIDIA GPU, with a torch that has cuSPARSELt"
    )


@pytest.mark.sm80
def test_compressing_what_cannot_be() -> None:
    with pytest.raises(ValueError) as caught:
        compress(torch.zeros(48, 32, dtype=torch.int8, device="cuda"))
    assert str(caught.value) == "compress: weight is [48, 32]; rows and columns must be multiples of 32"
    with pytest.raises(ValueError, match="2:4 allows 2"):
        compress(torch.ones(32, 32, dtype=torch.int8, device="cuda"))
