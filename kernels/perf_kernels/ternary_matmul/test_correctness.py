"""Does the kernel give what the reference gives, and is what it rests on true: packing, quantisation, exact sums?"""

from __future__ import annotations

import itertools
import math
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perf_kernels.target import Target
from perf_kernels.ternary_matmul import (
    LaunchConfig,
    bytes_moved,
    flops,
    launch_config,
    pack_ternary,
    packed_bytes,
    quantize_tokens,
    quantize_weight,
    ternary_matmul,
    ternary_matmul_reference,
    unpack_ternary,
)
from perf_kernels.ternary_matmul.inputs import LAYERS, random_layer, random_tokens
from perf_kernels.ternary_matmul.launch import quantize_tile

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
H200 = Target("cuda", 90, 32)
FLOATS = [torch.bfloat16, torch.float16, torch.float32]

examples = settings.get_profile("perf_kernels")
#: For examples that run the kernel in the interpreter, which takes a quarter of a second each.
few = settings(examples, max_examples=min(examples.max_examples, 12) if DEVICE == "cpu" else examples.max_examples)
seeds = st.integers(0, 2**31 - 1)
widths = st.one_of(st.integers(1, 80), st.integers(1, 1100), st.sampled_from([255, 256, 257, 512, 1024]))
configs = st.one_of(
    st.none(),
    st.builds(
        LaunchConfig,
        num_warps=st.sampled_from([1, 2, 4]),
        outputs=st.sampled_from([16, 32]),
        step=st.sampled_from([1, 5, 16]),
        slices=st.sampled_from([1, 2, 4]),
        tokens=st.sampled_from([1, 8, 16]),
    ),
)


def laid_out(x: torch.Tensor, layout: str) -> torch.Tensor:
    """Give a tensor equal to ``x`` in value with the strides that ``layout`` names."""
    tokens, width = x.shape
    if layout == "contiguous":
        return x.contiguous()
    if layout == "transposed":
        return x.t().contiguous().t()
    shape, start, step = {
        "padded rows": ((tokens, width + 16), 0, 1),
        "offset": ((tokens, width + 5), 5, 1),
        "every other column": ((tokens, 2 * width), 0, 2),
    }[layout]
    # NaN around the values: reading any of it would poison a row.
    room = torch.full(shape, math.nan, dtype=x.dtype, device=x.device)
    view = room[:, start : start + step * width : step]
    view.copy_(x)
    return view


layouts = st.sampled_from(["contiguous", "transposed", "padded rows", "offset", "every other column"])


def assert_bits_equal(y: torch.Tensor, expected: torch.Tensor) -> None:
    assert (y.shape, y.dtype) == (expected.shape, expected.dtype)
    assert torch.equal(y.isnan(), expected.isnan())
    numbers = ~expected.isnan()
    different = (y != expected) & numbers
    assert not different.any(), f"{int(different.sum())} differ, first at {different.nonzero()[0].tolist()}"


@few
@given(st.sampled_from(FLOATS), st.sampled_from([1, 1, 2, 5, 17]), widths, st.integers(1, 40), layouts, configs, seeds)
def test_sums_equal_the_reference_bit_for_bit(
    dtype: torch.dtype,
    tokens: int,
    width: int,
    outputs: int,
    layout: str,
    config: LaunchConfig | None,
    seed: int,
) -> None:
    layer = random_layer(width, outputs, DEVICE, seed)
    x = laid_out(random_tokens(tokens, width, dtype, DEVICE, seed + 1), layout)
    sums = ternary_matmul(x, layer.packed, layer.gamma, out_dtype=torch.int32, config=config)
    assert_bits_equal(sums, ternary_matmul_reference(x, layer.codes, layer.gamma, out_dtype=torch.int32))


