"""Do all schemes compute the same layer, exactly where integers make it possible, and by the product that they name?"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfgate.measure import notes

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from perf_workloads.slidesparse import SCHEMES, TO_BF16, Scheme, products  # noqa: E402
from perf_workloads.slidesparse import linear as linear_module  # noqa: E402
from perf_workloads.slidesparse.linear import (  # noqa: E402
    SlideLinear,
    epilogue,
    linear,
    pack_weight,
    quantize_activations,
    quantize_weight,
    slid_width,
)
from perf_workloads.slidesparse.schemes import find  # noqa: E402

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


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(list(TO_BF16.values())),
    st.integers(1, 40),
    st.integers(1, 300),
    st.integers(1, 20),
    st.booleans(),
    st.integers(0, 2**16),
)
def test_error_of_two_roundings(
    scheme: Scheme, outputs: int, inputs: int, tokens: int, with_bias: bool, seed: int
) -> None:
    """At most half a step of bf16 for the scaled sum, carried on by the tokens' scale, and half a step of the result.

    Against exact sums of integers, scaled in fp64. The exact form of the same layer has the second alone.
    """
    codes, scale = quantize_weight(random((outputs, inputs), seed), scheme)
    x, bias = random((tokens, inputs), seed + 1, torch.bfloat16), random((outputs,), seed + 2) if with_bias else None
    q, row_scale = quantize_activations(x, scheme)
    product = (q.double() @ codes.double().t()) * scale.double() * row_scale.double()[:, None]
    right = product if bias is None else product + bias.double()
    packed = pack_weight(codes, scheme)
    twice, once = (linear(x, packed, scale, bias, form).double() for form in (scheme, scheme.exact))
    fp32 = 2**-22 * (product.abs() + right.abs())
    assert ((once - right).abs() <= 2**-8 * right.abs() + fp32).all()
    # The second rounding is of a result that the first one moved.
    assert ((twice - right).abs() <= 2**-8 * (1 + 2**-8) * product.abs() + 2**-8 * right.abs() + fp32).all()


def test_two_roundings_are_those_of_the_definition() -> None:
    """Sums times the weights' scales as bf16, times the tokens' scales plus the bias as bf16."""
    scheme = TO_BF16["int8-2_8-bf16"]
    weight, bias, x = random((40, 96), 30), random((40,), 31, torch.bfloat16), random((7, 96), 32, torch.bfloat16)
    codes, scale = quantize_weight(weight, scheme)
    q, row_scale = quantize_activations(x, scheme)
    first = ((q.double() @ codes.double().t()).float() * scale).bfloat16()
    expected = (first.double() * row_scale.double()[:, None] + bias.double()).float().bfloat16()
    y = linear(x, pack_weight(codes, scheme), scale, bias, scheme)
    assert torch.equal(y, expected)
    exact = linear(x, pack_weight(codes, scheme), scale, bias, scheme.exact)
    assert not torch.equal(y, exact)
    torch.testing.assert_close(y, exact, rtol=2**-6, atol=0.02)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
def test_other_types_keep_exact_sums(dtype: Any) -> None:
    """A sum times the weights' scale may pass 65504, the end of fp16, where the result does not."""
    scheme = TO_BF16["int8-2_4-bf16"]
    codes, scale = torch.full((8, 64), 127, dtype=torch.int8), torch.ones(8)
    codes[:, 1::4] = codes[:, 3::4] = 0
    x = torch.full((3, 64), 2**-6, dtype=dtype)
    arguments = (x, pack_weight(codes, scheme), scale, None)
    with notes.collect() as taken:
        y = linear(*arguments, scheme)
    assert notes.texts(taken)["product"] == "torch._int_mm"
    assert torch.equal(y, linear(*arguments, scheme.exact))
    assert y.isfinite().all()
    assert 127 * 127 * 32 > torch.finfo(torch.float16).max > y.max()


