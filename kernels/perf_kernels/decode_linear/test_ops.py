"""Does the product work inside a compiled graph, and does it refuse what it cannot multiply?"""

from __future__ import annotations

import pytest
import torch

from perf_kernels.compiled_tests import BACKEND
from perf_kernels.decode_linear import decode_linear
from perf_kernels.decode_linear.inputs import Format, random_tokens, random_weights
from perf_kernels.target import DEVICE_HINT, DEVICE_TYPE
from perf_kernels.undeclared_tests import any_parts_of_a_layer, narrow_layer

pytestmark = [narrow_layer, any_parts_of_a_layer]

DEVICE = DEVICE_TYPE


@pytest.mark.parametrize("tokens", [1, 3, 33])
def test_compiles_into_a_graph(tokens: int) -> None:
    values, scale = random_weights(24, 64, "int8", torch.float32, DEVICE)
    x = random_tokens(tokens, 64, torch.float32, DEVICE)

    def model(x: torch.Tensor) -> torch.Tensor:
        return decode_linear(x * 2, values, scale, gated=True, codes=torch.int8).relu()

    compiled = torch.compile(model, backend=BACKEND, fullgraph=True)
    assert torch.equal(compiled(x), model(x))


@pytest.mark.parametrize("form", ["dense", "int4"])
def test_operator(form: Format) -> None:
    values, scale = random_weights(12, 64, form, torch.float32, DEVICE, group=32)
    x = random_tokens(2, 64, torch.float32, DEVICE)
    operator = torch.ops.perf_kernels.decode_linear.default
    torch.library.opcheck(operator, (x, values, scale, x[0].clone(), 1e-6, None, True, None, torch.bfloat16))
    torch.library.opcheck(operator, (x, values, scale, None, 1e-6, x.new_ones(2, 12), False, torch.int8, torch.float32))


def test_operator_on_tensors_without_memory() -> None:
    y = torch.ops.perf_kernels.decode_linear(
        torch.empty(2, 3, 2560, dtype=torch.bfloat16, device="meta"),
        torch.empty(19456, 320, dtype=torch.int32, device="meta"),
        torch.empty(19456, 20, dtype=torch.int32, device="meta"),
        None,
        1e-6,
        None,
        True,
        None,
        torch.float16,
    )
    assert (y.shape, y.dtype, y.device.type) == ((2, 3, 9728), torch.float16, "meta")


def weights(form: Format) -> dict[str, object]:
    values, scale = random_weights(4, 256, form, torch.float32, DEVICE)
    return {"values": values, "scale": scale}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"x": torch.zeros(2, 256, dtype=torch.float64, device=DEVICE)},
            TypeError,
            "x is torch.float64; it must be torch.bfloat16, torch.float16 or torch.float32",
        ),
        (
            {"out_dtype": torch.int8},
            TypeError,
            "out_dtype is torch.int8; it must be torch.bfloat16, torch.float16 or torch.float32",
        ),
        (
            {"codes": torch.int16},
            TypeError,
            "codes is torch.int16; it must be torch.int8 or torch.float8_e4m3fn",
        ),
        (
            {"x": torch.zeros(65, 256, device=DEVICE)},
            ValueError,
            "x is [65, 256]; it must hold 1 to 64 tokens with columns",
        ),
        (
            {"values": torch.zeros(4, 256, dtype=torch.int16, device=DEVICE)},
            TypeError,
            "values are torch.int16; they must be torch.float32 as x, torch.int8, torch.float8_e4m3fn, or torch.int32 "
            "for packed weights",
        ),
        (
            {"values": torch.zeros(4, 255, device=DEVICE)},
            ValueError,
            "values must be [N, 256] on {device}, contiguous, for x with 256 columns; they are [4, 255] torch.float32 "
            "on {device} with strides [255, 1]",
        ),
        (
            {"values": torch.zeros(3, 256, device=DEVICE), "gated": True},
            ValueError,
            "values have 3 rows; gated takes an even number, gates before the others",
        ),
        (
            {"scale": torch.ones(4, device=DEVICE)},
            ValueError,
            "scale must be None for weights of x's type; it is [4] torch.float32 on {device} with strides [1]",
        ),
        (
            weights("int8") | {"scale": None},
            ValueError,
            "scale must be [4] torch.float32 on {device}, contiguous; it is None",
        ),
        (
            weights("int4") | {"scale": torch.zeros(4, 16, dtype=torch.int32, device=DEVICE)},
            ValueError,
            "scale must be [4, 256 / G] torch.int32 on {device}, contiguous, G a multiple of 32; it is [4, 16] "
            "torch.int32 on {device} with strides [16, 1]",
        ),
        (
            {"norm": torch.ones(1, 256, device=DEVICE)},
            ValueError,
            "norm must be [256] torch.float32 on {device}, contiguous; it is [1, 256] torch.float32 on {device} with "
            "strides [256, 1]",
        ),
        (
            {"residual": torch.ones(2, 5, device=DEVICE)},
            ValueError,
            "residual must be [2, 4] torch.float32 on {device}, contiguous; it is [2, 5] torch.float32 on {device} "
            "with strides [5, 1]",
        ),
    ],
    ids=lambda value: "" if not isinstance(value, str) else value.split(" ")[0],
)
def test_errors(change: dict[str, object], error: type[Exception], message: str) -> None:
    arguments = {"x": torch.zeros(2, 256, device=DEVICE), "values": torch.zeros(4, 256, device=DEVICE)} | change
    with pytest.raises(error) as caught:
        decode_linear(**arguments)
    assert str(caught.value) == "decode_linear: " + message.format(device=torch.zeros(1, device=DEVICE).device)


def test_wrong_device() -> None:
    with pytest.raises(ValueError) as caught:
        decode_linear(torch.zeros(2, 128, device="meta"), torch.zeros(4, 128))
    assert str(caught.value) == f"decode_linear: x is on meta; {DEVICE_HINT}"
