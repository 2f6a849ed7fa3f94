"""How are quantised activations multiplied by weights, for each scheme and device?

On a GPU dense weights go through ``torch._int_mm`` or ``torch._scaled_mm``, 2:4 sparse ones through cuSPARSELt with the
algorithm that ``perfgate tune sparse_matmul`` stored for the shape, else with its default. Inside a serving engine
dense INT8 weights go through the engine's own product, so that sparse ones are compared with what would be served
otherwise (``torch._int_mm`` gives half of its tokens/s on an H200). On a CPU slid weights are
kept uncompressed, and everything goes through ``torch._int_mm``, or for FP8 through a product of fp32. Nothing falls
back to another product: what a product needs and does not get is an error. Which one ran is noted as ``product``.

Products give sums, ``multiply``, or for a scheme whose epilogue is "bf16" sums that the weights' scales are applied to,
``multiply_scaled``: cuSPARSELt does that to its accumulators, as fp32, before it rounds and writes them.

Where cuSPARSELt writes int32 it does the same with a scale of 1, which torch hands it as fp32: sums are then exact up
to 2**24, and above that the exact sum rounded to fp32, to nearest even, as the case ``test_sums_beyond_fp32`` shows on
an H200. Layers give the same bits as from exact sums, since ``dequantize_bias`` begins with that rounding.

Imports torch and triton: import it where it is used.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from perf_kernels.arguments import described
from perf_kernels.tuned import Chooser, rows_class
from perf_workloads.slidesparse.schemes import Scheme
from perf_workloads.slidesparse.shapes import TOKENS
from perfgate.measure.notes import note

#: Rows and columns of what cuSPARSELt multiplies are multiples of this, and so are those of dense weights on a GPU.
SPARSE_MULTIPLE, DENSE_MULTIPLE = 32, 16
#: ``torch._int_mm`` on a GPU takes more rows than 16; cuSPARSELt takes multiples of 16.
LEAST_ROWS, ROW_MULTIPLE = 32, 16
#: Most rows that an algorithm is searched for; it then holds for more as well.
CLASSES = tuple(tokens for tokens in TOKENS if tokens <= 16384)

Tensor = Any


@dataclass(frozen=True)
class EngineProduct:
    """A serving engine's own product of dense INT8 codes, which applies scales and bias.

    Attributes:
        name: as it is noted.
        call: takes codes [M, K] and [K, N], scales [M, 1] and [N, 1] fp32, the type of the result and a bias [N] of
            that type or None; gives [M, N].
        dtypes: of results that it gives.
    """

    name: str
    call: Callable[[Tensor, Tensor, Tensor, Tensor, Any, Tensor | None], Tensor]
    dtypes: tuple[Any, ...] = (torch.bfloat16, torch.float16)


#: That of the engine in this process, where there is one on a GPU.
engine_product: EngineProduct | None = None


def use_engine_product(product: EngineProduct | None) -> None:
    """Multiply dense INT8 weights on a GPU by the product of an engine from now on; None takes torch's again."""
    global engine_product
    engine_product = product


@dataclass(frozen=True)
class Algorithm:
    """How cuSPARSELt multiplies; the fields are arguments of ``torch._cslt_sparse_mm``.

    Attributes:
        alg_id: number of the algorithm, 0 for the library's default.
        split_k: parts that the columns are added up in.
        split_k_mode: how those are brought together, -1 for the library's choice.
        transposed: write the result row by row, as ``[M, N]``; else column by column, as the library's own order is.
    """

    alg_id: int = 0
    split_k: int = 1
    split_k_mode: int = -1
    transposed: bool = False


def default_algorithm(rows: int, outputs: int, columns: int, integer: bool, scaled: bool = False) -> Algorithm:
    """Give the algorithm for a shape that none was searched for."""
    return Algorithm()


def shape_class(rows: int, outputs: int, columns: int, integer: bool, scaled: bool = False) -> str:
    """Name the shapes that share an algorithm, e.g. ``int8-37888x5376-8192``: one matrix of weights, and some rows.

    Args:
        rows: rows of activations.
        outputs: rows of weights, N.
        columns: columns of slid weights, K'.
        integer: whether codes are INT8; else they are FP8.
        scaled: whether results are scaled and bf16, ``int8-to-bf16-…``: the library numbers its algorithms for each
            type of results anew.
    """
    codes = "int8" if integer else "fp8"
    return f"{codes}{'-to-bf16' if scaled else ''}-{outputs}x{columns}-{rows_class(rows, CLASSES)}"


choose: Any = Chooser("sparse_matmul", default_algorithm, shape_class)


def product_name(scheme: Scheme, device_type: str) -> str:
    """Name the product that a scheme's weights go through on a device, as it is noted."""
    if scheme.epilogue == "bf16":
        return f"{product_name(scheme.exact, device_type)}, scaled to bf16"
    if device_type == "cpu":
        return "torch._int_mm" if scheme.codes == "int8" else "fp32 product of fp8 codes"
    if scheme.group is not None:
        return "cuSPARSELt"
    return "torch._int_mm" if scheme.codes == "int8" else "torch._scaled_mm"