def test_what_products_write() -> None:
    scheme = TO_BF16["int8-2_4-bf16"]
    assert [epilogue(scheme, dtype) for dtype in (torch.bfloat16, torch.float16, torch.float32)] == [
        "bf16",
        "int32",
        "int32",
    ]
    assert epilogue(scheme.exact, torch.bfloat16) == "int32"
    assert {epilogue(SCHEMES[name], torch.bfloat16) for name in ("int8-dense", "fp8-dense", "fp8-2_8")} == {None}


@pytest.mark.parametrize("outputs", [64, 40], ids=["whole", "padded"])
@pytest.mark.parametrize("transposed", [True, False], ids=["rows", "columns"])
def test_rows_are_scaled_in_place_where_that_can_be(
    monkeypatch: pytest.MonkeyPatch, transposed: bool, outputs: int
) -> None:
    """What a GPU does with what its product wrote, with the kernel's reference in place of the kernel."""
    scheme = TO_BF16["int8-2_4-bf16"]
    layer = SlideLinear(random((outputs, 64), 33), scheme, random((outputs,), 34))
    x = random((5, 64), 35, torch.bfloat16)
    expected = layer(x)
    written, taken = [], []

    class OnGpu:
        """A product of 16 rows and 64 columns, in the order of the case, of which the layer keeps a part."""

        def __init__(self, tensor: Any) -> None:
            self.tensor, self.device, self.dtype = tensor, torch.device("cuda"), tensor.dtype

        def __getitem__(self, index: Any) -> Any:
            return OnGpu(self.tensor[index])

        def is_contiguous(self) -> bool:
            return bool(self.tensor.is_contiguous())

    def multiply_scaled(q: Any, packed: Any, scale: Any, scheme: Scheme) -> Any:
        product = torch.full((16, 64), torch.nan, dtype=torch.bfloat16)
        product[:5, :outputs] = (torch._int_mm(q, packed.t()).float() * scale).bfloat16()
        written.append(product if transposed else product.t().contiguous().t())
        return OnGpu(written[0])

    def dequantize_bias(acc: Any, row_scale: Any, column_scale: Any, bias: Any, dtype: Any, *, out: Any) -> Any:
        taken.append(out)
        y = linear_module.dequantize_bias_reference(acc.tensor, row_scale, column_scale, bias, dtype)
        return y if out is None else out.tensor.copy_(y)

    monkeypatch.setattr(products, "multiply_scaled", multiply_scaled)
    monkeypatch.setattr(linear_module, "dequantize_bias", dequantize_bias)
    y = layer(x)
    assert torch.equal(y, expected)
    in_place = transposed and outputs == 64
    assert (taken[0] is not None) == in_place
    assert (y.data_ptr() == written[0].data_ptr()) == in_place


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


@pytest.mark.parametrize("small", [1, 1e-5])
def test_too_dense_weights_are_an_error(small: float) -> None:
    """Also where they would become codes of 0, and so be dropped."""
    weight = torch.ones(3, 12)
    weight[:2] = 0
    weight[2, 1:] = small
    with pytest.raises(ValueError) as raised:
        quantize_weight(weight, SCHEMES["int8-2_6"], prune=False)
    assert str(raised.value) == (
        "check_sparse: row 2, group 0 (columns 0 to 5) has 6 non-zeros; 2:6 allows 4: prune the weights first"
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
        ("int8-2_8-bf16", "torch._int_mm, scaled to bf16"),
        ("fp8-dense", "fp32 product of fp8 codes"),
        ("fp8-2_4", "fp32 product of fp8 codes"),
    ],
)
def test_what_ran_is_noted(scheme: str, product: str) -> None:
    with notes.collect() as taken:
        SlideLinear(random((32, 64), 7), find(scheme))(random((4, 64), 8, torch.bfloat16))
    assert notes.texts(taken) == {"product": product, "quantization": "reference in torch"}
    assert products.product_name(find(scheme), "cpu") == product


