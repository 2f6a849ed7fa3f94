"""Which shapes do the served models give the kernels?"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelShape:
    """Widths of a decoder's rows: of the residual stream, between the two halves of the MLP, and before attention."""

    name: str
    hidden: int
    intermediate: int
    query_key_value: int


MODELS = (
    ModelShape("Llama3.2-1B", hidden=2048, intermediate=8192, query_key_value=3072),
    ModelShape("Llama3.2-3B", hidden=3072, intermediate=8192, query_key_value=5120),
    ModelShape("Qwen2.5-7B", hidden=3584, intermediate=18944, query_key_value=4608),
    ModelShape("Qwen2.5-14B", hidden=5120, intermediate=13824, query_key_value=7168),
)
#: The distinct widths, ascending.
WIDTHS = tuple(sorted({width for model in MODELS for width in (model.hidden, model.intermediate)}))
#: The distinct numbers of outputs that linear layers have, ascending.
OUTPUTS = tuple(sorted({n for model in MODELS for n in (model.hidden, 2 * model.intermediate, model.query_key_value)}))
#: Tokens in one forward pass: decode and prefill.
TOKENS = (128, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