def multiply(q: Tensor, packed: Tensor, scheme: Scheme) -> Tensor:
    """Multiply codes of activations by packed weights: the sums before any scale.

    Args:
        q: [M, K'] codes: quantised, and slid for a sparse scheme.
        packed: the weights, as :func:`perf_workloads.slidesparse.linear.pack_weight` gives them.
        scheme: how they are kept, with the epilogue "int32".

    Returns:
        [M'', N'], M'' >= M and N' >= N, int32 for INT8 and fp32 for FP8; maybe column by column. INT8 sums are exact,
        cuSPARSELt's up to 2**24 alone: see above.
    """
    note("product", product_name(scheme, q.device.type))
    if q.device.type == "cpu":
        return torch._int_mm(q, packed.t()) if scheme.codes == "int8" else q.float() @ packed.float().t()
    if scheme.group is not None:
        return multiply_sparse(q, packed)
    if scheme.codes == "int8":
        return torch._int_mm(with_rows(q, at_least=LEAST_ROWS), packed.t())
    one = _one(q.device)
    return torch._scaled_mm(q, packed.t(), one, one, out_dtype=torch.float32, use_fast_accum=True)


def multiply_scaled(q: Tensor, packed: Tensor, scale: Tensor, scheme: Scheme) -> Tensor:
    """Multiply codes of activations by packed sparse INT8 weights, and apply the weights' scales.

    Args:
        q: [M, K'] int8 codes, quantised and slid.
        packed: the weights, as :func:`perf_workloads.slidesparse.linear.pack_weight` gives them.
        scale: [N] fp32, of the weights.
        scheme: how they are kept, with the epilogue "bf16".

    Returns:
        [M'', N'], M'' >= M and N' >= N, bf16: sums times scales as fp32, rounded once; maybe column by column.

    Raises:
        ValueError: the scale is not what the library reads, which asks for neither its type nor its size.
    """
    if (
        scale.dtype is not torch.float32
        or scale.device != q.device
        or scale.ndim != 1
        or len(scale) > packed.shape[0]
        or not scale.is_contiguous()
    ):
        raise ValueError(
            f"multiply_scaled: scale must be torch.float32 on {q.device}, contiguous, one dimension of at most "
            f"{packed.shape[0]}; it is {described(scale)}. A model that is cast to another type as a whole casts its "
            f"scales, too: cast it before its layers are converted"
        )
    note("product", product_name(scheme, q.device.type))
    if q.device.type == "cpu":
        return (torch._int_mm(q, packed.t()).float() * scale).bfloat16()
    return multiply_sparse(q, packed, scale=scale)


def multiply_sparse(
    q: Tensor, compressed: Tensor, algorithm: Algorithm | None = None, *, scale: Tensor | None = None
) -> Tensor:
    """Multiply codes by weights that cuSPARSELt compressed.

    Args:
        q: [M, K'] int8 or fp8 e4m3fn on an NVIDIA GPU; rows are padded to a multiple of 16.
        compressed: of [N', K'] weights.
        algorithm: how; by default what was tuned for this GPU and shape.
        scale: [N] fp32, of INT8 weights: to apply it and write bf16.

    Returns:
        [M', N'] int32 (exact up to 2**24) or fp32, or bf16 where there is a scale.
    """
    note("cusparselt", str(torch.backends.cusparselt.version()))
    q = with_rows(q, multiple=ROW_MULTIPLE)
    integer, outputs = q.dtype is torch.int8, compressed.shape[0]
    if algorithm is None:
        algorithm = choose(rows_class(len(q), CLASSES), outputs, q.shape[1], integer, scale is not None)
    product = torch._cslt_sparse_mm(
        compressed,
        q.t(),
        alpha=None if scale is None else _scale_of_all(scale, outputs),
        out_dtype=sums_type(integer) if scale is None else torch.bfloat16,
        transpose_result=algorithm.transposed,
        alg_id=algorithm.alg_id,
        split_k=algorithm.split_k,
        split_k_mode=algorithm.split_k_mode,
    )
    return product if algorithm.transposed else product.t()


def sums_type(integer: bool) -> Any:
    """Give the type of sums of INT8 or FP8 products."""
    return torch.int32 if integer else torch.float32


def _scale_of_all(scale: Tensor, outputs: int) -> Tensor:
    """Give a scale for each row of the weights, those that were added among them: the library reads that many.

    It would take a single one for a number, and wait for the GPU to read it; but ``outputs`` is a multiple of 32.
    """
    missing = outputs - len(scale)
    return scale if missing == 0 else torch.nn.functional.pad(scale, (0, missing))


def with_rows(q: Tensor, *, at_least: int = 1, multiple: int = 1) -> Tensor:
    """Append rows of zeros until there are ``at_least`` so many and a ``multiple``; a copy only if any are missing."""
    rows = max(-(-len(q) // multiple) * multiple, at_least)
    if rows == len(q):
        return q
    # Not every operation knows FP8; a code of 0 is a byte of 0 in both types.
    return torch.nn.functional.pad(q.view(torch.uint8), (0, 0, 0, rows - len(q))).view(q.dtype)


@functools.lru_cache(maxsize=8)
def _one(device: Any) -> Tensor:
    """Give the scale 1: allocated once, because a graph that is being captured cannot copy it from the CPU."""
    return torch.ones((), dtype=torch.float32, device=device)
