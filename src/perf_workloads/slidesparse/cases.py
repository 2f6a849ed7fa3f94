"""Which tensors does a case multiply, and what must come out? Imports torch and triton: import it where it is used."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch

from perf_kernels.row_inputs import random_rows
from perf_kernels.sparse_weights import prune_weight
from perf_kernels.sparse_weights.inputs import random_weight
from perf_workloads.slidesparse import products
from perf_workloads.slidesparse.linear import TYPES, linear, pack_weight, quantize_weight
from perf_workloads.slidesparse.schemes import Scheme
from perf_workloads.slidesparse.serving.product import vllm_product
from perf_workloads.slidesparse.shapes import Layer
from perfgate.measure import notes

#: Rows that are compared at a time, so that sums of 65536 tokens do not need their memory twice.
_CHECKED_AT_ONCE = 8192
#: Rows of scaled products, which are compared in fp64.
_SCALED_AT_ONCE = 1024
#: Columns of FP8 sums, and of dense INT8 sums, that are computed in fp64.
_CHECKED_COLUMNS = 64
#: Error of FP8 sums over their size: tensor cores add up with some 14 bits, and cut off what is below.
FP8_ERROR = 0.05
#: Up to here fp32 holds every integer.
_FP32_INTEGERS = 2**24
#: Largest error of a scaled product, see :func:`scaled_error`.
SCALED_ERROR = 1.001

Tensor = Any


@dataclass(frozen=True)
class Weights:
    """The weights of one layer in one scheme, and the same weights dense.

    Attributes:
        scheme: how they are kept.
        packed: what is multiplied.
        dense: [N, K] codes of the same, pruned weights.
        scale: [N] fp32.
        bias: [N] bf16, or None.
    """

    scheme: Scheme
    packed: Tensor
    dense: Tensor
    scale: Tensor
    bias: Tensor | None

    @property
    def nbytes(self) -> int:
        """Count the bytes that a model keeps: packed weights and scales."""
        return int(self.packed.nbytes + self.scale.nbytes)


def draw_weights(layer: Layer, scheme: Scheme, device: str, seed: int = 0) -> Weights:
    """Draw a layer's weights, ~ N(0, 1 / K), pruned as the scheme asks for."""
    weight = random_weight(layer.outputs, layer.inputs, torch.bfloat16, device, seed) * layer.inputs**-0.5
    bias = random_rows(1, layer.outputs, torch.bfloat16, device, seed)[0] if layer.bias else None
    return _kept(weight, bias, scheme)


def _kept(weight: Tensor, bias: Tensor | None, scheme: Scheme) -> Weights:
    if scheme.group is not None:
        weight = prune_weight(weight, scheme.group)
    dense, scale = quantize_weight(weight, scheme.dense)
    codes = dense if scheme.group is None else quantize_weight(weight, scheme, prune=False)[0]
    return Weights(scheme, pack_weight(codes, scheme), dense, scale, bias)


def draw_tokens(tokens: int, layer: Layer, device: str, seed: int = 1) -> Tensor:
    """Draw activations [tokens, K] bf16 ~ N(0, 1); of another seed than the weights, whose rows they were otherwise."""
    return random_rows(tokens, layer.inputs, torch.bfloat16, device, seed)


def draw_large(tokens: int, layer: Layer, scheme: Scheme, device: str, seed: int = 2) -> tuple[Tensor, Weights]:
    """Draw tokens [tokens, K] bf16 and INT8 weights whose sums lie on both sides of 2**24 and of -2**24, even and odd.

    Values are codes: from 64 to 127 in weights, the same sign in a row, and from 0 to a number that rises from token to
    token in tokens. One of 127 in each row makes every scale 1.
    """
    generator = torch.Generator(device=device).manual_seed(seed)
    drawn = functools.partial(torch.rand, device=device, generator=generator)
    weight = 64 + (drawn(layer.outputs, layer.inputs) * 64).floor()
    weight[:, 0] = 127
    weight[1::2].neg_()
    most = torch.linspace(2, 127, tokens, device=device)[:, None]
    x = (drawn(tokens, layer.inputs) * (most + 1)).floor()
    x[:, 0] = 127
    return x.bfloat16(), _kept(weight.bfloat16(), None, scheme)


def measured(benchmark: Any, call: Any, *arguments: Any) -> tuple[Tensor, str]:
    """Measure a call; give its result, and the product that ran, whether or not the gate is on."""
    with notes.collect() as taken:
        result = benchmark(call, *arguments)
    ran = {**notes.texts(taken), **benchmark.notes}
    return result, ran["product"]


def sums_error(sums: Tensor, q: Tensor, weights: Weights) -> float:
    """Compare sums with those of dense weights; give their error over their size, 0 where all bits are equal.

    Args:
        sums: [M'', N'] of the case.
        q: [M, K] codes of the same tokens, not slid.
        weights: the layer's.

    Sparse INT8 is compared with dense INT8 in full, everything else with fp64 in 64 columns. Bit for bit holds up to
    2**24, far above what drawn tensors give: for larger sums there is :func:`large_sums_fault`.
    """
    rows, outputs = len(q), len(weights.dense)
    if weights.scheme.group is not None and q.dtype is torch.int8:
        for start in range(0, rows, _CHECKED_AT_ONCE):
            part = q[start : start + _CHECKED_AT_ONCE]
            expected = products.multiply(part, weights.dense, weights.scheme.dense)[: len(part), :outputs]
            if not torch.equal(sums[start : start + len(part), :outputs], expected):
                return float("inf")
        return 0.0
    columns = torch.linspace(0, outputs - 1, _CHECKED_COLUMNS).long().to(q.device)
    right = weights.dense.view(torch.uint8)[columns].view(q.dtype).double().t()
    wrong, size = 0.0, 0.0
    for start in range(0, rows, _CHECKED_AT_ONCE):
        expected = q[start : start + _CHECKED_AT_ONCE].double() @ right
        got = sums[start : start + len(expected)].index_select(1, columns).double()
        wrong += (got - expected).square().sum().item()
        size += expected.square().sum().item()
    return float((wrong / size) ** 0.5)


