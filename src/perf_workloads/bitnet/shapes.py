"""Which shapes does BitNet have, and in which forms can its weights be kept?"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

Method = Literal["fp32", "bf16", "int8", "online", "packed"]

#: What happens to a layer's weights, and the type of everything else in the model (embeddings, norms, head).
METHODS: Mapping[Method, str] = MappingProxyType(
    {
        # Quantised once; codes -1, 0, 1 kept as fp32, bf16, int8, or four to a byte.
        "fp32": "float32",
        "bf16": "bfloat16",
        "int8": "bfloat16",
        # The anti-pattern: master weights are kept, and quantised again in every call.
        "online": "float32",
        "packed": "bfloat16",
    }
)

#: Models by name, in the words of ``BitNetConfig``.
MODELS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        # bitnet-b1.58-2B-4T.
        "2b4t": MappingProxyType(
            {
                "hidden_size": 2560,
                "intermediate_size": 6912,
                "num_hidden_layers": 30,
                "num_attention_heads": 20,
                "num_key_value_heads": 5,
                "vocab_size": 128256,
            }
        ),
        # The same proportions in small: grouped heads, widths that are and are not multiples of 256.
        "tiny": MappingProxyType(
            {
                "hidden_size": 160,
                "intermediate_size": 512,
                "num_hidden_layers": 2,
                "num_attention_heads": 5,
                "num_key_value_heads": 1,
                "vocab_size": 512,
            }
        ),
    }
)

#: The different linear layers of bitnet-b1.58-2B-4T: (inputs, outputs). "up" is also the gate's shape, "query" the
#: output projection's, "key" the value's. The head is not ternary.
LAYERS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {"up": (2560, 6912), "down": (6912, 2560), "query": (2560, 2560), "key": (2560, 640), "head": (2560, 128256)}
)

#: Linear layers of one decoder layer.
LINEAR_LAYERS = 7


def linear_layers(layers: int) -> int:
    """Count the linear layers of a model with so many decoder layers, the head among them: 211 for 30."""
    return LINEAR_LAYERS * layers + 1
