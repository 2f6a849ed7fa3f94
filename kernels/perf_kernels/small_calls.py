"""Which small calls reach every kernel, for tools that watch each access of a program?

``python -m perf_kernels.small_calls`` makes them all, on the GPU or in Triton's interpreter, and says which. Sizes are
ragged, so that every mask is at work; what only large shapes lead to, kernels that walk a row twice and sequences in
segments, is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch

from perf_kernels.decode_attention import LaunchConfig, decode_attention, workspace_for
from perf_kernels.decode_attention.inputs import random_step
from perf_kernels.decode_linear import decode_linear
from perf_kernels.decode_linear.inputs import FORMATS, random_weights
from perf_kernels.decode_linear.inputs import random_tokens as random_decoded
from perf_kernels.dequantize_bias import dequantize_bias
from perf_kernels.dequantize_bias.inputs import random_products
from perf_kernels.hbv import hbv
from perf_kernels.hbv.inputs import published_inputs
from perf_kernels.linear_attention import LaunchConfig as Chunks
from perf_kernels.linear_attention import chunk_linear_attention
from perf_kernels.linear_attention.inputs import random_heads, random_state
from perf_kernels.row_inputs import random_rows
from perf_kernels.row_launch import LaunchConfig as Tiles
from perf_kernels.row_quantization import quantize_rows
from perf_kernels.silu_mul_quantization import silu_mul_quantize
from perf_kernels.slide_quantization import LaunchConfig as Units
from perf_kernels.slide_quantization import slide_quantize_rows
from perf_kernels.ternary_matmul import ternary_matmul
from perf_kernels.ternary_matmul.inputs import random_layer, random_tokens

#: Read each row twice, in pieces smaller than a row.
_TWO_PASSES = Tiles(num_warps=4, tile=1024, one_pass=False)
_TWO_PASSES_SLID = Units(num_warps=4, groups=1, one_pass=False)
#: Walk over two segments of a sequence at the same time.
_TWO_SEGMENTS = Chunks(64, 64, segments=2)


def _rows(
    call: Callable[..., object], rows: int, width: int, *arguments: object, device: str, config: object = None
) -> None:
    call(random_rows(rows, width, torch.bfloat16, device), *arguments, config=config)


def _dequantize(dtype: torch.dtype, column_major: bool, device: str) -> None:
    acc, row_scale, column_scale, bias = random_products(37, 131, dtype, device=device)
    if dtype == torch.bfloat16:
        column_scale = None
    dequantize_bias(acc.T.contiguous().T if column_major else acc, row_scale, column_scale, bias)


def _decode(tokens: int, device: str) -> None:
    for form in FORMATS:
        values, scale = random_weights(26, 256, form, device=device)
        x = random_decoded(tokens, 256, device=device)
        decode_linear(x, values, scale, norm=torch.ones_like(x[0]), gated=True)


def _decode_codes(tokens: int, codes: torch.dtype, device: str) -> None:
    values, scale = random_weights(13, 256, "int8" if codes == torch.int8 else "fp8", device=device)
    x = random_decoded(tokens, 256, device=device)
    decode_linear(x, values, scale, residual=random_decoded(tokens, 13, device=device), codes=codes)


def _decode_attention(device: str) -> None:
    step = random_step(2, 4, 2, 64, 71, 37, device=device)
    decode_attention(*step)
    decode_attention(*step, workspace=workspace_for(step.keys, 4), config=LaunchConfig(16, 4, 2, splits=4))


def _ternary(tokens: int, device: str) -> None:
    layer = random_layer(515, 45, device)
    ternary_matmul(random_tokens(tokens, 515, torch.bfloat16, device), layer.packed, layer.gamma)


def _hbv(smooth: bool, of_forcings: bool, device: str) -> None:
    *forcings, parameters, initial = published_inputs(11, 37, device)
    for tensor in (*(forcings if of_forcings else ()), parameters, initial):
        tensor.requires_grad_()
    discharge, _ = hbv(*forcings, parameters, initial=initial, smooth=smooth)
    discharge.sum().backward()


def _attend(normalize: bool, config: Chunks | None, device: str) -> None:
    q, k, v = (x.requires_grad_() for x in random_heads(1, 133, 2, 64, 61, device=device, positive=normalize))
    state = random_state(1, 2, 64, 61, device, normalize=normalize)
    output, _ = chunk_linear_attention(
        q, k, v, initial_state=state, output_final_state=True, normalize=normalize, config=config
    )
    output.float().sum().backward()


#: By kernel: each takes the device's name.
CALLS: Mapping[str, tuple[Callable[..., None], ...]] = {
    "row_quantization": (
        partial(_rows, quantize_rows, 37, 131),
        partial(_rows, quantize_rows, 3, 2051, torch.float8_e4m3fn),
        partial(_rows, quantize_rows, 3, 2051, config=_TWO_PASSES),
    ),
    "slide_quantization": (
        partial(_rows, slide_quantize_rows, 11, 131, 8),
        partial(_rows, slide_quantize_rows, 3, 1003, 6, torch.float8_e4m3fn),
        partial(_rows, slide_quantize_rows, 3, 2051, 10, config=_TWO_PASSES_SLID),
    ),
    "silu_mul_quantization": (
        partial(_rows, silu_mul_quantize, 37, 262),
        partial(_rows, silu_mul_quantize, 3, 4102, torch.float8_e4m3fn),
        partial(_rows, silu_mul_quantize, 3, 4102, config=_TWO_PASSES),
    ),
    "dequantize_bias": tuple(
        partial(_dequantize, dtype, column_major)
        for dtype in (torch.int32, torch.float32, torch.bfloat16)
        for column_major in (False, True)
    ),
    "ternary_matmul": (partial(_ternary, 1), partial(_ternary, 5)),
    "decode_linear": (
        partial(_decode, 1),
        partial(_decode, 5),
        partial(_decode_codes, 1, torch.int8),
        partial(_decode_codes, 5, torch.float8_e4m3fn),
    ),
    "decode_attention": (_decode_attention,),
    "hbv": (partial(_hbv, False, False), partial(_hbv, True, True)),
    "linear_attention": (partial(_attend, False, None), partial(_attend, True, _TWO_SEGMENTS)),
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