@pytest.mark.parametrize("compiled", [False, True])
def test_what_ran_is_noted_by_rows(compiled: bool) -> None:
    """Also by the operator, which is what an engine captures; and nothing of it is told elsewhere."""
    slid = SlideLinear(random((32, 64), 0), find("int8-2_8"))
    call = torch.compile(slid, backend="eager") if compiled else slid
    with notes.collect() as outside, linear_module.noted_by_rows() as taken:
        call(random((2, 3, 64), 1))
        call(random((5, 64), 1))
    call(random((7, 64), 1))
    assert {rows: notes.texts(each)["product"] for rows, each in taken.items()} == {
        6: "torch._int_mm",
        5: "torch._int_mm",
    }
    assert outside == {}


def test_products_of_a_gpu_are_named() -> None:
    names = {name: products.product_name(find(name), "cuda") for name in ("int8-2_4", "int8-2_4-bf16", "fp8-2_4")}
    assert names == {
        "int8-2_4": "cuSPARSELt",
        "int8-2_4-bf16": "cuSPARSELt, scaled to bf16",
        "fp8-2_4": "cuSPARSELt",
    }


@pytest.mark.parametrize("scheme", ["int8-dense", "int8-2_6", "int8-2_6-bf16", "fp8-2_8"])
def test_compiled_it_is_one_operator(scheme: str) -> None:
    graphs = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph.graph)
        return graph.forward

    layer = SlideLinear(random((32, 60), 9), find(scheme), random((32,), 10))
    x = random((5, 60), 11, torch.bfloat16)
    compiled = torch.compile(layer, backend=backend, fullgraph=True)
    assert torch.equal(compiled(x), layer(x))
    called = [node.target for node in graphs[0].nodes if node.op == "call_function"]
    assert called == [torch.ops.perf_workloads.quantized_linear]


@pytest.mark.parametrize("name", ["int8-2_8", "int8-2_8-bf16"])
def test_operator_is_sound(name: str) -> None:
    layer = SlideLinear(random((32, 60), 12), find(name), random((32,), 13))
    arguments = (random((2, 3, 60), 14, torch.bfloat16), layer.packed, layer.scale, layer.bias, name)
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
    "name",
    [pytest.param(name, marks=pytest.mark.fp8 if name.startswith("fp8") else ()) for name in (*SCHEMES, *TO_BF16)],
)


@pytest.mark.sm80
@on_gpu
@pytest.mark.parametrize("tokens", [1, 5, 16, 17, 100])
def test_gpu_computes_what_a_cpu_does(name: str, tokens: int) -> None:
    """INT8 bit for bit, with kernels instead of references and cuSPARSELt instead of dense products."""
    scheme = find(name)
    if scheme.group is not None and not torch.backends.cusparselt.is_available():
        pytest.skip("this torch has no cuSPARSELt: pip install a build for CUDA")
    weight, bias = random((96, 240), 16, torch.bfloat16), random((96,), 17, torch.bfloat16)
    x = random((tokens, 240), 18, torch.bfloat16)
    expected = SlideLinear(weight, scheme, bias)(x)
    layer = SlideLinear(weight.cuda(), scheme, bias.cuda())

    with notes.collect() as taken:
        y = layer(x.cuda())

    assert notes.texts(taken)["product"] == products.product_name(scheme, "cuda")
    if scheme.epilogue == "bf16":
        # The library scales in fp32 too, but may round what lies between two bf16 to the other one.
        torch.testing.assert_close(y.cpu(), expected, rtol=2**-6, atol=2**-7)
        assert (y.cpu() == expected).double().mean() > 0.99
    elif scheme.codes == "int8":
        assert torch.equal(y.cpu(), expected)
    else:
        error = (y.cpu().double() - expected.double()).norm() / expected.double().norm()
        assert error.item() < 0.02


@pytest.mark.sm80
@pytest.mark.parametrize("name", ["int8-dense", "int8-2_8", "int8-2_8-bf16"])
def test_gpu_layer_can_be_captured(name: str) -> None:
    """Into a CUDA graph, as serving engines do; a replay sees new tokens."""
    scheme = find(name)
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
