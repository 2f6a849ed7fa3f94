"""Which shapes do the served models give the kernels?"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelShape:
    """Widths of a decoder's rows: of the residual stream, and between the two halves of the MLP."""

    name: str
    hidden: int
    intermediate: int


MODELS = (
    ModelShape("Llama3.2-1B", hidden=2048, intermediate=8192),
    ModelShape("Llama3.2-3B", hidden=3072, intermediate=8192),
    ModelShape("Qwen2.5-7B", hidden=3584, intermediate=18944),
    ModelShape("Qwen2.5-14B", hidden=5120, intermediate=13824),
)
#: The distinct widths, ascending.
WIDTHS = tuple(sorted({width for model in MODELS for width in (model.hidden, model.intermediate)}))
#: Tokens in one forward pass: decode and prefill.
TOKENS = (128, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
