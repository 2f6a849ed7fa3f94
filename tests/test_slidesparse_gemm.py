"""Which shapes, schemes and algorithms are there, which speed-ups are believed, and do checks of cases see damage?"""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from perf_kernels.dequantize_bias import dequantize_bias_reference  # noqa: E402
from perf_workloads.slidesparse import MODELS, SCHEMES, TO_BF16, TOKENS, Layer, Scheme, cases, products  # noqa: E402
from perf_workloads.slidesparse.linear import linear, quantize_activations, slid_width  # noqa: E402
from perf_workloads.slidesparse.products import Algorithm, shape_class  # noqa: E402
from perf_workloads.slidesparse.schemes import find  # noqa: E402
from perf_workloads.slidesparse.sparse_matmul import tuning  # noqa: E402
from perf_workloads.slidesparse.speedup import speedup  # noqa: E402

LAYER = Layer(72, 48, bias=True)


def test_parameters_of_the_models() -> None:
    """The layers of all decoder layers and the embeddings make up the published numbers of parameters."""
    sizes = {
        "Llama3.2-1B": (16, 2048, 128256, 1, 1.24),
        "Llama3.2-3B": (28, 3072, 128256, 1, 3.21),
        "Qwen2.5-7B": (28, 3584, 152064, 2, 7.62),
        "Qwen2.5-14B": (48, 5120, 152064, 2, 14.77),
    }
    for model, (depth, hidden, vocabulary, tables, billions) in sizes.items():
        layers = sum(layer.inputs * layer.outputs for layer in MODELS[model].values())
        assert (depth * layers + tables * hidden * vocabulary) / 1e9 == pytest.approx(billions, rel=5e-3)


def test_schemes() -> None:
    assert list(SCHEMES) == [
        f"{codes}-{sparsity}" for codes in ("int8", "fp8") for sparsity in ("dense", "2_4", "2_6", "2_8", "2_10")
    ]
    assert [round(SCHEMES[f"int8-2_{group}"].ideal_speedup, 2) for group in (4, 6, 8, 10)] == [2.0, 1.5, 1.33, 1.25]
    assert SCHEMES["fp8-2_8"].dense == SCHEMES["fp8-dense"] == find("fp8-dense")
    with pytest.raises(ValueError) as raised:
        find("int4")
    assert str(raised.value) == f"unknown scheme 'int4': the known ones are {', '.join([*SCHEMES, *TO_BF16])}"


def test_forms_of_sparse_int8() -> None:
    """The same codes, whose product writes something else; no other scheme has two forms."""
    assert list(TO_BF16) == [f"int8-2_{group}-bf16" for group in (4, 6, 8, 10)]
    scheme = find("int8-2_8-bf16")
    assert (scheme.codes, scheme.group, scheme.epilogue) == ("int8", 8, "bf16")
    assert (scheme.exact, scheme.dense) == (SCHEMES["int8-2_8"], SCHEMES["int8-dense"])
    assert scheme.ceiling == SCHEMES["int8-2_8"].ceiling
    assert {each.epilogue for each in SCHEMES.values()} == {"int32"}
    for codes, group, name in (("int8", None, "int8-dense"), ("fp8", 8, "fp8-2_8")):
        with pytest.raises(ValueError) as raised:
            Scheme(codes, group, "bf16")  # type: ignore[arg-type]
        assert str(raised.value) == f"{name} has no form that writes bf16: only sparse INT8 has"


def test_plausible_speedups() -> None:
    found = speedup(1.97, 1.0, SCHEMES["int8-2_4"])
    assert (found.ratio, found.flag) == (1.97, "")
    assert speedup(2.2, 1.0, SCHEMES["int8-2_4"]).flag == ""


def test_speedups_beyond_the_ceiling_are_flagged() -> None:
    assert speedup(11.74, 1.0, SCHEMES["int8-2_4"]).flag == (
        "11.74 x dense is not plausible: the ideal of int8-2_4 is 2.00 x, and above 2.20 x a figure is wrong"
    )
    assert speedup(1.48, 1.0, SCHEMES["fp8-2_8"]).flag == (
        "1.48 x dense is not plausible: the ideal of fp8-2_8 is 1.33 x, and above 1.47 x a figure is wrong"
    )


def test_speedups_that_mean_nothing() -> None:
    with pytest.raises(ValueError) as raised:
        speedup(1.0, 1.0, SCHEMES["int8-dense"])
    assert str(raised.value) == "int8-dense is what others are compared with"
    with pytest.raises(ValueError) as raised:
        speedup(1.0, 0.0, SCHEMES["int8-2_4"])
    assert str(raised.value) == "1.0 s and 0.0 s: times are positive"


