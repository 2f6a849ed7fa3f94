"""Is it seen what multiplies in a layer, and is anything else than the form of its weights names an error?"""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("triton")

from perf_workloads.bitnet import METHODS, BitnetSetup, load, products  # noqa: E402
from perf_workloads.bitnet.layers import RowLinear, ternary_linear  # noqa: E402
from perf_workloads.bitnet.verify import assert_product, seen_product, seen_products  # noqa: E402
from perf_workloads.implementation import WrongImplementation  # noqa: E402
from perfgate.measure.notes import note  # noqa: E402

PRODUCTS = {
    "fp32": "fp32 linear",
    "bf16": "bf16 linear",
    "int8": "torch._int_mm",
    "online": "quantise the weights, then fp32 linear",
    "packed": "torch._int_mm by fields",
}


def random(shape: tuple[int, ...], dtype: Any = torch.float32) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("inference", [False, True], ids=["plain", "inference"])
@pytest.mark.parametrize("method", METHODS)
def test_what_multiplies_is_seen(method: Any, inference: bool) -> None:
    with torch.inference_mode(inference):
        layer = ternary_linear(method, random((40, 64)))
        seen = seen_product(layer, random((1, 64)))
    assert seen == PRODUCTS[method]
    assert_product(seen, method, "cpu")


@pytest.mark.parametrize("method", METHODS)
def test_every_layer_of_a_model_is_looked_at(method: Any) -> None:
    with torch.inference_mode():
        model = load(BitnetSetup("tiny", method=method))
        seen = seen_products(model)
    head = seen.pop("lm_head")
    assert (len(seen), set(seen.values())) == (14, {PRODUCTS[method]})
    assert head == ("fp32 linear" if METHODS[method] == "float32" else "bf16 linear")
    assert_product(head, method, "cpu", ternary=False)


@pytest.mark.parametrize(
    ("method", "name", "mutant", "seen"),
    [
        ("int8", "int8_sums", lambda q, codes: q.float() @ codes.float().t(), "fp32 linear"),
        ("int8", "int8_sums", lambda q, codes: (q[:, None] * codes).sum(-1), "none"),
        ("bf16", "float_sums", lambda q, codes: q @ codes.float().t(), "fp32 linear"),
        ("fp32", "float_sums", lambda q, codes: (q.bfloat16() @ codes.bfloat16().t()).float(), "bf16 linear"),
        ("fp32", "float_sums", lambda q, codes: q @ codes.t() + 0 * (q @ codes.t()), "2 mm float32"),
        ("packed", "packed_sums", lambda q, packed: q.float() @ torch.ones(64, 40), "fp32 linear"),
        ("online", "ternarise", lambda weight: (weight, weight.mean()), "fp32 linear"),
    ],
)
def test_another_product_is_an_error(
    monkeypatch: pytest.MonkeyPatch, method: Any, name: str, mutant: Any, seen: str
) -> None:
    """Results are right in most of these, and a layer would say of itself what it always says."""
    layer = ternary_linear(method, random((40, 64)))
    monkeypatch.setattr(products, name, mutant)
    assert seen_product(layer, random((1, 64))) == seen
    with pytest.raises(WrongImplementation) as raised:
        assert_product(seen, method, "cpu")
    expected = PRODUCTS[method]
    assert (
        str(raised.value) == f"a layer with {method} weights multiplies by {expected} on cpu, and what ran is: {seen}"
    )


def test_weights_that_are_quantised_again_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The anti-pattern, in a form that promises not to do it."""
    layer = ternary_linear("int8", random((40, 64)))
    sums = products.int8_sums
    monkeypatch.setattr(products, "int8_sums", lambda q, codes: sums(q, codes.float().round().to(torch.int8)))
    assert seen_product(layer, random((1, 64))) == "weights quantised, _int_mm int8"


def test_our_kernel_is_known_by_its_launcher() -> None:
    """It is launched past torch's operators; its launcher notes which launch it chose."""

    def launches(x: Any) -> Any:
        note("ternary_matmul", "4 warps (default)")
        return x

    assert seen_product(launches, random((1, 64))) == "ternary_matmul kernel"
    assert_product("ternary_matmul kernel", "packed", "cuda:0")


def test_a_head_of_another_type_is_an_error() -> None:
    seen = seen_product(RowLinear(64, 40, bias=False), random((1, 1, 64)))
    with pytest.raises(WrongImplementation) as raised:
        assert_product(seen, "int8", "cpu", ternary=False)
    assert str(raised.value) == (
        "the head beside int8 weights multiplies by bf16 linear on cpu, and what ran is: fp32 linear"
    )
