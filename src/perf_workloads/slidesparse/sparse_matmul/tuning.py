"""Which algorithms of cuSPARSELt does ``perfgate tune sparse_matmul`` try, and on which shapes?

The library searches by itself, in both orders of the result; what it finds is timed again as everything else is, with
a cold L2 cache, in turns with its default, and checked. There are more than a thousand classes: ``--shapes
'int8-37888x*'`` tunes one layer (gate and up of Qwen2.5-7B) in all sparsities, and ``--shapes 'int8-to-bf16-37888x*'``
the same with results that are scaled and bf16.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from perf_kernels.sparse_weights import compress, prune_weight
from perf_kernels.sparse_weights.inputs import random_weight
from perf_workloads.slidesparse import products
from perf_workloads.slidesparse.linear import TYPES, slid_width
from perf_workloads.slidesparse.products import Algorithm, multiply_sparse
from perf_workloads.slidesparse.schemes import SCHEMES, TO_BF16
from perf_workloads.slidesparse.shapes import MODELS
from perfgate.tune.check import bit_equal, close
from perfgate.tune.lost import loses_device
from perfgate.tune.tunable import Tunable

#: Difference of two sums of FP8 products, of the largest one: tensor cores add up with some 14 bits, and cut off the
#: rest, so that another order or splitting gives another sum.
FP8_DIFFERENCE = 0.03
#: Difference of two scaled sums, of either: sums are exact, and neighbours in bf16 differ by up to a part in 2**7.
BF16_DIFFERENCE = 2.0**-7

Shape = tuple[int, int, int, bool, bool]
Tensor = Any


def _shapes() -> Iterator[Shape]:
    """Give each matrix of slid weights of the served models with each number of rows: INT8, FP8, INT8 to bf16."""
    seen = set()
    for scheme in (*SCHEMES.values(), *TO_BF16.values()):
        for layer in (layer for layers in MODELS.values() for layer in layers.values()):
            columns = slid_width(layer.inputs, scheme)
            matrix = (layer.outputs, columns, scheme.codes == "int8", scheme.epilogue == "bf16")
            if scheme.group is None or matrix in seen:
                continue
            seen.add(matrix)
            yield from ((rows, *matrix) for rows in products.CLASSES)


def _candidates(rows: int, outputs: int, columns: int, integer: bool, scaled: bool = False) -> Iterator[Algorithm]:
    """Give the default in the other order of the result, and what the library finds in both, if it is there."""
    yield Algorithm(transposed=True)
    if not torch.backends.cusparselt.is_available():
        return
    for transposed in (False, True):
        found = _searched(*_inputs(rows, outputs, columns, integer, scaled), transposed)
        if found is not None:
            yield found


def _neighbours(
    config: Algorithm, rows: int, outputs: int, columns: int, integer: bool, scaled: bool = False
) -> Iterator[Algorithm]:
    """Give the same algorithm with the other order of the result."""
    yield replace(config, transposed=not config.transposed)


def _searched(q: Tensor, compressed: Tensor, scale: Tensor | None, transposed: bool) -> Algorithm | None:
    """Let the library search; None where it cannot write this order, as the attempt with its default tells."""
    results = products.sums_type(q.dtype is torch.int8) if scale is None else torch.bfloat16
    try:
        # The operator ``_cslt_sparse_mm_search`` keeps what was found about splitting to itself.
        alg_id, split_k, split_k_mode, _ = torch._C._cusparselt.mm_search(
            compressed, q.t(), None, scale, results, transposed
        )
    except RuntimeError as error:
        if loses_device(error):
            raise
        return None
    return Algorithm(int(alg_id), int(split_k), int(split_k_mode), transposed)


@functools.lru_cache(maxsize=1)
def _inputs(
    rows: int, outputs: int, columns: int, integer: bool, scaled: bool = False
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Draw codes [rows, columns], weights [outputs, columns] with 2 zeros of 4, compressed, and maybe their scales.

    Scales differ by a factor of 4, so that no wrong one passes for the right one.
    """
    dtype = TYPES["int8" if integer else "fp8"]
    scale = torch.linspace(0.0005, 0.002, outputs, device="cuda") if scaled else None
    return random_weight(rows, columns, dtype, "cuda", 1), _weight(outputs, columns, dtype), scale


@functools.lru_cache(maxsize=1)
def _weight(outputs: int, columns: int, dtype: Any) -> Tensor:
    return compress(prune_weight(random_weight(outputs, columns, dtype, "cuda"), 4))


def _launch(config: Algorithm, q: Tensor, compressed: Tensor, scale: Tensor | None) -> Tensor:
    return multiply_sparse(q, compressed, config, scale=scale)


def _check(expected: Tensor, got: Tensor) -> str:
    """Compare sums: of integers bit by bit, those that are rounded to bf16 each with its own, FP8 by the largest."""
    if expected.dtype is torch.int32:
        return bit_equal(expected, got)
    if expected.dtype is not torch.bfloat16 or got.dtype is not torch.bfloat16 or expected.shape != got.shape:
        return close(expected, got, relative=FP8_DIFFERENCE)
    allowed = BF16_DIFFERENCE * torch.maximum(expected.abs(), got.abs()).float()
    # Written so that a NaN differs.
    wrong = expected.numel() - int(((expected.float() - got.float()).abs() <= allowed).sum())
    return f"{wrong} of {expected.numel()} elements differ from the default's by more than bf16 rounds" if wrong else ""


TUNABLE = Tunable(
    kernel=products.choose.kernel,
    shapes=_shapes,
    shape_class=products.shape_class,
    default=products.default_algorithm,
    candidates=_candidates,
    neighbours=_neighbours,
    inputs=_inputs,
    launch=_launch,
    check=_check,
)