def test_classes_of_algorithms() -> None:
    """Each slid matrix of the models with each number of tokens up to 16384, and no other."""
    classes = tuning.TUNABLE.classes()
    assert shape_class(8192, 37888, 5376, True) == "int8-37888x5376-8192"
    assert shape_class(8193, 37888, 5376, True) == shape_class(65536, 37888, 5376, True) == "int8-37888x5376-16384"
    assert shape_class(8192, 37888, 5376, True, True) == "int8-to-bf16-37888x5376-8192"
    wanted = {
        shape_class(
            tokens,
            layer.outputs,
            slid_width(layer.inputs, scheme),
            scheme.codes == "int8",
            scheme.epilogue == "bf16",
        )
        for scheme in (*SCHEMES.values(), *TO_BF16.values())
        if scheme.group is not None
        for layers in MODELS.values()
        for layer in layers.values()
        for tokens in TOKENS
    }
    assert set(classes) == wanted


class Cusparselt:
    """Stands in for the library: knows two algorithms, and multiplies what was "compressed" by not compressing it."""

    def __init__(self, *, transposes: bool = True) -> None:
        self.transposes = transposes
        self.calls: list[dict[str, Any]] = []
        self.searches: list[tuple[Any, Any]] = []

    def mm_search(self, compressed: Any, q: Any, bias: Any, alpha: Any, dtype: Any, transposed: bool) -> Any:
        self.searches.append((alpha, dtype))
        if transposed and not self.transposes:
            raise RuntimeError("CUSPARSE_STATUS_NOT_SUPPORTED")
        return (7 if transposed else 5), 2, 1, 30

    def sparse_mm(self, compressed: Any, q: Any, *, transpose_result: bool, **more: Any) -> Any:
        self.calls.append({"transpose_result": transpose_result, **more})
        sums = compressed.double() @ q.double()
        if more["alpha"] is not None:
            # One for each row of the weights: the library reads that many.
            assert more["alpha"].shape == (len(compressed),)
            sums = sums.float() * more["alpha"][:, None]
        sums = sums.to(more["out_dtype"])
        return sums.t().contiguous() if transpose_result else sums


@pytest.fixture
def cusparselt(monkeypatch: pytest.MonkeyPatch) -> Cusparselt:
    library = Cusparselt()
    monkeypatch.setattr(torch, "_cslt_sparse_mm", library.sparse_mm)
    monkeypatch.setattr(torch._C, "_cusparselt", library, raising=False)
    return library


def test_search_offers_what_the_library_found(cusparselt: Cusparselt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cusparselt, "is_available", lambda: True)
    scale = torch.ones(32)
    inputs = (torch.ones(16, 32, dtype=torch.int8), torch.ones(32, 32))
    monkeypatch.setattr(tuning, "_inputs", lambda *shape: (*inputs, scale if shape[-1] else None))
    found = [Algorithm(transposed=True), Algorithm(5, 2, 1, False), Algorithm(7, 2, 1, True)]
    assert list(tuning.TUNABLE.candidates(16, 32, 32, True, False)) == found
    assert cusparselt.searches == [(None, torch.int32)] * 2
    cusparselt.transposes = False
    assert list(tuning.TUNABLE.candidates(16, 32, 32, True, True)) == found[:2]
    assert cusparselt.searches[2:] == [(scale, torch.bfloat16)] * 2


@pytest.mark.parametrize("transposed", [False, True])
def test_checks_of_tuning_see_wrong_scales(cusparselt: Cusparselt, transposed: bool) -> None:
    """What the library gives in either order passes; scales of the wrong outputs do not."""
    q = torch.randint(-99, 99, (16, 32), dtype=torch.int8, generator=torch.Generator().manual_seed(0))
    weight = torch.randint(-99, 99, (64, 32), dtype=torch.int8, generator=torch.Generator().manual_seed(1))
    scale = torch.linspace(0.0005, 0.002, 64)
    right = tuning.TUNABLE.launch(Algorithm(), q, weight, scale)
    got = tuning.TUNABLE.launch(Algorithm(7, 2, 1, transposed), q, weight, scale)
    assert (right.shape, right.dtype) == ((16, 64), torch.bfloat16)
    assert tuning.TUNABLE.check(right, got) == ""
    wrong = tuning.TUNABLE.launch(Algorithm(), q, weight, scale.flip(0))
    assert "elements differ from the default's by more than bf16 rounds" in tuning.TUNABLE.check(right, wrong)
    # The smallest by itself: it would pass beside the largest.
    place = divmod(int(right.abs().argmin()), right.shape[1])
    got = right.clone()
    got[place] = got[place] * 1.01 + 2.0**-133
    assert tuning.TUNABLE.check(right, got) == (
        f"1 of {right.numel()} elements differ from the default's by more than bf16 rounds"
    )
    got[place] = float("nan")
    assert tuning.TUNABLE.check(right, got) != ""
    assert "instead of" in tuning.TUNABLE.check(right, right[1:])


