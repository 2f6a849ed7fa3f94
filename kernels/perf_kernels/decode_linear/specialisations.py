"""Which launches cover every compiled form of the kernels that users get? The static gate compiles ``LAUNCHES``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import torch

from perf_kernels.decode_linear import ops
from perf_kernels.decode_linear.inputs import GROUP, LAYERS, PROMPT_LAYERS, Format, Layer
from perf_kernels.decode_linear.naive_twin import matvec_naively
from perf_kernels.decode_linear.ops import decode_linear
from perf_kernels.narrowed import narrowed

_CODES = {"int8": torch.int8, "fp8": torch.float8_e4m3fn}


def _stored(layer: Layer, form: Format, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor | None]:
    def empty(*shape: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="cuda")

    if form == "dense":
        return empty(layer.rows, layer.width, dtype=dtype), None
    if form == "int4":
        scale = empty(layer.rows, layer.width // GROUP, dtype=torch.int32)
        return empty(layer.rows, layer.width // 8, dtype=torch.int32), scale
    return empty(layer.rows, layer.width, dtype=_CODES[form]), empty(layer.rows, dtype=torch.float32)


def _launch(
    name: str, form: Format, tokens: int = 1, *, dtype: torch.dtype = torch.bfloat16, codes: torch.dtype | None = None
) -> object:
    """Launch a layer as a decoder does: behind a norm, or with a residual added."""
    layer = LAYERS[name]
    x = torch.empty(tokens, layer.width, dtype=dtype, device="cuda")
    values, scale = _stored(layer, form, dtype)
    norm = torch.empty(layer.width, dtype=dtype, device="cuda") if layer.normed else None
    residual = torch.empty(tokens, layer.outputs, dtype=dtype, device="cuda") if layer.residual else None
    return decode_linear(x, values, scale, norm=norm, residual=residual, gated=layer.gated, codes=codes)


def _prompt(layer: Layer, form: Format, tokens: int, *, codes: torch.dtype | None = None) -> object:
    """Launch a layer as a short prompt does: alone."""
    values, scale = _stored(layer, form, torch.bfloat16)
    return decode_linear(
        torch.empty(tokens, layer.width, dtype=torch.bfloat16, device="cuda"), values, scale, codes=codes
    )


def _naive(name: str) -> object:
    layer = LAYERS[name]
    values, _ = _stored(layer, "dense", torch.bfloat16)
    return matvec_naively(torch.empty(layer.width, dtype=torch.bfloat16, device="cuda"), values)


def _narrow(name: str, form: Format, tokens: int) -> object:
    with narrowed(ops, "_batch_kernel"):
        return _launch(name, form, tokens)


#: Named by the type of the weights, the layer of Qwen3-4B and the number of tokens, and by what is special. Few,
#: because each is compiled for every target.
LAUNCHES: Mapping[str, Callable[[], object]] = {
    "bf16-gate_up-1": functools.partial(_launch, "gate_up", "dense"),
    "int8-gate_up-1": functools.partial(_launch, "gate_up", "int8"),
    "fp8-gate_up-1-codes": functools.partial(_launch, "gate_up", "fp8", codes=torch.float8_e4m3fn),
    "int4-gate_up-1": functools.partial(_launch, "gate_up", "int4", dtype=torch.float16),
    "bf16-gate_up-8": functools.partial(_launch, "gate_up", "dense", 8),
    "int4-down-8": functools.partial(_launch, "down", "int4", 8, dtype=torch.float16),
    "int8-gate-26": functools.partial(_prompt, Layer(9728, 2560), "int8", 26),
}
#: Compiled for one GPU of each vendor: other types and sizes, and parts that those above have in another way.
VENDOR_LAUNCHES: Mapping[str, Callable[[], object]] = {
    "int4-gate-64": functools.partial(_prompt, Layer(9728, 2560), "int4", 64),
    "fp8-gate_up-8-codes": functools.partial(_launch, "gate_up", "fp8", 8, codes=torch.float8_e4m3fn),
    "bf16-down-1": functools.partial(_launch, "down", "dense"),
}
#: Other forms that users get, compiled by tests for one target.
MORE_LAUNCHES: Mapping[str, Callable[[], object]] = {
    "bf16-qkv-1": functools.partial(_launch, "qkv", "dense"),
    "int8-down-1-codes": functools.partial(_launch, "down", "int8", codes=torch.int8),
    "int8-gate_up-8": functools.partial(_launch, "gate_up", "int8", 8),
    "int8-gate-64": functools.partial(_prompt, Layer(9728, 2560), "int8", 64),
    "int8-gate-33-codes": functools.partial(_prompt, Layer(9728, 2560), "int8", 33, codes=torch.int8),
}
#: Prompts of all lengths that are timed, and eight of three tokens; declared, and not compiled.
PROMPT_LAUNCHES: Mapping[str, Callable[[], object]] = {
    f"{form}{'-codes' if codes else ''}-{layer.outputs}-{layer.width}-{tokens}": functools.partial(
        _prompt, layer, form, tokens, codes=codes
    )
    for form, codes in (("int8", None), ("int8", torch.int8), ("fp8", torch.float8_e4m3fn), ("int4", None))
    for layer in PROMPT_LAYERS
    for tokens in (3, 24, 26, 64)
}
#: Deliberate mistakes, which the index check must find.
TWIN_LAUNCHES: Mapping[str, Callable[[], object]] = {
    "naive-head": functools.partial(_naive, "head"),
    "narrow-gate_up-8": functools.partial(_narrow, "gate_up", "dense", 8),
}
