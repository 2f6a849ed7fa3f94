"""Which implementations does a call run, operator by operator? Imports torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from perf_workloads.operators import Operator, operators_of

_ATTENTION = "_scaled_dot_product_"


@dataclass(frozen=True)
class Seen:
    """What a call did.

    Attributes:
        operators: how often each operator ran, by name ("aten::mm").
        typed: the same by name and type of the first operand.
        caches: class names of the caches that the model was given.
        passes: forward passes.
    """

    operators: Counter[str]
    typed: Counter[Operator]
    caches: frozenset[str]
    passes: int

    @property
    def attention(self) -> str:
        """Name what torch's scaled dot product attention chose, e.g. "flash", "efficient", "math"; sorted."""
        chosen = {
            name.split(_ATTENTION)[1].removesuffix("_attention").removesuffix("_attention_for_cpu")
            for name in self.operators
            if _ATTENTION in name
        }
        return " | ".join(sorted(chosen)) or "none"

    @property
    def fused_attentions(self) -> int:
        """Give how often scaled dot product attention ran as one operator, not in pieces."""
        return sum(count for name, count in self.operators.items() if _ATTENTION in name)


def watch(model: Any, call: Callable[[], object]) -> Seen:
    """Run a call once and tell what it did.

    Args:
        model: whose forward passes are counted.
        call: runs the model.
    """
    caches: set[str] = set()
    passes = 0

    def look(_: Any, __: Any, arguments: dict[str, Any]) -> None:
        nonlocal passes
        passes += 1
        caches.add(type(arguments.get("past_key_values")).__name__)

    hook = model.register_forward_pre_hook(look, with_kwargs=True)
    try:
        operators = operators_of(call)
    finally:
        hook.remove()
    return Seen(operators.names, operators.counts, frozenset(caches), passes)