def test_without_the_library_nothing_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cusparselt, "is_available", lambda: False)
    assert list(tuning.TUNABLE.candidates(16, 32, 32, True)) == [Algorithm(transposed=True)]


@pytest.mark.parametrize(
    ("problem", "lost"),
    [("illegal memory access was encountered", True), ("unspecified launch failure", True), ("not supported", False)],
)
def test_a_search_that_loses_the_device_is_no_order_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, problem: str, lost: bool
) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError(f"CUDA error: {problem}")

    monkeypatch.setattr(torch.backends.cusparselt, "is_available", lambda: True)
    monkeypatch.setattr(torch._C, "_cusparselt", SimpleNamespace(mm_search=fail), raising=False)
    monkeypatch.setattr(tuning, "_inputs", lambda *shape: (torch.zeros(16, 32, dtype=torch.int8), None, None))
    candidates = tuning.TUNABLE.candidates(16, 32, 32, True)
    if lost:
        with pytest.raises(RuntimeError, match=problem):
            list(candidates)
    else:
        assert list(candidates) == [Algorithm(transposed=True)]


@pytest.mark.parametrize("algorithm", [Algorithm(), Algorithm(7, 2, 1, True)], ids=["default", "found"])
def test_algorithm_is_what_the_library_is_told(cusparselt: Cusparselt, algorithm: Algorithm) -> None:
    q = torch.randint(-9, 9, (10, 32), dtype=torch.int8)
    weight = torch.randint(-9, 9, (64, 32), dtype=torch.int8)
    sums = products.multiply_sparse(q, weight, algorithm)
    assert sums.shape == (16, 64)
    assert torch.equal(sums[:10].double(), q.double() @ weight.double().t())
    assert cusparselt.calls == [
        {
            "alpha": None,
            "out_dtype": torch.int32,
            "transpose_result": algorithm.transposed,
            "alg_id": algorithm.alg_id,
            "split_k": algorithm.split_k,
            "split_k_mode": algorithm.split_k_mode,
        }
    ]


@pytest.mark.parametrize("algorithm", [Algorithm(), Algorithm(7, 2, 1, True)], ids=["default", "found"])
@pytest.mark.parametrize("outputs", [64, 50], ids=["whole", "padded"])
def test_scales_are_what_the_library_is_told(cusparselt: Cusparselt, algorithm: Algorithm, outputs: int) -> None:
    """Rows that were added to the weights have a scale as well; results are those that a CPU gives."""
    q = torch.randint(-99, 99, (10, 32), dtype=torch.int8)
    weight = torch.zeros(64, 32, dtype=torch.int8)
    weight[:outputs] = torch.randint(-99, 99, (outputs, 32), dtype=torch.int8)
    scale = torch.rand(outputs) + 0.5
    product = products.multiply_sparse(q, weight, algorithm, scale=scale)
    assert (product.shape, product.dtype) == ((16, 64), torch.bfloat16)
    scheme = find("int8-2_4-bf16")
    assert torch.equal(product[:10, :outputs], products.multiply_scaled(q, weight[:outputs], scale, scheme))
    (call,) = cusparselt.calls
    assert call["out_dtype"] is torch.bfloat16
    assert call["alpha"].tolist() == scale.tolist() + [0.0] * (64 - outputs)
    assert (call["alpha"] is scale) == (outputs == 64)


@pytest.mark.parametrize(
    ("scale", "what"),
    [
        (torch.ones(64, dtype=torch.bfloat16), "[64] torch.bfloat16 on cpu with strides [1]"),
        (torch.ones(65), "[65] torch.float32 on cpu with strides [1]"),
        (torch.ones(128)[::2], "[64] torch.float32 on cpu with strides [2]"),
        (torch.ones(64, 1), "[64, 1] torch.float32 on cpu with strides [1, 1]"),
        (torch.ones(64, device="meta"), "[64] torch.float32 on meta with strides [1]"),
    ],
)
def test_a_scale_that_the_library_would_misread_is_refused(scale: Any, what: str) -> None:
    codes = torch.ones(64, 32, dtype=torch.int8)
    with pytest.raises(ValueError) as raised:
        products.multiply_scaled(codes[:16], codes, scale, find("int8-2_4-bf16"))
    assert str(raised.value) == (
        f"multiply_scaled: scale must be torch.float32 on cpu, contiguous, one dimension of at most 64; it is {what}. "
        "A model that is cast to another type as a whole casts its scales, too: cast it before its layers are converted"
    )