@few
@given(
    st.sampled_from(FLOATS),
    st.sampled_from([None, *FLOATS]),
    st.sampled_from([1, 3]),
    widths,
    st.integers(1, 40),
    st.booleans(),
    st.integers(-30, 10),
    seeds,
)
def test_outputs_equal_the_reference(
    dtype: torch.dtype,
    out_dtype: torch.dtype | None,
    tokens: int,
    width: int,
    outputs: int,
    with_bias: bool,
    magnitude: int,
    seed: int,
) -> None:
    layer = random_layer(width, outputs, DEVICE, seed)
    x = (random_tokens(tokens, width, torch.float32, DEVICE, seed) * 2.0**magnitude).to(dtype)
    bias = random_tokens(1, outputs, dtype, DEVICE, seed + 2)[0] if with_bias else None
    y = ternary_matmul(x, layer.packed, layer.gamma, bias, out_dtype=out_dtype)
    assert_bits_equal(y, ternary_matmul_reference(x, layer.codes, layer.gamma, bias, out_dtype))


@pytest.mark.parametrize("tokens", [1, 9])
@pytest.mark.parametrize("width", [8192, 9000])
def test_wide_rows(width: int, tokens: int) -> None:
    """One token: the widest row that is handled in one go, and one that takes a loop."""
    layer = random_layer(width, 17, DEVICE, seed=width)
    x = random_tokens(tokens, width, torch.bfloat16, DEVICE, seed=1)
    sums = ternary_matmul(x, layer.packed, layer.gamma, out_dtype=torch.int32)
    assert_bits_equal(sums, ternary_matmul_reference(x, layer.codes, layer.gamma, out_dtype=torch.int32))


@pytest.mark.parametrize("tokens", [2, 8, 16, 33, 64])
def test_batches(tokens: int) -> None:
    layer = random_layer(600, 50, DEVICE, seed=tokens)
    x = random_tokens(tokens, 600, torch.float16, DEVICE, seed=2)
    assert_bits_equal(
        ternary_matmul(x, layer.packed, layer.gamma), ternary_matmul_reference(x, layer.codes, layer.gamma)
    )


@pytest.mark.parametrize("tokens", [1, 2])
def test_largest_sums(tokens: int) -> None:
    """All weights and all activations at one end: nothing wraps or saturates, in any field."""
    for sign, code in itertools.product([-1, 1], [-1, 1]):
        codes = torch.full((16, 2048), code, dtype=torch.int8, device=DEVICE)
        x = torch.full((tokens, 2048), 3.0 * sign, device=DEVICE)
        gamma = torch.tensor(1.0, device=DEVICE)
        sums = ternary_matmul(x, pack_ternary(codes), gamma, out_dtype=torch.int32)
        assert torch.equal(sums, torch.full_like(sums, 127 * 2048 * sign * code))


@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_awkward_tokens(dtype: torch.dtype, tokens: int) -> None:
    layer = random_layer(300, 20, DEVICE, seed=5)
    normal = random_tokens(tokens, 300, dtype, DEVICE, seed=6)
    tiny = normal * 1e-7
    for x in (torch.zeros_like(normal), -torch.zeros_like(normal), tiny, normal.sign() * torch.finfo(dtype).max):
        y = ternary_matmul(x, layer.packed, layer.gamma)
        assert y.isfinite().all() or dtype is torch.float16
        assert_bits_equal(y, ternary_matmul_reference(x, layer.codes, layer.gamma))
    for value, column in ((torch.inf, 0), (-torch.inf, 299), (torch.nan, 150)):
        x = normal.clone()
        x[-1, column] = value
        assert ternary_matmul(x, layer.packed, layer.gamma)[-1].isnan().all(), "the damage must stay visible"
        sums = ternary_matmul(x, layer.packed, layer.gamma, out_dtype=torch.int32)
        assert_bits_equal(sums, ternary_matmul_reference(x, layer.codes, layer.gamma, out_dtype=torch.int32))
        assert sums[-1].count_nonzero() == 0


