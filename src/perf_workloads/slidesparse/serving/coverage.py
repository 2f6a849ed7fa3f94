"""Which linear layers of an engine's model does a scheme convert, and which does it leave as they are?

Layers are converted by their names. A model whose layers have others would be served as floats, and its figures
taken for those of the scheme. Imports nothing heavy.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from perf_workloads.slidesparse.headers import NAMED, converts
from perf_workloads.slidesparse.serving.models import METHOD

#: vLLM's methods of layers that multiply by float weights: linear ones, and experts.
_FLOATS = ("UnquantizedLinearMethod", "UnquantizedFusedMoEMethod")


@dataclass(frozen=True)
class Coverage:
    """What a scheme converted of a model.

    Attributes:
        model: the model's class.
        converted: how many layers; one that vLLM merged, e.g. ``qkv_proj``, counts as one.
        left: how many layers of each kind are served as floats, by name without their number.
    """

    model: str
    converted: int
    left: Counter[str]

    def __str__(self) -> str:
        """Tell it as results store it, e.g. ``112 converted`` or ``64 converted, not 32 model.layers.N.mlp.gate``."""
        left = ", ".join(f"{count} {kind}" for kind, count in sorted(self.left.items()))
        return f"{self.converted} converted" + (f", not {left}" if left else "")

    def check(self, scheme: str) -> None:
        """Refuse to serve a model as a scheme of which it has nothing.

        Raises:
            ValueError: no layer was converted.
        """
        if self.converted:
            return
        found = ", ".join(sorted(self.left)) or "no linear layers"
        why = f"it converts those named {NAMED}, and the model has {found}"
        if any(converts(each.replace(".N", ".0")) for each in self.left):
            why = f"vLLM gives no scheme a say in those that it has, as in all Mamba 1 blocks: {found}"
        raise ValueError(
            f"{scheme} converts no layer of {self.model}: {why}. Its figures would be those of float weights: serve it "
            "without quantization_config, as bf16"
        )


def coverage(model: Any) -> Coverage:
    """Count the layers of a vLLM model, by the method that each one multiplies with."""
    converted, left = 0, Counter[str]()
    for name, layer in model.named_modules():
        method = getattr(layer, "quant_method", None)
        if getattr(method, "quantization", None) == METHOD:
            converted += 1
        elif type(method).__name__ in _FLOATS:
            left[kind(name)] += 1
    return Coverage(type(model).__name__, converted, left)


def kind(name: str) -> str:
    """Give a layer's name without its numbers: ``model.layers.N.mlp.gate`` for ``model.layers.3.mlp.gate``."""
    return re.sub(r"(?<=\.)\d+(?=\.|$)", "N", name)