def test_stored_algorithm_is_looked_up_by_class(cusparselt: Cusparselt, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(products, "choose", lambda *shape: asked.append(shape) or Algorithm(3))
    products.multiply_sparse(torch.ones(100, 32).to(torch.float8_e4m3fn), torch.ones(64, 32))
    assert (cusparselt.calls[0]["alg_id"], cusparselt.calls[0]["out_dtype"]) == (3, torch.float32)
    products.multiply_sparse(torch.ones(100, 32, dtype=torch.int8), torch.ones(64, 32), scale=torch.ones(64))
    assert asked == [(128, 64, 32, False, False), (128, 64, 32, True, True)]


@pytest.mark.parametrize("name", ["int8-dense", "int8-2_8", "int8-2_8-bf16", "fp8-dense", "fp8-2_6"])
def test_checks_of_cases_see_one_wrong_row(name: str) -> None:
    scheme = find(name)
    weights = cases.draw_weights(LAYER, scheme, "cpu")
    x = cases.draw_tokens(20, LAYER, "cpu")
    q, _ = quantize_activations(x, scheme)
    plain, _ = quantize_activations(x, scheme.dense)
    sums = products.multiply(q, weights.packed, scheme.exact)
    y = linear(x, weights.packed, weights.scale, weights.bias, scheme)
    limit = 0.0 if scheme.codes == "int8" else 1e-6
    assert cases.sums_error(sums, plain, weights) <= limit
    assert 1e-4 < cases.layer_error(y, x, weights) < (0.02 if scheme.codes == "int8" else 0.06)
    sums[3], y[3] = sums[4].clone(), y[4].clone()
    assert cases.sums_error(sums, plain, weights) > 0.1
    assert cases.layer_error(y, x, weights) > 0.1


def test_checks_of_scaled_products_compare_every_element() -> None:
    scheme = find("int8-2_4-bf16")
    weights = cases.draw_weights(Layer(64, 512), scheme, "cpu")
    x = cases.draw_tokens(20, Layer(64, 512), "cpu")
    q, _ = quantize_activations(x, scheme)
    plain, _ = quantize_activations(x, scheme.dense)
    product = products.multiply_scaled(q, weights.packed, weights.scale, scheme)
    assert 0.9 < cases.scaled_error(product, plain, weights) <= cases.SCALED_ERROR
    right = product[11, 333].clone()
    assert right != 0
    product[11, 333] = right * (1 + 2**-7)
    assert cases.scaled_error(product, plain, weights) > cases.SCALED_ERROR
    product[11, 333] = float("nan")
    assert cases.scaled_error(product, plain, weights) == float("inf")


def test_sparse_checks_compare_every_element() -> None:
    weights = cases.draw_weights(Layer(64, 512), SCHEMES["int8-2_4"], "cpu")
    x = cases.draw_tokens(20, Layer(64, 512), "cpu")
    q, _ = quantize_activations(x, weights.scheme)
    sums = products.multiply(q, weights.packed, weights.scheme)
    sums[11, 333] += 1
    plain, _ = quantize_activations(x, weights.scheme.dense)
    assert cases.sums_error(sums, plain, weights) == float("inf")


def large_sums(name: str) -> Any:
    """Give exact sums, fp64, many of them beyond what fp32 holds."""
    scheme = find(name)
    x, weights = cases.draw_large(64, Layer(18944, 32), scheme, "cpu")
    q, scale = quantize_activations(x, scheme.dense)
    assert torch.equal(scale, torch.ones(64))
    assert torch.equal(weights.scale, torch.ones(32))
    return q.double() @ weights.dense.double().t()


@pytest.mark.parametrize("name", ["int8-2_4", "int8-2_8"])
def test_large_sums_tell_ways_to_round_apart(name: str) -> None:
    """Sums of both signs lie on both sides of 2**24, odd ones among them, and fp32 rounds them up and down."""
    exact = large_sums(name)
    assert torch.equal(exact, exact.int().double())
    for sign in (1, -1):
        large = sign * exact > 2**24
        assert large.any()
        assert ((sign * exact > 0) & ~large).any()
        assert (large & (exact % 2 == 1)).any()
    assert exact.abs().max() > 2**25
    rounded = exact.float().double()
    away = rounded.abs() > exact.abs()
    assert away.any()
    assert (~away & (rounded != exact)).any()


def test_checks_of_large_sums_tell_what_is_wrong() -> None:
    exact = large_sums("int8-2_4").int()
    right = exact.float().int()
    assert cases.large_sums_fault(right, exact) == ""
    beyond = int((right != exact).sum())

    fault = cases.large_sums_fault(exact, exact)
    assert f"{beyond} of {exact.numel()} sums are not the exact ones rounded to fp32, 0 of them within 2**24" in fault
    assert f"Of {beyond} sums that fp32 does not hold {beyond} are exact, 0 rounded to nearest even and" in fault
    row, column = (int(each) for each in (right != exact).nonzero()[0])
    first = f"first at [{row}, {column}]: {int(exact[row, column])} instead of {int(right[row, column])}, exactly"
    assert first in fault

    towards_zero = torch.nextafter(exact.float(), torch.zeros(())).double()
    cut = torch.where(right.abs() > exact.abs(), towards_zero, right.double()).int()
    assert f"and {beyond} what cutting off gives" in cases.large_sums_fault(cut, exact)

    small = right.clone()
    row, column = (int(each) for each in (exact.abs() < 2**24).nonzero()[-1])
    small[row, column] += 1
    assert cases.large_sums_fault(small, exact).startswith(
        f"1 of {exact.numel()} sums are not the exact ones rounded to fp32, 1 of them within 2**24; first at "
        f"[{row}, {column}]: {int(small[row, column])} instead of {int(right[row, column])}"
    )


def test_sums_that_are_rounded_to_fp32_give_the_same_layer() -> None:
    """Dequantising begins with that rounding."""
    exact = large_sums("int8-2_4").int()
    rounded = exact.float().int()
    assert not torch.equal(rounded, exact)
    scales = torch.rand(64), torch.rand(32)
    results = [dequantize_bias_reference(sums, *scales, dtype=torch.float32) for sums in (exact, rounded)]
    assert torch.equal(*results)


def test_dense_in_parts_is_the_same() -> None:
    weights = cases.draw_weights(Layer(32, 16), SCHEMES["int8-2_4"], "cpu")
    x = cases.draw_tokens(8200, Layer(32, 16), "cpu")
    whole, parts = cases.dense_calls(x, weights).values()
    arguments = (x, weights.dense, weights.scale, weights.bias)
    assert torch.equal(torch.cat(parts(*arguments)), whole(*arguments))
    assert list(cases.dense_calls(x[:8192], weights)) == ["whole"]


def test_vllms_product_is_one_of_the_dense_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU, where vLLM is installed; and the others do not go through it."""
    engine = products.EngineProduct("vLLM cutlass_scaled_mm", lambda *arguments: None)
    weights = cases.draw_weights(Layer(32, 16), SCHEMES["int8-2_4"], "cpu")
    monkeypatch.setattr(cases, "linear", lambda *arguments, scheme: products.engine_product)
    monkeypatch.setattr(cases, "vllm_product", lambda: engine)
    on_a_gpu = torch.empty(64, 32, device="meta")
    calls = cases.dense_calls(on_a_gpu, weights)
    assert {name: call(on_a_gpu) for name, call in calls.items()} == {"whole": None, engine.name: engine}
    assert products.engine_product is None
    assert list(cases.dense_calls(torch.empty(64, 32), weights)) == ["whole"]
    monkeypatch.setattr(cases, "vllm_product", lambda: None)
    assert list(cases.dense_calls(on_a_gpu, weights)) == ["whole"]


def test_measured_calls_tell_what_ran() -> None:
    weights = cases.draw_weights(LAYER, SCHEMES["int8-dense"], "cpu")
    x = cases.draw_tokens(4, LAYER, "cpu")
    benchmark = SimpleNamespace(notes={})
    timer = lambda call, *arguments: call(*arguments)  # noqa: E731
    timer.notes = benchmark.notes
    y, product = cases.measured(timer, linear, x, weights.packed, weights.scale, weights.bias, weights.scheme)
    assert (y.shape, product) == ((4, 48), "torch._int_mm")


def test_names_are_known_without_torch() -> None:
    path = [entry for entry in sys.path if entry]
    code = (
        f"import sys; sys.path[:0] = {path!r}; import perf_workloads.slidesparse.speedup; "
        "sys.exit('torch' in sys.modules or 'triton' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