@few
@given(st.integers(1, 600), st.integers(2, 12), layouts, seeds)
def test_a_token_does_not_depend_on_its_position(width: int, tokens: int, layout: str, seed: int) -> None:
    """The launch for one token and the one for many give the same bits, whatever the strides."""
    layer = random_layer(width, 21, DEVICE, seed)
    row = random_tokens(1, width, torch.bfloat16, DEVICE, seed)
    alone = ternary_matmul(row, layer.packed, layer.gamma)
    y = ternary_matmul(laid_out(row.expand(tokens, width), layout), layer.packed, layer.gamma)
    assert torch.equal(y, alone.expand(tokens, 21))


def test_leading_dimensions() -> None:
    layer = random_layer(100, 20, DEVICE)
    x = random_tokens(6, 100, torch.float32, DEVICE)
    flat = ternary_matmul(x, layer.packed, layer.gamma)
    assert torch.equal(ternary_matmul(x.view(2, 3, 100), layer.packed, layer.gamma), flat.view(2, 3, 20))
    assert torch.equal(ternary_matmul(x[4], layer.packed, layer.gamma), flat[4])


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (2, 0, 7)], ids=str)
def test_empty(shape: tuple[int, ...]) -> None:
    layer = random_layer(max(shape[-1], 1), 4, DEVICE)
    packed = layer.packed if shape[-1] else layer.packed[:, :0].contiguous()
    bias = torch.ones(4, device=DEVICE)
    y = ternary_matmul(torch.empty(shape, device=DEVICE), packed, layer.gamma, bias)
    assert torch.equal(y, torch.ones((*shape[:-1], 4), device=DEVICE))


