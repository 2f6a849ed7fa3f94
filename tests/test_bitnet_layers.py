"""Do all forms of ternary weights compute the same layer, exactly, and does each call do what its form promises?"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("triton")

from perf_workloads.bitnet import METHODS, products  # noqa: E402
from perf_workloads.bitnet.layers import RowLinear, ternary_linear  # noqa: E402

EXACT = ("fp32", "int8", "online", "packed")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random(shape: tuple[int, ...], seed: int, dtype: Any = torch.float32) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def expected(x: Any, weight: Any) -> Any:
    """Follow the definition in fp64, from the codes that fp32 arithmetic rounds to."""
    gamma = weight.double().abs().mean().clamp(min=1e-5)
    codes = (weight.double() / gamma).round().clamp(-1, 1)
    scale = 127 / x.double().abs().amax(dim=-1, keepdim=True).clamp(min=1e-5)
    return (x.double() * scale).round().clamp(-128, 127) @ codes.t() * gamma / scale


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    st.integers(1, 40),
    st.one_of(st.integers(1, 600), st.sampled_from([255, 256, 257, 512])),
    st.integers(1, 70),
    st.integers(0, 2**31),
)
def test_all_exact_forms_give_the_same_bits(tokens, inputs, outputs, seed):
    weight, x = random((outputs, inputs), seed), random((tokens, inputs), seed + 1)
    first, *others = (ternary_linear(method, weight)(x) for method in EXACT)
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("tokens", [1, 32])
def test_the_layer_follows_the_definition(method, tokens):
    weight, x = random((96, 300), 1), random((tokens, 300), 2)
    y = ternary_linear(method, weight)(x).double()
    error = (y - expected(x, weight)).norm() / expected(x, weight).norm()
    # Only bf16 rounds its sums.
    assert error < (4e-3 if method == "bf16" else 1e-6)


def test_products_equal_the_reference_of_the_kernel():
    from perf_kernels.ternary_matmul import pack_ternary, quantize_tokens
    from perf_kernels.ternary_matmul.reference import accumulate

    weight, x = random((33, 700), 3), random((5, 700), 4)
    codes = products.ternarise(weight)[0].to(torch.int8)
    q, scale = products.quantize(x)
    reference, reference_scale = quantize_tokens(x)
    assert torch.equal(scale[:, 0], reference_scale)
    # Rounding the product x s before it is rounded to an integer may differ at ties alone.
    assert (q != reference).double().mean() < 1e-3
    sums = accumulate(q.to(torch.int8), codes)
    assert torch.equal(products.int8_sums(q, codes), sums)
    assert torch.equal(products.packed_sums(q, pack_ternary(codes)), sums)
    assert torch.equal(products.float_sums(q, codes.float()), sums.float())


def test_largest_sums_neither_wrap_nor_saturate():
    """All weights and activations at one end, in every field: some int8 products saturate pairs at 16 bits."""
    from perf_kernels.ternary_matmul import pack_ternary

    for sign in (-1, 1):
        for code in (-1, 0, 1):
            codes = torch.full((16, 2048), code, dtype=torch.int8)
            q = torch.full((2, 2048), 127.0 * sign)
            sums = torch.full((2, 16), 127 * 2048 * sign * code, dtype=torch.int32)
            assert torch.equal(products.int8_sums(q, codes), sums)
            assert torch.equal(products.packed_sums(q, pack_ternary(codes)), sums)


@pytest.mark.parametrize("tokens", [1, 3])
def test_agrees_with_the_layer_of_transformers(tokens):
    """``AutoBitLinear`` with online quantisation is what the published report ran."""
    from transformers.integrations.bitnet import AutoBitLinear

    theirs = AutoBitLinear(256, 64, bias=False, online_quant=True)
    ours = ternary_linear("online", theirs.weight.data)
    x = random((2, tokens, 256), 5)
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_only_online_quantises_weights_in_a_call(method, monkeypatch):
    """Pitfall: quantising the weights again in every call took 150 times as long as the product."""
    calls: list[Any] = []
    ternarise = products.ternarise
    monkeypatch.setattr(products, "ternarise", lambda weight: calls.append(weight) or ternarise(weight))
    layer = ternary_linear(method, random((32, 64), 6))
    calls.clear()
    layer(random((1, 64), 7))
    layer(random((1, 64), 8))
    assert len(calls) == (2 if method == "online" else 0)


def test_int8_weights_are_rows_and_are_not_copied():
    """Pitfall: ``_int_mm`` with a contiguous [K, N] copy of the weights is several times slower for one token."""
    layer = ternary_linear("int8", random((48, 64), 9))
    assert (layer.codes.shape, layer.codes.stride(), layer.codes.dtype) == ((48, 64), (64, 1), torch.int8)
    seen: list[Any] = []

    class Spy(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            if function is torch._int_mm:
                seen.append(args[1])
            return function(*args, **(kwargs or {}))

    with Spy():
        layer(random((1, 64), 10))
    assert [(weights.data_ptr(), weights.stride()) for weights in seen] == [(layer.codes.data_ptr(), (1, 64))]


@pytest.mark.parametrize(
    ("method", "weight_bytes"),
    [
        ("fp32", 4 * 64 * 512),
        ("bf16", 2 * 64 * 512),
        ("int8", 64 * 512),
        ("packed", 64 * 128),
        ("online", 4 * 64 * 512),
    ],
)
def test_weight_bytes(method, weight_bytes):
    layer = ternary_linear(method, random((64, 512), 11, torch.bfloat16))
    # And gamma, but for online, which finds it in every call.
    assert layer.weight_bytes == weight_bytes + (0 if method == "online" else 4)


@pytest.mark.parametrize("method", METHODS)
def test_leading_dimensions_and_types_are_kept(method):
    layer = ternary_linear(method, random((40, 64), 12))
    x = random((2, 3, 64), 13, torch.bfloat16)
    y = layer(x)
    assert (y.shape, y.dtype) == ((2, 3, 40), torch.bfloat16)
    assert torch.equal(y, layer(x.view(6, 64)).view(2, 3, 40))
    assert torch.equal(layer(x[0, 0]), y[0, 0])


def test_an_unknown_method_is_an_error():
    with pytest.raises(ValueError) as error:
        ternary_linear("int3", random((4, 4), 16))
    assert str(error.value) == "unknown method 'int3': the known ones are fp32, bf16, int8, online, packed"


def test_the_head_multiplies_rows_whatever_it_is_given():
    """Pitfall: torch multiplies a strided slice [1, 1, K], the last position of a prompt, as a batch, far slower."""
    head = RowLinear(64, 40, bias=False, dtype=torch.bfloat16)
    hidden = random((1, 9, 64), 17, torch.bfloat16)
    seen: list[Any] = []

    class Spy(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(function.overloadpacket)
            return function(*args, **(kwargs or {}))

    with torch.no_grad(), Spy():
        y = head(hidden[:, -1:])
    assert y.shape == (1, 1, 40)
    assert torch.ops.aten.mm in seen
    assert torch.ops.aten.bmm not in seen
    with torch.no_grad():
        torch.testing.assert_close(y, torch.nn.Linear.forward(head, hidden)[:, -1:])
