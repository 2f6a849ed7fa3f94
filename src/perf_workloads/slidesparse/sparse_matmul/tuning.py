"""Which algorithms of cuSPARSELt does ``perfgate tune sparse_matmul`` try, and on which shapes?

The library searches by itself, in both orders of the result; what it finds is timed again as everything else is, with
a cold L2 cache, in turns with its default, and checked. There are a thousand classes: ``--shapes 'int8-37888x*'`` tunes
one layer (gate and up of Qwen2.5-7B) in all sparsities.
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
from perf_workloads.slidesparse.schemes import SCHEMES
from perf_workloads.slidesparse.shapes import MODELS
from perfgate.tune.check import bit_equal, close
from perfgate.tune.tunable import Tunable

#: Difference of two sums of FP8 products, of the largest one: tensor cores add up with some 14 bits, and cut off the
#: rest, so that another order or splitting gives another sum.
FP8_DIFFERENCE = 0.03

Shape = tuple[int, int, int, bool]
Tensor = Any


def _shapes() -> Iterator[Shape]:
    """Give each matrix of slid weights of the served models with each number of rows, INT8 first."""
    seen = set()
    for scheme in SCHEMES.values():
        for layer in (layer for layers in MODELS.values() for layer in layers.values()):
            matrix = (layer.outputs, slid_width(layer.inputs, scheme), scheme.codes == "int8")
            if scheme.group is None or matrix in seen:
                continue
            seen.add(matrix)
            yield from ((rows, *matrix) for rows in products.CLASSES)


def _candidates(rows: int, outputs: int, columns: int, integer: bool) -> Iterator[Algorithm]:
    """Give the default in the other order of the result, and what the library finds in both, if it is there."""
    yield Algorithm(transposed=True)
    if not torch.backends.cusparselt.is_available():
        return
    for transposed in (False, True):
        found = _searched(*_inputs(rows, outputs, columns, integer), transposed)
        if found is not None:
            yield found


def _neighbours(config: Algorithm, rows: int, outputs: int, columns: int, integer: bool) -> Iterator[Algorithm]:
    """Give the same algorithm with the other order of the result."""
    yield replace(config, transposed=not config.transposed)


def _searched(q: Tensor, compressed: Tensor, transposed: bool) -> Algorithm | None:
    """Let the library search; None where it cannot write this order, as the attempt with its default tells."""
    sums = torch.int32 if q.dtype is torch.int8 else torch.float32
    try:
        # The operator ``_cslt_sparse_mm_search`` keeps what was found about splitting to itself.
        alg_id, split_k, split_k_mode, _ = torch._C._cusparselt.mm_search(
            compressed, q.t(), None, None, sums, transposed
        )
    except RuntimeError:
        return None
    return Algorithm(int(alg_id), int(split_k), int(split_k_mode), transposed)


@functools.lru_cache(maxsize=1)
def _inputs(rows: int, outputs: int, columns: int, integer: bool) -> tuple[Tensor, Tensor]:
    """Draw codes [rows, columns], and weights [outputs, columns] with 2 zeros of 4, compressed."""
    dtype = TYPES["int8" if integer else "fp8"]
    return random_weight(rows, columns, dtype, "cuda", 1), _weight(outputs, columns, dtype)


@functools.lru_cache(maxsize=1)
def _weight(outputs: int, columns: int, dtype: Any) -> Tensor:
    return compress(prune_weight(random_weight(outputs, columns, dtype, "cuda"), 4))


def _launch(config: Algorithm, q: Tensor, compressed: Tensor) -> Tensor:
    return multiply_sparse(q, compressed, config)


def _check(expected: Tensor, got: Tensor) -> str:
    """Compare sums: of integers bit by bit."""
    if expected.dtype is torch.int32:
        return bit_equal(expected, got)
    return close(expected, got, relative=FP8_DIFFERENCE)


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
