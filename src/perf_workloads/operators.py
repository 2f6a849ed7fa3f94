"""Which operators of torch does a call run, and on operands of which type? Imports torch.

They are seen as torch dispatches them, below autograd and without a profiler, so that a call can be watched in the same
process in which it is timed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Operator(NamedTuple):
    """An operator, on tensors of one type.

    Attributes:
        name: as torch has it, e.g. "aten::mm".
        dtype: of its first tensor, e.g. "float32"; "" where it takes none.
    """

    name: str
    dtype: str


class Operators(TorchDispatchMode):  # type: ignore[misc]  # torch is not followed
    """Counts the operators that run inside.

    Attributes:
        counts: how often each operator ran.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[Operator] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        # In inference mode torch hands over whole what it takes apart everywhere else: a linear layer is a product.
        # What classes of tensors of their own do with it is theirs.
        if not types:
            with self:
                taken_apart = func.decompose(*args, **kwargs)
            if taken_apart is not NotImplemented:
                return taken_apart
        first = next((each for each in args if isinstance(each, torch.Tensor)), None)
        dtype = "" if first is None else str(first.dtype).removeprefix("torch.")
        self.counts[Operator(func._schema.name, dtype)] += 1
        return func(*args, **kwargs)

    @property
    def names(self) -> Counter[str]:
        """Give how often each operator ran, by name alone."""
        names: Counter[str] = Counter()
        for operator, count in self.counts.items():
            names[operator.name] += count
        return names


def operators_of(call: Callable[[], object]) -> Operators:
    """Run a call once and give the operators that it ran."""
    operators = Operators()
    with operators:
        call()
    return operators
