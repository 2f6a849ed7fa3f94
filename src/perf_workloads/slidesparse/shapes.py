"""Which linear layers do the served models have, and how many tokens do they multiply at once?

Query, key and value are one layer, and so are gate and up, as serving engines fuse them. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

#: Tokens of a pass: 64 to 512 are sequences that decode together, 512 to 65536 are prompts.
TOKENS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)


class Layer(NamedTuple):
    """A linear layer: K inputs, N outputs, and whether it has a bias."""

    inputs: int
    outputs: int
    bias: bool = False


def _layers(hidden: int, intermediate: int, query_key_value: int, *, bias: bool) -> Mapping[str, Layer]:
    """List a decoder layer's linear layers."""
    return MappingProxyType(
        {
            "qkv": Layer(hidden, query_key_value, bias),
            "o": Layer(hidden, hidden),
            "gate_up": Layer(hidden, 2 * intermediate),
            "down": Layer(intermediate, hidden),
        }
    )


#: Linear layers by model and name. Heads are 64 wide in Llama3.2-1B, 128 in the others.
MODELS: Mapping[str, Mapping[str, Layer]] = MappingProxyType(
    {
        "Llama3.2-1B": _layers(2048, 8192, (32 + 2 * 8) * 64, bias=False),
        "Llama3.2-3B": _layers(3072, 8192, (24 + 2 * 8) * 128, bias=False),
        "Qwen2.5-7B": _layers(3584, 18944, (28 + 2 * 4) * 128, bias=True),
        "Qwen2.5-14B": _layers(5120, 13824, (40 + 2 * 8) * 128, bias=True),
    }
)
