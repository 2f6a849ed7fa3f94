"""Which small calls reach every kernel, for tools that watch each access of a program?

``python -m perf_kernels.small_calls`` makes them all, on the GPU or in Triton's interpreter, and says which. Sizes are
ragged, so that every mask is at work; rows past the widest block take the kernels that walk a row twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch

from perf_kernels.decode_attention import decode_attention
from perf_kernels.decode_attention.inputs import random_step
from perf_kernels.decode_linear import decode_linear
from perf_kernels.decode_linear.inputs import FORMATS, random_weights
from perf_kernels.decode_linear.inputs import random_tokens as random_decoded
from perf_kernels.dequantize_bias import dequantize_bias
from perf_kernels.dequantize_bias.inputs import random_products
from perf_kernels.hbv import hbv
from perf_kernels.hbv.inputs import published_inputs
from perf_kernels.linear_attention import chunk_linear_attention
from perf_kernels.linear_attention.inputs import random_heads
from perf_kernels.row_inputs import random_rows
from perf_kernels.row_quantization import quantize_rows
from perf_kernels.silu_mul_quantization import silu_mul_quantize
from perf_kernels.slide_quantization import slide_quantize_rows
from perf_kernels.ternary_matmul import ternary_matmul
from perf_kernels.ternary_matmul.inputs import random_layer, random_tokens

#: A row of so many elements fits no block.
_TWO_PASSES = 2**16 + 3


def _rows(call: Callable[..., object], rows: int, width: int, *arguments: object, device: str) -> None:
    call(random_rows(rows, width, torch.bfloat16, device), *arguments)


def _dequantize(device: str) -> None:
    for dtype in (torch.int32, torch.float32):
        dequantize_bias(*random_products(37, 131, dtype, device=device))


def _decode(tokens: int, device: str) -> None:
    for form in FORMATS:
        values, scale = random_weights(74, 256, form, device=device)
        x = random_decoded(tokens, 256, device=device)
        decode_linear(x, values, scale, norm=torch.ones_like(x[0]), gated=True)


def _decode_attention(device: str) -> None:
    decode_attention(*random_step(2, 4, 2, 64, 71, 37, device=device))


def _ternary(tokens: int, device: str) -> None:
    layer = random_layer(515, 131, device)
    ternary_matmul(random_tokens(tokens, 515, torch.bfloat16, device), layer.packed, layer.gamma)


def _hbv(smooth: bool, device: str) -> None:
    *forcings, parameters, initial = published_inputs(19, 37, device)
    parameters.requires_grad_()
    discharge, _ = hbv(*forcings, parameters, initial=initial, smooth=smooth)
    discharge.sum().backward()


def _attend(normalize: bool, device: str) -> None:
    q, k, v = (x.requires_grad_() for x in random_heads(2, 133, 3, 64, dtype=torch.bfloat16, device=device))
    output, _ = chunk_linear_attention(q, k, v, normalize=normalize)
    output.float().sum().backward()


#: By kernel: each takes the device's name.
CALLS: Mapping[str, tuple[Callable[..., None], ...]] = {
    "row_quantization": (
        partial(_rows, quantize_rows, 37, 131),
        partial(_rows, quantize_rows, 3, _TWO_PASSES, torch.float8_e4m3fn),
    ),
    "slide_quantization": (
        partial(_rows, slide_quantize_rows, 37, 131, 8),
        partial(_rows, slide_quantize_rows, 3, 1003, 6, torch.float8_e4m3fn),
        partial(_rows, slide_quantize_rows, 3, _TWO_PASSES, 10),
    ),
    "silu_mul_quantization": (
        partial(_rows, silu_mul_quantize, 37, 262),
        partial(_rows, silu_mul_quantize, 3, 2 * _TWO_PASSES, torch.float8_e4m3fn),
    ),
    "dequantize_bias": (_dequantize,),
    "ternary_matmul": (partial(_ternary, 1), partial(_ternary, 5)),
    "decode_linear": (partial(_decode, 1), partial(_decode, 5)),
    "decode_attention": (_decode_attention,),
    "hbv": (partial(_hbv, False), partial(_hbv, True)),
    "linear_attention": (partial(_attend, False), partial(_attend, True)),
}


def main() -> None:
    """Make every call."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for kernel, calls in CALLS.items():
        for call in calls:
            call(device=device)
        if device == "cuda":
            torch.cuda.synchronize()
        print(f"{kernel}: {len(calls)} calls on {device}", flush=True)


if __name__ == "__main__":
    main()
