"""Do all schemes compute the same layer, exactly where integers make it possible, and by the product that they name?"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfgate.measure import notes

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from perf_workloads.slidesparse import SCHEMES, Scheme, products  # noqa: E402
from perf_workloads.slidesparse.linear import (  # noqa: E402
    SlideLinear,
    linear,
    pack_weight,
    quantize_activations,
    quantize_weight,
    slid_width,
)

SPARSE = [scheme for scheme in SCHEMES.values() if scheme.group is not None]
by_name = pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random(shape: tuple[int, ...], seed: int, dtype: Any = torch.float32) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def in_fp64(codes: Any, scale: Any) -> Any:
    return codes.double() * scale.double()[:, None]


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([scheme for scheme in SPARSE if scheme.codes == "int8"]),
    st.integers(1, 40),
    st.integers(1, 90),
    st.integers(1, 20),
    st.integers(0, 2**16),
)
def test_slid_sums_are_the_dense_ones(scheme: Scheme, outputs: int, inputs: int, tokens: int, seed: int) -> None:
    """Bit for bit: the same pruned codes, dense on one side and slid on the other."""
    codes, _ = quantize_weight(random((outputs, inputs), seed), scheme)
    q, _ = quantize_activations(random((tokens, inputs), seed + 1), scheme)
    plain, _ = quantize_activations(random((tokens, inputs), seed + 1), scheme.dense)
    sums = products.multiply(q, pack_weight(codes, scheme), scheme)
    assert sums.dtype is torch.int32
    assert sums.tolist() == (plain.double() @ unslid(codes, inputs, scheme).double().t()).long().tolist()


def unslid(codes: Any, inputs: int, scheme: Scheme) -> Any:
    """Add up the slots of each column, of which only one is filled: [N, K] from [N, K']."""
    assert scheme.group is not None
    windows = scheme.group // 2 - 1
    groups = -(-inputs // scheme.group)
    slots = codes[:, : groups * windows * 4].view(len(codes), groups, windows, 4)
    columns = codes.new_zeros(len(codes), groups, scheme.group)
    for window in range(windows):
        columns[:, :, 2 * window : 2 * window + 4] += slots[:, :, window]
    return columns.flatten(1)[:, :inputs]


@by_name
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_layer_equals_its_definition(scheme: Scheme, dtype: Any) -> None:
    """Codes times scales, summed in fp64; what is left is rounding to fp32 and to the type of the result."""
    weight, bias, x = random((40, 100), 1), random((40,), 2), random((3, 7, 100), 3, dtype)
    codes, scale = quantize_weight(weight, scheme)
    q, row_scale = quantize_activations(x.view(21, 100), scheme)
    expected = in_fp64(q, row_scale[:21]) @ in_fp64(codes, scale).t() + bias.double()

    y = linear(x, pack_weight(codes, scheme), scale, bias, scheme)

    assert (y.shape, y.dtype) == ((3, 7, 40), dtype)
    torch.testing.assert_close(
        y.view(21, 40).double(), expected, rtol=2**-8 if dtype is torch.bfloat16 else 1e-5, atol=1e-4
    )


@by_name
def test_layer_is_near_the_weights_that_it_was_made_of(scheme: Scheme) -> None:
    weight, x = random((32, 120), 4), random((16, 120), 5)
    if scheme.group is not None:
        magnitudes = weight.view(32, -1, scheme.group).abs()
        weight = (weight.view(magnitudes.shape) * (magnitudes > magnitudes.kthvalue(2, keepdim=True).values)).view(
            32, 120
        )
    expected = x @ weight.t()
    error = (SlideLinear(weight, scheme)(x) - expected).norm() / expected.norm()
    assert 1e-4 < error.item() < (0.02 if scheme.codes == "int8" else 0.06)


def test_weights_that_are_sparse_already_are_not_pruned_again() -> None:
    scheme = SCHEMES["int8-2_6"]
    # 4 of 6, two of them smaller than any that pruning would have to leave.
    weight = torch.tensor([[0.0, 1.0, 2.0, 0.0, 0.01, 3.0]])
    kept, scale = quantize_weight(weight, scheme, prune=False)
    pruned, pruned_scale = quantize_weight(weight, scheme)
    assert torch.equal(kept, pruned)
    assert torch.equal(scale, pruned_scale)


def test_too_dense_weights_are_an_error() -> None:
    weight = torch.ones(3, 12)
    weight[:2] = 0
    with pytest.raises(ValueError) as raised:
        quantize_weight(weight, SCHEMES["int8-2_6"], prune=False)
    assert str(raised.value) == (
        "slide_weight: row 2, group 0 (columns 0 to 5) has 6 non-zeros; 2:6 allows 4: prune the weights first"
    )


def test_codes_that_are_not_slid_are_an_error() -> None:
    codes = torch.ones(2, 32, dtype=torch.int8)
    with pytest.raises(ValueError) as raised:
        pack_weight(codes, SCHEMES["int8-2_8"])
    assert str(raised.value) == "check_two_in_four: row 0, columns 0 to 3 hold 4 non-zeros; 2:4 allows 2"


def test_codes_of_another_type_are_an_error() -> None:
    with pytest.raises(TypeError) as raised:
        pack_weight(torch.ones(2, 32), SCHEMES["int8-dense"])
    assert str(raised.value) == ("pack_weight: codes are torch.float32 [2, 32]; int8-dense takes torch.int8 [N, K']")


def test_dense_weights_that_a_gpu_cannot_multiply_are_an_error() -> None:
    with pytest.raises(ValueError) as raised:
        pack_weight(torch.empty(24, 32, dtype=torch.int8, device="meta"), SCHEMES["int8-dense"])
    assert str(raised.value) == (
        "pack_weight: codes are [24, 32]; on a GPU rows and columns of dense weights must be multiples of 16"
    )


@by_name
def test_no_tokens(scheme: Scheme) -> None:
    assert SlideLinear(random((8, 16), 6), scheme)(torch.empty(2, 0, 16)).shape == (2, 0, 8)


@pytest.mark.parametrize(
    ("scheme", "product"),
    [
        ("int8-dense", "torch._int_mm"),
        ("int8-2_8", "torch._int_mm"),
        ("fp8-dense", "fp32 product of fp8 codes"),
        ("fp8-2_4", "fp32 product of fp8 codes"),
    ],
)
def test_what_ran_is_noted(scheme: str, product: str) -> None:
    with notes.collect() as taken:
        SlideLinear(random((32, 64), 7), SCHEMES[scheme])(random((4, 64), 8))
    assert notes.texts(taken) == {"product": product, "quantization": "reference in torch"}
    assert products.product_name(SCHEMES[scheme], "cpu") == product


@pytest.mark.parametrize("scheme", ["int8-dense", "int8-2_6", "fp8-2_8"])
def test_compiled_it_is_one_operator(scheme: str) -> None:
    graphs = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph.graph)
        return graph.forward

    layer = SlideLinear(random((32, 60), 9), SCHEMES[scheme], random((32,), 10))
    x = random((5, 60), 11, torch.bfloat16)
    compiled = torch.compile(layer, backend=backend, fullgraph=True)
    assert torch.equal(compiled(x), layer(x))
    called = [node.target for node in graphs[0].nodes if node.op == "call_function"]
    assert called == [torch.ops.perf_workloads.quantized_linear]


def test_operator_is_sound() -> None:
    layer = SlideLinear(random((32, 60), 12), SCHEMES["int8-2_8"], random((32,), 13))
    arguments = (random((2, 3, 60), 14), layer.packed, layer.scale, layer.bias, "int8-2_8")
    tests = ("test_schema", "test_faketensor")
    torch.library.opcheck(torch.ops.perf_workloads.quantized_linear, arguments, test_utils=tests)


def test_layer_describes_itself() -> None:
    layer = SlideLinear(random((32, 60), 15), SCHEMES["int8-2_8"])
    assert repr(layer) == "SlideLinear(in_features=60, out_features=32, bias=False, scheme=int8-2_8)"
    assert slid_width(60, layer.scheme) == 96
    assert layer.weight_bytes == 32 * 96 + 4 * 32


@pytest.mark.parametrize(
    ("rows", "at_least", "multiple", "padded"), [(1, 32, 1, 32), (33, 32, 16, 48), (64, 1, 16, 64)]
)
def test_rows_are_padded_with_zeros(rows: int, at_least: int, multiple: int, padded: int) -> None:
    q = torch.ones(rows, 4).to(torch.float8_e4m3fn)
    longer = products.with_rows(q, at_least=at_least, multiple=multiple)
    assert longer.float().sum(dim=1).tolist() == [4.0] * rows + [0.0] * (padded - rows)
    assert (longer is q) == (padded == rows)


on_gpu = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.fp8 if name.startswith("fp8") else ()) for name in SCHEMES]
)


