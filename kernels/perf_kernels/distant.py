"""Does a kernel give the same bits wherever in memory the rows lie that it reads? hypothesis draws how far apart.

CPU memory is committed when it is touched: rows that lie 2**31 elements apart take their own pages alone. Kernels run
in Triton's interpreter, in a process of its own (``perf_kernels.test_distant``): one whose offsets are 32 bits wide
reads what is not its own, and mostly dies of it. What is written lies close together here; stores are looked at by
``test_index_width``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perf_kernels import decode_attention, dequantize_bias, hbv, linear_attention, ternary_matmul
from perf_kernels.decode_attention.inputs import random_step
from perf_kernels.dequantize_bias.inputs import random_products
from perf_kernels.hbv.inputs import published_inputs
from perf_kernels.hbv.kernel import launch_backward, launch_forward
from perf_kernels.linear_attention.inputs import random_heads
from perf_kernels.row_inputs import random_rows
from perf_kernels.row_launch import LaunchConfig as Tiles
from perf_kernels.row_quantization import quantize_rows
from perf_kernels.row_quantization.naive_twin import quantize_rows_naively
from perf_kernels.silu_mul_quantization import silu_mul_quantize
from perf_kernels.slide_quantization import LaunchConfig as Units
from perf_kernels.slide_quantization import slide_quantize_rows
from perf_kernels.ternary_matmul.inputs import random_layer, random_tokens

#: Around the strides at which offsets of a few rows pass 2**31.
STRIDES = st.one_of(st.sampled_from([2**31 - 1, 2**31, 2**31 + 1, 2**30]), st.integers(2**29, 2**31 + 64))
#: Bytes of address space that one tensor may take: a system refuses more than it has memory.
ROOM = 2**33 + 2**12


@dataclass(frozen=True)
class Draw:
    """What hypothesis has drawn.

    Attributes:
        rows: of each input.
        stride: elements between two of them.
        block: 0, 1 or 2: which of a kernel's block sizes.
        seed: of the values.
    """

    rows: int
    stride: int
    block: int
    seed: int


#: Puts a tensor elsewhere: the dimension whose neighbours are moved apart comes with it.
Place = Callable[[torch.Tensor, int], torch.Tensor]


def near(x: torch.Tensor, dim: int) -> torch.Tensor:
    """Leave a tensor where it is."""
    return x


def far(stride: int, x: torch.Tensor, dim: int) -> torch.Tensor:
    """Copy a tensor into memory where neighbours along one dimension lie ``stride`` elements apart, or what fits."""
    strides = [*x.stride()]
    strides[dim] = min(stride, ROOM // ((x.shape[dim] - 1) * x.itemsize))
    length = 1 + sum((size - 1) * step for size, step in zip(x.shape, strides, strict=True))
    return torch.empty(length, dtype=x.dtype).as_strided(x.shape, strides).copy_(x)


def _quantize(place: Place, draw: Draw) -> object:
    x = random_rows(draw.rows, 131, torch.bfloat16, "cpu", seed=draw.seed)
    config = Tiles(num_warps=4, tile=(32, 64, 256)[draw.block], one_pass=draw.seed % 2 == 0)
    return quantize_rows(place(x, 0), config=config)


def _quantize_naively(place: Place, draw: Draw) -> object:
    x = place(random_rows(draw.rows, 131, torch.bfloat16, "cpu", seed=draw.seed), 0)
    q, scale = place(torch.zeros(draw.rows, 131, dtype=torch.int8), 0), torch.empty(draw.rows)
    quantize_rows_naively(x, q, scale)
    return q, scale


def _slide(place: Place, draw: Draw) -> object:
    x = random_rows(draw.rows, 131, torch.bfloat16, "cpu", seed=draw.seed)
    return slide_quantize_rows(place(x, 0), 8, config=Units(num_warps=1, groups=(1, 2, 4)[draw.block]))


def _silu(place: Place, draw: Draw) -> object:
    x = random_rows(draw.rows, 262, torch.bfloat16, "cpu", seed=draw.seed)
    return silu_mul_quantize(place(x, 0), config=Tiles(num_warps=4, tile=(32, 64, 256)[draw.block]))


def _dequantize(place: Place, draw: Draw) -> object:
    sums, row_scale, column_scale, bias = random_products(draw.rows, 131, torch.int32, device="cpu", seed=draw.seed)
    config = dequantize_bias.LaunchConfig(4, (32, 64, 256)[draw.block], 4)
    return dequantize_bias.dequantize_bias(place(sums, 0), row_scale, column_scale, bias, config=config)


def _ternary(place: Place, draw: Draw) -> object:
    layer = random_layer(515, 45, "cpu", seed=draw.seed)
    tokens = random_tokens(draw.rows, 515, torch.bfloat16, "cpu", seed=draw.seed)
    config = ternary_matmul.LaunchConfig(4, 16, 16, (1, 2, 4)[draw.block], 16)
    return ternary_matmul.ternary_matmul(place(tokens, 0), layer.packed, layer.gamma, config=config)


def _decode_attention(place: Place, draw: Draw) -> object:
    """Two sequences; their caches are contiguous, so it is their length that moves the second one away."""
    step = random_step(2, 2, 1, 32, 40, 37, device="cpu", seed=draw.seed)
    if place is not near:
        length = draw.stride // 32
        caches = {name: _longer(getattr(step, name), 2, length) for name in ("keys", "values")}
        step = step._replace(cos=_longer(step.cos, 0, length), sin=_longer(step.sin, 0, length), **caches)
    config = decode_attention.LaunchConfig((16, 32, 64)[draw.block], 4, 1)
    return decode_attention.decode_attention(*step, config=config)


def _longer(x: torch.Tensor, dim: int, length: int) -> torch.Tensor:
    """Copy a tensor into a longer one, contiguous, whose rest is never touched."""
    shape = [*x.shape]
    shape[dim] = length
    longer = torch.empty(shape, dtype=x.dtype)
    longer.narrow(dim, 0, x.shape[dim]).copy_(x)
    return longer


def _hbv(place: Place, draw: Draw) -> object:
    """The backward pass reads the gradient of the discharge as it lies; all else is made contiguous."""
    *forcings, parameters, initial = published_inputs(draw.rows, 37, "cpu", seed=draw.seed)
    config = hbv.LaunchConfig(block=(8, 16, 32)[draw.block])
    discharge, _, soil, checkpoint = launch_forward(
        *forcings, parameters, initial, smooth=draw.seed % 2 == 0, save=True, config=config
    )
    gradient = place(discharge.sin(), 0)
    options = {"smooth": draw.seed % 2 == 0, "forcings": True, "config": config}
    return launch_backward(*forcings, parameters, soil, checkpoint, gradient, None, **options)


def _attend(place: Place, draw: Draw) -> object:
    heads = random_heads(1, 16 + draw.rows, 1, 16, device="cpu", seed=draw.seed)
    placed = [place(x, 1).requires_grad_() for x in heads]
    config = linear_attention.LaunchConfig(16, 16, (1, 2, 3)[draw.block])
    output, _ = linear_attention.chunk_linear_attention(*placed, config=config)
    output.float().sum().backward()
    return output, *(x.grad for x in placed)


CALLS: Mapping[str, Callable[[Place, Draw], object]] = {
    "row_quantization": _quantize,
    "slide_quantization": _slide,
    "silu_mul_quantization": _silu,
    "dequantize_bias": _dequantize,
    "ternary_matmul": _ternary,
    "decode_attention": _decode_attention,
    "hbv": _hbv,
    "linear_attention": _attend,
}
#: Kernels all of whose inputs are contiguous rows, so that only their number moves them apart. Their last programs
#: are interpreted at a real size.
CONTIGUOUS: Mapping[str, str] = {"decode_linear": "perf_kernels.decode_linear.test_index_width"}
#: The deliberate mistake.
TWINS: Mapping[str, Callable[[Place, Draw], object]] = {"naive": _quantize_naively}


def check(kernel: str, examples: int) -> None:
    """Compare the bits of a kernel's results for rows that lie close and far apart.

    Args:
        kernel: of :data:`CALLS`, or a twin.
        examples: how many are drawn.

    Raises:
        AssertionError: they differ.
    """
    call = {**CALLS, **TWINS}[kernel]
    drawn = st.builds(Draw, st.sampled_from([3, 2]), STRIDES, st.integers(0, 2), st.integers(0, 2**16))

    @settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(drawn)
    def same_bits(draw: Draw) -> None:
        for found, expected in zip(
            _tensors(call(partial(far, draw.stride), draw)), _tensors(call(near, draw)), strict=True
        ):
            assert torch.equal(found, expected)

    same_bits()


def _tensors(results: object) -> list[torch.Tensor]:
    found = results if isinstance(results, tuple) else (results,)
    # Grouped results of a kernel, as pairs of tensors, count one by one.
    flat = [part for each in found for part in (each if isinstance(each, tuple) else (each,))]
    return [part.detach().clone() for part in flat if isinstance(part, torch.Tensor)]
