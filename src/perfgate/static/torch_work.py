"""What does torch do on the device beside a launcher's kernels? Its operators are counted. Heavy: imports torch.

A copy that makes rows contiguous, or a buffer of zeros, costs more than many a change of a kernel.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils import _pytree

#: Operators that give memory, and leave it as it is.
_UNWRITTEN = ("empty", "new_empty", "resize_")


@dataclass
class TorchWork:
    """What torch did for one launch.

    Attributes:
        operators: by name, how often one ran that reads or writes on the device. To view or give memory is neither.
        allocated: bytes of all tensors that came into being on the device, whether or not they are there at the end.
    """

    operators: Counter[str] = field(default_factory=Counter)
    allocated: int = 0

    def add(self, operator: Any, arguments: Any, results: Any) -> None:
        """Count one operator that ran.

        Args:
            operator: as torch dispatches it.
            arguments: all that it was called with.
            results: what it gave.
        """
        given, made = _on_device(arguments), _on_device(results)
        if not isinstance(operator, torch._ops.OpOverload) or operator.is_view or not (given or made):
            return
        storages = {tensor.untyped_storage()._cdata for tensor in given}
        new = {each._cdata: each.nbytes() for each in (tensor.untyped_storage() for tensor in made)}
        self.allocated += sum(size for storage, size in new.items() if storage not in storages)
        name = operator._schema.name
        works = operator._schema.is_mutable or any(map(torch.is_tensor, _pytree.tree_leaves(results)))
        if works and not name.rpartition("::")[2].startswith(_UNWRITTEN):
            self.operators[name] += 1

    def told(self) -> str:
        """List the operators, e.g. ``aten::clone, 2 aten::zeros``."""
        return ", ".join(name if times == 1 else f"{times} {name}" for name, times in sorted(self.operators.items()))


def _on_device(values: Any) -> list[torch.Tensor]:
    return [
        each for each in _pytree.tree_leaves(values) if isinstance(each, torch.Tensor) and each.device.type == "cuda"
    ]