@pytest.mark.sm80
@on_gpu
@pytest.mark.parametrize("tokens", [1, 5, 16, 17, 100])
def test_gpu_computes_what_a_cpu_does(name: str, tokens: int) -> None:
    """INT8 bit for bit, with kernels instead of references and cuSPARSELt instead of dense products."""
    scheme = SCHEMES[name]
    if scheme.group is not None and not torch.backends.cusparselt.is_available():
        pytest.skip("this torch has no cuSPARSELt: pip install a build for CUDA")
    weight, bias = random((96, 240), 16, torch.bfloat16), random((96,), 17, torch.bfloat16)
    x = random((tokens, 240), 18, torch.bfloat16)
    expected = SlideLinear(weight, scheme, bias)(x)
    layer = SlideLinear(weight.cuda(), scheme, bias.cuda())

    with notes.collect() as taken:
        y = layer(x.cuda())

    assert notes.texts(taken)["product"] == products.product_name(scheme, "cuda")
    if scheme.codes == "int8":
        assert torch.equal(y.cpu(), expected)
    else:
        error = (y.cpu().double() - expected.double()).norm() / expected.double().norm()
        assert error.item() < 0.02


@pytest.mark.sm80
@pytest.mark.parametrize("name", ["int8-dense", "int8-2_8"])
def test_gpu_layer_can_be_captured(name: str) -> None:
    """Into a CUDA graph, as serving engines do; a replay sees new tokens."""
    scheme = SCHEMES[name]
    if scheme.group is not None and not torch.backends.cusparselt.is_available():
        pytest.skip("this torch has no cuSPARSELt: pip install a build for CUDA")
    layer = SlideLinear(random((96, 240), 19, torch.bfloat16).cuda(), scheme)
    x = random((64, 240), 20, torch.bfloat16).cuda()
    layer(x)
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        y = layer(x)
    x.copy_(random((64, 240), 21, torch.bfloat16))
    graph.replay()
    assert torch.equal(y, layer(x))