@examples
@given(st.integers(1, 5), st.integers(1, 600), seeds)
def test_unpacking_undoes_packing(outputs: int, width: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(-1, 2, (outputs, width), dtype=torch.int8, generator=generator).to(DEVICE)
    packed = pack_ternary(codes)
    assert (packed.dtype, packed.shape) == (torch.uint8, (outputs, packed_bytes(width)))
    assert torch.equal(unpack_ternary(packed, width), codes)


def test_packing_is_a_bijection() -> None:
    """All 81 combinations of four weights give different bytes, and each byte gives its combination."""
    codes = torch.zeros(81, 256, dtype=torch.int8)
    codes[:, ::64] = torch.tensor(list(itertools.product([-1, 0, 1], repeat=4)), dtype=torch.int8)
    packed = pack_ternary(codes)
    assert packed[:, 0].unique().numel() == 81
    assert torch.equal(pack_ternary(unpack_ternary(packed, 256)), packed)


def test_packed_layout() -> None:
    """As documented: three fields hold w + 1, the highest two's complement; byte j holds columns j, 64 + j, ..."""
    codes = torch.zeros(1, 257, dtype=torch.int8)
    codes[0, [0, 64, 128, 192]] = torch.tensor([1, -1, 0, -1], dtype=torch.int8)
    codes[0, 63] = 1
    packed = pack_ternary(codes)
    empty = 0b00_01_01_01
    assert packed.shape == (1, 128)
    assert packed[0, :2].tolist() == [0b11_01_00_10, empty]
    assert packed[0, 62:66].tolist() == [empty, 0b00_01_01_10, empty, empty]


def test_packing_rejects_other_codes() -> None:
    codes = torch.zeros(3, 4, dtype=torch.int8)
    codes[1, 2] = -2
    with pytest.raises(ValueError) as caught:
        pack_ternary(codes)
    assert str(caught.value) == "pack_ternary: codes[1, 2] is -2; codes must be -1, 0 or 1"


def test_quantize_weight() -> None:
    codes, gamma = quantize_weight(torch.tensor([[0.5, -0.5, 0.1], [2.0, -0.24, 0.26]]))
    assert gamma.item() == pytest.approx(0.6)
    assert codes.tolist() == [[1, -1, 0], [1, 0, 0]]
    codes, gamma = quantize_weight(torch.full((2, 2), 1e-7))
    assert gamma.item() == pytest.approx(1e-5)
    assert codes.count_nonzero() == 0


def test_quantize_tokens() -> None:
    q, scale = quantize_tokens(torch.tensor([[127.0, -63.5, 0.5, 1.5], [0.0, 1e-6, -1e-6, 0.0]]))
    assert scale.tolist() == [1.0, pytest.approx(127e5)]
    assert q.tolist() == [[127, -64, 0, 2], [0, 13, -13, 0]]


def test_quantisation_against_other_arithmetic() -> None:
    """Rounding the product x s to fp32 before it is rounded to an integer changes codes only at ties."""
    x = random_tokens(64, 2560, torch.float32, DEVICE, seed=9)
    q, scale = quantize_tokens(x)
    product = x * scale[:, None]
    different = q != product.round().to(torch.int8)
    assert different.float().mean() <= 1e-4
    assert ((product[different] % 1 - 0.5).abs() <= 2**-16).all()


@pytest.mark.parametrize("tokens", [1, 4])
def test_approximates_the_ternary_layer(tokens: int) -> None:
    """Against the product with unquantised activations: half a step of each activation, and the output's rounding."""
    layer = random_layer(512, 32, DEVICE, seed=3)
    x = random_tokens(tokens, 512, torch.float32, DEVICE, seed=4)
    exact = x.double() @ (layer.codes.double() * layer.gamma.double()).t()
    y = ternary_matmul(x, layer.packed, layer.gamma)
    step = x.abs().amax(dim=1, keepdim=True).double() / 127
    bound = 0.5001 * step * layer.codes.abs().sum(dim=1).double() * layer.gamma.double() + exact.abs() * 2**-22
    assert ((y.double() - exact).abs() <= bound).all()


@pytest.mark.parametrize("tokens", [1, 3])
def test_compiles_into_a_graph(tokens: int) -> None:
    layer = random_layer(200, 24, DEVICE, seed=1)
    x = random_tokens(tokens, 200, torch.float32, DEVICE, seed=2)
    bias = torch.ones(24, device=DEVICE)

    def model(x: torch.Tensor) -> torch.Tensor:
        return ternary_matmul(x * 2, layer.packed, layer.gamma, bias).relu()

    # The backend that keeps the graph as it is: whether an operator can be captured does not depend on a compiler.
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
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


@examples
@given(
    st.integers(1, 200),
    st.integers(1, 2**18),
    st.integers(1, 2**17),
    st.sampled_from([H200, Target("cuda", 80, 32), Target("hip", "gfx942", 64), Target("hip", "gfx1100", 32)]),
)
def test_launch_covers_the_product(tokens: int, outputs: int, width: int, target: Target) -> None:
    config = launch_config(tokens, outputs, width, target)
    assert 1 <= config.step <= config.outputs <= 64
    blocks = -(-width // 256)
    assert (config.tiles(width) - 1) * config.slices < blocks <= config.tiles(width) * config.slices
    assert config.num_warps <= config.slices, "a warp without a slice would repeat another's work"
    for number in (config.num_warps, config.outputs, config.slices, config.tokens):
        assert number.bit_count() == 1
    tile, warps = quantize_tile(width)
    assert tile % 256 == 0
    assert warps * 32 * 8 <= max(tile, 256)


def test_layers_of_the_model_take_one_pass() -> None:
    for inputs, outputs in LAYERS.values():
        config = launch_config(1, outputs, inputs, H200)
        assert config.tiles(inputs) == 1
        # One program on each multiprocessor of a large GPU, with equal shares.
        assert -(-outputs // config.step) == 128


def test_work() -> None:
    assert packed_bytes(6912) == 1728
    assert bytes_moved(1, 2560, 6912, 2) == 2560 * 1728 + (6912 + 2560) * 2 + 4
    assert bytes_moved(2, 6912, 2560, 4, bias=True) == 6912 * 640 + 2 * (2560 + 6912) * 4 + 6912 * 4 + 4
    assert flops(2, 6912, 2560) == 2 * 2 * 2560 * 6912
