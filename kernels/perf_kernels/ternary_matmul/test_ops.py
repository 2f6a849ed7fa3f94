"""Does the product work inside a compiled graph, and does it refuse what it cannot multiply?"""

from __future__ import annotations

import os

import pytest
import torch

from perf_kernels.compiled_tests import BACKEND
from perf_kernels.ternary_matmul import ternary_matmul
from perf_kernels.ternary_matmul.inputs import random_layer, random_tokens
from perf_kernels.undeclared_tests import any_type_of_a_ternary_layer, small_ternary_layer

pytestmark = [small_ternary_layer, any_type_of_a_ternary_layer]

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"


@pytest.mark.parametrize("tokens", [1, 3])
def test_compiles_into_a_graph(tokens: int) -> None:
    layer = random_layer(200, 24, DEVICE, seed=1)
    x = random_tokens(tokens, 200, torch.float32, DEVICE, seed=2)
    bias = torch.ones(24, device=DEVICE)

    def model(x: torch.Tensor) -> torch.Tensor:
        return ternary_matmul(x * 2, layer.packed, layer.gamma, bias).relu()

    compiled = torch.compile(model, backend=BACKEND, fullgraph=True)
    assert torch.equal(compiled(x), model(x))


def test_operator() -> None:
    layer = random_layer(100, 20, DEVICE, seed=1)
    x = random_tokens(2, 100, torch.float32, DEVICE, seed=2)
    operator = torch.ops.perf_kernels.ternary_matmul.default
    for arguments in (
        (x, layer.packed, layer.gamma, None, torch.float32),
        (x[0], layer.packed, layer.gamma, x.new_ones(20), torch.bfloat16),
    ):
        torch.library.opcheck(operator, arguments)


def test_operator_on_tensors_without_memory() -> None:
    meta = {"device": "meta"}
    y = torch.ops.perf_kernels.ternary_matmul(
        torch.empty(2, 3, 2560, dtype=torch.bfloat16, **meta),
        torch.empty(6912, 640, dtype=torch.uint8, **meta),
        torch.empty((), **meta),
        None,
        torch.float16,
    )
    assert (y.shape, y.dtype, y.device.type) == ((2, 3, 6912), torch.float16, "meta")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"x": torch.zeros(2, 300, dtype=torch.float64, device=DEVICE)},
            TypeError,
            "ternary_matmul: x is torch.float64; it must be torch.bfloat16, torch.float16 or torch.float32",
        ),
        (
            {"out_dtype": torch.int8},
            TypeError,
            "ternary_matmul: out_dtype is torch.int8; it must be torch.bfloat16, torch.float16, torch.float32 or "
            "torch.int32",
        ),
        (
            {"x": torch.zeros((), device=DEVICE)},
            ValueError,
            "ternary_matmul: x has no dimensions; it must have at least 1, its columns",
        ),
        (
            {"x": torch.zeros(1, 1, device=DEVICE).expand(1, 2**17 + 1)},
            ValueError,
            "ternary_matmul: x has rows of 131073 elements; at most 131072 are supported",
        ),
        (
            {"packed": torch.zeros(4, 75, dtype=torch.uint8, device=DEVICE)},
            ValueError,
            "ternary_matmul: packed must be [N, 128] torch.uint8 on {device}, contiguous, for x with 300 columns; it "
            "is [4, 75] torch.uint8 on {device} with strides [75, 1]",
        ),
        (
            {"gamma": torch.zeros(4, device=DEVICE)},
            ValueError,
            "ternary_matmul: gamma must be one torch.float32 on {device}; it is [4] torch.float32 on {device}",
        ),
        (
            {"bias": torch.zeros(5, device=DEVICE)},
            ValueError,
            "ternary_matmul: bias must be [4] torch.float32 on {device}, contiguous; it is [5] torch.float32 on "
            "{device} with strides [1]",
        ),
        (
            {"bias": torch.zeros(4, device=DEVICE), "out_dtype": torch.int32},
            ValueError,
            "ternary_matmul: bias must be None for torch.int32, contiguous; it is [4] torch.float32 on {device} with "
            "strides [1]",
        ),
    ],
    ids=["type", "out type", "no dimensions", "too wide", "packed", "gamma", "bias", "bias of sums"],
)
def test_errors(change: dict[str, object], error: type[Exception], message: str) -> None:
    arguments = {
        "x": torch.zeros(2, 300, device=DEVICE),
        "packed": torch.zeros(4, 128, dtype=torch.uint8, device=DEVICE),
        "gamma": torch.ones((), device=DEVICE),
    } | change
    with pytest.raises(error) as caught:
        ternary_matmul(**arguments)
    assert str(caught.value) == message.format(device=torch.zeros(1, device=DEVICE).device)


def test_wrong_device() -> None:
    with pytest.raises(ValueError) as caught:
        ternary_matmul(torch.zeros(2, 2, device="meta"), torch.zeros(4, 64, dtype=torch.uint8), torch.ones(()))
    hint = {
        "cpu": "with TRITON_INTERPRET=1 it must be on the CPU",
        "cuda": "it must be on a GPU; on a CPU the kernel runs in Triton's interpreter, with TRITON_INTERPRET=1",
    }[DEVICE]
    assert str(caught.value) == f"ternary_matmul: x is on meta; {hint}"
