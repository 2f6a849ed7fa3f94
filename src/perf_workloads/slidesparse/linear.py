"""What is a linear layer with INT8 or FP8 weights, dense or 2:L sparse? Functions on plain tensors, and a module.

From weights of any float type to results, in three steps; the first two are done once::

    codes, scale = quantize_weight(weight, scheme)   # [N, K'] codes, [N] fp32: the same on every device; can be stored
    packed = pack_weight(codes, scheme)              # what this device multiplies: compressed by cuSPARSELt on a GPU
    y = linear(x, packed, scale, bias, scheme)       # quantise or slide, multiply, dequantise and add the bias

Which part of dequantising the product of sparse INT8 weights does is the scheme's epilogue, in bf16 models: others keep
exact sums, because fp16 does not hold sums that only one scale was applied to.

``SlideLinear`` holds the three tensors as buffers. Under ``torch.compile`` ``linear`` is the one operator
``perf_workloads::quantized_linear``. GPU: our kernels, and the products of :mod:`perf_workloads.slidesparse.products`.
CPU: the kernels' references in torch, and slid weights that stay uncompressed; INT8 sums are
exact, those of cuSPARSELt up to 2**24.

Imports torch and triton: import it where it is used.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from perf_kernels.dequantize_bias import (
    dequantize_bias,
    dequantize_bias_reference,
)
from perf_kernels.row_quantization import (
    quantize_rows,
    quantize_rows_reference,
)
from perf_kernels.slide_quantization import (
    slide,
    slide_quantize_rows,
)
from perf_kernels.sparse_weights import (
    check_sparse,
    check_two_in_four,
    compress,
    prune_weight,
    slid_columns,
    slide_weight,
)
from perf_workloads.slidesparse import products, schemes
from perf_workloads.slidesparse.schemes import Epilogue, Scheme
from perfgate.measure import notes
from perfgate.measure.notes import note

#: The type of codes, by its name in a scheme.
TYPES = {"int8": torch.int8, "fp8": torch.float8_e4m3fn}
#: Rows that a reference quantises at a time: it takes some 30 bytes an element.
_REFERENCE_ROWS = 1024

Tensor = Any

#: Collections of :func:`noted_by_rows` that are open; the innermost is the last.
_watched: list[dict[int, dict[str, set[str]]]] = []


def quantize_weight(weight: Tensor, scheme: Scheme, *, prune: bool = True) -> tuple[Tensor, Tensor]:
    """Turn the weights of a layer into codes, for a sparse scheme pruned and slid.

    Args:
        weight: [N, K] bf16, fp16 or fp32, on any device.
        scheme: how to keep it.
        prune: zero the 2 smallest magnitudes in each group of L. Otherwise they must be sparse already.

    Returns:
        ``codes``: [N, K'] int8 or fp8 e4m3fn, K' = K for a dense scheme and :func:`slid_width` for a sparse one; not
        compressed. ``scale``: [N] fp32.

    Raises:
        TypeError, ValueError: a data type or shape that is not supported.
        ValueError: not pruned, and a group has more than L - 2 non-zeros; the message names its row.
    """
    if scheme.group is not None:
        if prune:
            weight = prune_weight(weight, scheme.group)
        else:
            # Not told from codes: small weights become 0 among them, and would be dropped.
            check_sparse(weight, scheme.group)
    codes, scale = _quantize(weight, scheme)
    return (codes if scheme.group is None else slide_weight(codes, scheme.group)), scale


def slid_width(columns: int, scheme: Scheme) -> int:
    """Give K', the columns of a layer's codes for K before."""
    return columns if scheme.group is None else int(slid_columns(columns, scheme.group))


def pack_weight(codes: Tensor, scheme: Scheme) -> Tensor:
    """Give codes ``[N, K']`` the form in which their device multiplies them.

    On a GPU those of a sparse scheme are padded to a multiple of 32 rows and compressed; all others stay as they are.

    Raises:
        TypeError: codes of another type than the scheme's.
        ValueError: a shape that cannot be multiplied on this device, or codes that are not 2:4 sparse.
    """
    wanted = TYPES[scheme.codes]
    if codes.dtype is not wanted or codes.ndim != 2:
        raise TypeError(
            f"pack_weight: codes are {codes.dtype} {list(codes.shape)}; {scheme.name} takes {wanted} [N, K']"
        )
    if scheme.group is not None:
        if codes.device.type == "cpu":
            check_two_in_four(codes)
            return codes.contiguous()
        return compress(products.with_rows(codes, multiple=products.SPARSE_MULTIPLE))
    multiple = products.DENSE_MULTIPLE
    if codes.device.type != "cpu" and (codes.shape[0] % multiple or codes.shape[1] % multiple):
        raise ValueError(
            f"pack_weight: codes are {list(codes.shape)}; on a GPU rows and columns of dense weights must be multiples "
            f"of {multiple}"
        )
    return codes.contiguous()


def quantize_activations(x: Tensor, scheme: Scheme) -> tuple[Tensor, Tensor]:
    """Quantise tokens ``x: [M, K]``, and slide them for a sparse scheme.

    Returns:
        ``q``: [M', K'] codes and ``scale``: [M'] fp32; M' = M, but on a GPU a multiple of 16 for a sparse scheme.
    """
    if scheme.group is None:
        return _quantize(x, scheme)
    if x.device.type != "cpu":
        note("quantization", "slide_quantize_rows kernel")
        q, scale = slide_quantize_rows(x, scheme.group, TYPES[scheme.codes])
        return q, scale
    q, scale = _quantize(x, scheme)
    return slide(q.view(torch.uint8), scheme.group).view(q.dtype), scale


def epilogue(scheme: Scheme, dtype: Any) -> Epilogue | None:
    """Give what the product of sparse INT8 weights writes for tokens of a type; None for all other weights.

    fp16 ends at 65504, which a sum times the weights' scale alone can pass where the result does not, and fp32 results
    are not rounded to bf16: both have sums of int32, whatever the scheme says.
    """
    if scheme.group is None or scheme.codes != "int8":
        return None
    return scheme.epilogue if dtype is torch.bfloat16 else "int32"


def linear(x: Tensor, packed: Tensor, scale: Tensor, bias: Tensor | None, scheme: Scheme) -> Tensor:
    """Multiply tokens by a layer's weights.

    Dense weights on a GPU are scaled back, and the bias added, inside the product: FP8 in ``torch._scaled_mm``, which
    gives bf16, and INT8 in a serving engine's own product. A sparse INT8 product with the epilogue "bf16" is rounded to
    bf16 before the tokens' scale is applied, and again after it: an error of at most 2**-8 of the result without its
    bias, and 2**-8 of the result, where the epilogue "int32" has the latter alone.

    Args:
        x: [..., K] bf16, fp16 or fp32.
        packed: the weights, as :func:`pack_weight` gives them, on the device of ``x``.
        scale: [N] fp32, contiguous.
        bias: [N] bf16, fp16 or fp32, contiguous, or None.
        scheme: how the weights are kept.

    Returns:
        [..., N] of the type of ``x``.
    """
    if torch.compiler.is_compiling():
        return torch.ops.perf_workloads.quantized_linear(x, packed, scale, bias, scheme.name)
    rows = x.reshape(-1, x.shape[-1])
    if not _watched:
        return _multiplied(x, rows, packed, scale, bias, scheme)
    with notes.collect(_watched[-1].setdefault(len(rows), {})):
        return _multiplied(x, rows, packed, scale, bias, scheme)


@contextlib.contextmanager
def noted_by_rows() -> Iterator[dict[int, dict[str, set[str]]]]:
    """Collect what layers note meanwhile, as values by name for each number of rows, M.

    What a graph is captured of notes then, and nothing when it is replayed.
    """
    taken: dict[int, dict[str, set[str]]] = {}
    _watched.append(taken)
    try:
        yield taken
    finally:
        _watched.pop()


def _multiplied(x: Tensor, rows: Tensor, packed: Tensor, scale: Tensor, bias: Tensor | None, scheme: Scheme) -> Tensor:
    """Multiply tokens ``x`` by a layer's weights; ``rows: [M, K]`` are the same."""
    shape = (*x.shape[:-1], len(scale))
    if len(rows) == 0:
        return x.new_empty(shape)
    q, row_scale = quantize_activations(rows, scheme)
    row_scale = row_scale[: len(rows)]
    if scheme == schemes.SCHEMES["fp8-dense"] and x.device.type != "cpu":
        y = _scaled_product(q, row_scale, packed, scale, bias).to(x.dtype)
    elif (engine := _engine_product(x, scheme)) is not None:
        note("product", engine.name)
        y = engine.call(
            q, packed.t(), row_scale[:, None], scale[:, None], x.dtype, None if bias is None else bias.to(x.dtype)
        )
    elif epilogue(scheme, x.dtype) == "bf16":
        y = _scale_rows(products.multiply_scaled(q, packed, scale, scheme)[:, : len(scale)], row_scale, bias)
    else:
        dequantize = dequantize_bias_reference if x.device.type == "cpu" else dequantize_bias
        y = dequantize(products.multiply(q, packed, scheme.exact), row_scale, scale, bias, x.dtype)
    return y.view(shape)


@torch.library.custom_op(  # type: ignore[untyped-decorator]
    "perf_workloads::quantized_linear",
    mutates_args=(),
    schema="(Tensor x, Tensor packed, Tensor scale, Tensor? bias, str scheme) -> Tensor",
)
def _operator(x: Tensor, packed: Tensor, scale: Tensor, bias: Tensor | None, scheme: str) -> Tensor:
    return linear(x, packed, scale, bias, schemes.find(scheme))


@_operator.register_fake  # type: ignore[untyped-decorator]
def _(x: Tensor, packed: Tensor, scale: Tensor, bias: Tensor | None, scheme: str) -> Tensor:
    return x.new_empty((*x.shape[:-1], scale.shape[0]))


class SlideLinear(torch.nn.Module):  # type: ignore[misc]  # torch is not followed
    """A linear layer of one scheme.

    Args:
        weight: [N, K] of a float type, on the layer's device; not kept.
        scheme: how to keep it.
        bias: [N], or None.
        prune: see :func:`quantize_weight`.
    """

    def __init__(self, weight: Tensor, scheme: Scheme, bias: Tensor | None = None, *, prune: bool = True) -> None:
        super().__init__()
        self.scheme = scheme
        self.out_features, self.in_features = weight.shape
        codes, scale = quantize_weight(weight, scheme, prune=prune)
        self.register_buffer("packed", pack_weight(codes, scheme))
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply ``x: [..., K]``; [..., N] of the same type."""
        return linear(x, self.packed, self.scale, self.bias, self.scheme)

    @property
    def weight_bytes(self) -> int:
        """Count the bytes that the weights and their scales take."""
        return int(self.packed.nbytes + self.scale.nbytes)

    def extra_repr(self) -> str:
        """Describe the shape, as torch's linear layer does, and the scheme."""
        shape = f"in_features={self.in_features}, out_features={self.out_features}"
        return f"{shape}, bias={self.bias is not None}, scheme={self.scheme.name}"


def _quantize(x: Tensor, scheme: Scheme) -> tuple[Tensor, Tensor]:
    """Quantise rows: by our kernel on a GPU, by its reference on a CPU."""
    dtype = TYPES[scheme.codes]
    if x.device.type != "cpu":
        note("quantization", "quantize_rows kernel")
        q, scale = quantize_rows(x, dtype)
        return q, scale
    note("quantization", "reference in torch")
    parts = [quantize_rows_reference(part, dtype) for part in x.split(_REFERENCE_ROWS)]
    return torch.cat([q for q, _ in parts]), torch.cat([scale for _, scale in parts])


def _scale_rows(scaled: Tensor, row_scale: Tensor, bias: Tensor | None) -> Tensor:
    """Apply the tokens' scales and the bias to ``scaled: [M', N]`` bf16, M' >= M: [M, N], in place where that can be.

    What was written column by column, or has columns that were added, needs a result of its own.
    """
    if scaled.device.type == "cpu":
        return dequantize_bias_reference(scaled, row_scale, None, bias, scaled.dtype)
    own = scaled[: len(row_scale)]
    return dequantize_bias(own, row_scale, None, bias, own.dtype, out=own if own.is_contiguous() else None)


def _engine_product(x: Tensor, scheme: Scheme) -> products.EngineProduct | None:
    """Give the engine's product for dense INT8 weights, where there is one for the device and type of ``x``."""
    engine = products.engine_product
    dense = scheme == schemes.SCHEMES["int8-dense"] and x.device.type != "cpu"
    return engine if dense and engine is not None and x.dtype in engine.dtypes else None


def _scaled_product(q: Tensor, row_scale: Tensor, packed: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """Multiply FP8 by dense FP8 with all scales and the bias applied: [M, N] bf16."""
    note("product", products.product_name(schemes.SCHEMES["fp8-dense"], q.device.type))
    return torch._scaled_mm(
        q,
        packed.t(),
        scale_a=row_scale[:, None],
        scale_b=scale[None, :],
        bias=None if bias is None else bias.bfloat16(),
        out_dtype=torch.bfloat16,
        use_fast_accum=True,
    )
