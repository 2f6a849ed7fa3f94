"""What multiplied in a linear layer in fact, whatever its form is called? Read from the operators of one call.

Imports torch.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch

from perf_workloads.bitnet.models import linear_modules
from perf_workloads.bitnet.shapes import METHODS, Method
from perf_workloads.implementation import WrongImplementation
from perf_workloads.operators import Operators
from perfgate.measure import notes

#: What the names of torch's products contain, and those of no other operator of a layer.
_PRODUCTS = ("mm", "mv", "dot", "linear", "matmul", "conv")
_ROUND = ("aten::round", "aten::round_")
#: What is put under this name is the launch of our kernel, by its own launcher; no operator of torch is run then.
_KERNEL = "ternary_matmul"
#: Operators that were seen -> what a case calls them.
_NAMES = {
    "mm float32": "fp32 linear",
    "mm bfloat16": "bf16 linear",
    "_int_mm int8": "torch._int_mm",
    "4 _int_mm int8": "torch._int_mm by fields",
    "weights quantised, mm float32": "quantise the weights, then fp32 linear",
}
_EXPECTED: dict[tuple[Method, str], str] = {
    ("fp32", "cpu"): "fp32 linear",
    ("fp32", "cuda"): "fp32 linear",
    ("bf16", "cpu"): "bf16 linear",
    ("bf16", "cuda"): "bf16 linear",
    ("int8", "cpu"): "torch._int_mm",
    ("int8", "cuda"): "torch._int_mm",
    ("packed", "cpu"): "torch._int_mm by fields",
    ("packed", "cuda"): "ternary_matmul kernel",
    ("online", "cpu"): "quantise the weights, then fp32 linear",
    ("online", "cuda"): "quantise the weights, then fp32 linear",
}


def seen_product(layer: Any, x: Any) -> str:
    """Call a layer once, without gradients, and name what multiplied in it.

    Args:
        layer: a linear layer, ternary or not.
        x: activations [..., K].

    Returns:
        What a case calls it, e.g. "torch._int_mm"; for what none does, all operators, e.g. "mm float32, 2 mm int8".
    """
    noted: dict[str, set[str]] = {}
    with torch.no_grad(), notes.collect(noted), Operators() as operators:
        layer(x)
    products: Counter[str] = Counter()
    for operator, count in operators.counts.items():
        name = operator.name.removeprefix("aten::")
        if any(sign in name for sign in _PRODUCTS):
            products[f"{name} {operator.dtype}"] += count
    parts = [name if count == 1 else f"{count} {name}" for name, count in sorted(products.items())]
    # Activations are rounded once.
    if sum(operators.names[name] for name in _ROUND) > 1:
        parts.insert(0, "weights quantised")
    if _KERNEL in noted:
        parts.append(f"{_KERNEL} kernel")
    text = ", ".join(parts) or "none"
    return _NAMES.get(text, text)


def seen_products(model: Any) -> dict[str, str]:
    """Name what multiplies one token in each linear layer of a model, by the layer's name."""
    return {
        name: seen_product(module, torch.ones((1, 1, module.in_features), dtype=model.dtype, device=model.device))
        for name, module in linear_modules(model).items()
    }


def assert_product(seen: str, method: Method, device: str, *, ternary: bool = True) -> None:
    """Check what multiplied in a layer.

    Args:
        seen: as ``seen_product`` gives it.
        method: form of the model's ternary weights.
        device: as ``torch.device`` takes it.
        ternary: whether the layer's weights are; the head is an ordinary layer in the type of the activations.

    Raises:
        WrongImplementation: it was another product than that of this form.
    """
    expected = _EXPECTED[method, torch.device(device).type] if ternary else _HEADS[METHODS[method]]
    if seen != expected:
        layer = f"a layer with {method} weights" if ternary else f"the head beside {method} weights"
        raise WrongImplementation(f"{layer} multiplies by {expected} on {device}, and what ran is: {seen}")


#: Type of the activations -> product of the head.
_HEADS = {"float32": "fp32 linear", "bfloat16": "bf16 linear"}