def large_sums_fault(sums: Tensor, exact: Tensor) -> str:
    """Say how sparse INT8 sums of a GPU differ from the exact ones rounded to fp32, to nearest even; or nothing.

    Up to 2**24 fp32 holds every integer, so that the sums must be exact there.

    Args:
        sums: [M, N] int32.
        exact: the same of dense weights.
    """
    expected = exact.float().int()
    differ = sums != expected
    if not differ.any():
        return ""
    row, column = (int(each) for each in differ.nonzero()[0])
    got, wanted, true = (int(each[row, column]) for each in (sums, expected, exact))
    small = differ & (exact.abs() <= _FP32_INTEGERS)
    rounded = expected != exact
    # A step of fp32: 1 up to 2**24, then 2, 4 and so on.
    step = torch.exp2(torch.frexp(exact.double()).exponent.double() - 24).clamp(min=1)
    cut = ((exact.double() / step).trunc() * step).int()
    as_exact, as_nearest, as_cut = (int((rounded & (sums == each)).sum()) for each in (exact, expected, cut))
    return (
        f"{int(differ.sum())} of {sums.numel()} sums are not the exact ones rounded to fp32, {int(small.sum())} of "
        f"them within 2**24; first at [{row}, {column}]: {got} instead of {wanted}, exactly {true}. Of "
        f"{int(rounded.sum())} sums that fp32 does not hold {as_exact} are exact, {as_nearest} rounded to nearest even "
        f"and {as_cut} what cutting off gives, which may be the same"
    )


def scaled_error(product: Tensor, q: Tensor, weights: Weights) -> float:
    """Compare scaled products with exact sums times scales, in all rows and columns.

    Args:
        product: [M'', N'] of the case, bf16.
        q: [M, K] int8 codes of the same tokens, not slid.
        weights: the layer's.

    Returns:
        The largest error, in halves of the distance between neighbours in bf16. One rounding gives at most 1, and that
        of sums and products to fp32 before it a 16000th.
    """
    rows, outputs, worst = len(q), len(weights.dense), 0.0
    for start in range(0, rows, _SCALED_AT_ONCE):
        part = q[start : start + _SCALED_AT_ONCE]
        sums = products.multiply(part, weights.dense, weights.scheme.dense)[: len(part), :outputs]
        expected = sums.double() * weights.scale.double()
        got = product[start : start + len(part), :outputs].double()
        half = torch.exp2(torch.frexp(expected).exponent.double() - 9)
        found = torch.where(expected != 0, (got - expected).abs() / half, torch.where(got == 0, 0.0, torch.inf))
        found = found.nan_to_num(nan=torch.inf)
        worst = max(worst, found.max().item())
    return worst


def layer_error(y: Tensor, x: Tensor, weights: Weights) -> float:
    """Compare a layer's results with fp64 on the same codes of weights; give their error over their size.

    64 columns are computed from the tokens themselves, so that the error is that of their quantisation and of rounding.
    """
    columns = torch.linspace(0, y.shape[1] - 1, _CHECKED_COLUMNS).long().to(y.device)
    right = weights.dense.view(torch.uint8)[columns].view(TYPES[weights.scheme.codes]).double()
    right = (right * weights.scale[columns].double()[:, None]).t()
    bias = 0.0 if weights.bias is None else weights.bias[columns].double()
    wrong, size = 0.0, 0.0
    for start in range(0, len(x), _CHECKED_AT_ONCE):
        expected = x[start : start + _CHECKED_AT_ONCE].double() @ right + bias
        got = y[start : start + len(expected)].index_select(1, columns).double()
        wrong += (got - expected).square().sum().item()
        size += expected.square().sum().item()
    return float((wrong / size) ** 0.5)


def dense_calls(x: Tensor, weights: Weights) -> dict[str, Any]:
    """Give ways to compute the dense INT8 layer of ``x`` on a GPU, each ``call(x, codes, scale, bias)``.

    ``torch._int_mm`` is left to a library's guess of the best algorithm, which for some shapes is a poor one. What
    sparsity gains is told against the fastest of: the whole product, parts of 8192 tokens, and, where vLLM is
    installed, its product, which is what would be served otherwise.
    """
    whole = functools.partial(linear, scheme=weights.scheme.dense)
    calls = {"whole": whole}
    if len(x) > _CHECKED_AT_ONCE:
        calls["parts of 8192 tokens"] = functools.partial(_in_parts, whole)
    if x.device.type != "cpu" and (engine := vllm_product()) is not None:
        calls[engine.name] = functools.partial(_by_engine, engine, whole)
    return calls


def _by_engine(engine: products.EngineProduct, call: Any, *arguments: Any) -> Tensor:
    before = products.engine_product
    products.use_engine_product(engine)
    try:
        return call(*arguments)
    finally:
        products.use_engine_product(before)


def _in_parts(call: Any, x: Tensor, codes: Tensor, scale: Tensor, bias: Tensor | None) -> list[Tensor]:
    return [call(part, codes, scale, bias) for part in x.split(_CHECKED_AT_ONCE)]
