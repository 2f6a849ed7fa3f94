"""Which tasks show what a mixer can remember? Copying a sequence, and recalling values by their keys.

Every answer can be known from what stands before it, so a model that can remember reaches 100 %. Only answers count in
the loss; what stands before them is random and cannot be predicted. Imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import pad

#: Target of a position that has no answer; cross_entropy passes it over.
NOTHING = -100


@dataclass(frozen=True)
class Task:
    """One task.

    Args:
        name: "copy" or "recall".
        items: symbols to copy, or pairs to remember.
        symbols: to copy or recall from; there are as many keys. No two keys of a sequence are the same: a second value
            would make the answer ambiguous.
        multiple: sequences are filled up at their end to a multiple of so many tokens. No answer is due there, and no
            earlier token sees it; fla tunes its kernels anew, for minutes, where a sequence is shorter than a chunk.
    """

    name: str
    items: int
    symbols: int = 64
    multiple: int = 1

    def __post_init__(self) -> None:
        """Check that there is such a task.

        Raises:
            ValueError: an unknown name, or more pairs than keys.
        """
        if self.name not in ("copy", "recall"):
            raise ValueError(f"Task: name is {self.name!r}; it must be copy or recall")
        if self.name == "recall" and self.items > self.symbols:
            raise ValueError(f"Task: {self.items} pairs need as many keys, and there are {self.symbols}")

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return self.symbols + (1 if self.name == "copy" else self.symbols)

    @property
    def tokens(self) -> int:
        """How many tokens of a sequence mean something."""
        return (2 if self.name == "copy" else 3) * self.items

    @property
    def length(self) -> int:
        """How long a sequence is, filled up."""
        return -(-self.tokens // self.multiple) * self.multiple

    @property
    def chance(self) -> float:
        """How often a guess is right."""
        return 1 / self.symbols


def draw(task: Task, batch: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw sequences, the same for the same state of the generator.

    Args:
        task: what to draw.
        batch: how many sequences.
        generator: its device is where they are drawn.

    Returns:
        Inputs and targets, both [batch, length] int64; a target is ``NOTHING`` where no answer is due.
    """
    inputs, targets = (_copy if task.name == "copy" else _recall)(task, batch, generator)
    fill = (0, task.length - task.tokens)
    return pad(inputs, fill), pad(targets, fill, value=NOTHING)


def _copy(task: Task, batch: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw ``s1 .. sn > s1 .. sn``: each symbol after the separator is predicted from those before it."""
    device = generator.device
    symbols = torch.randint(task.symbols, (batch, task.items), generator=generator, device=device)
    separator = symbols.new_full((batch, 1), task.symbols)
    inputs = torch.cat([symbols, separator, symbols[:, :-1]], dim=1)
    return inputs, torch.cat([torch.full_like(symbols, NOTHING), symbols], dim=1)


def _recall(task: Task, batch: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw ``k1 v1 .. kn vn`` and the keys again in another order: each key is answered by its value."""
    device = generator.device

    def shuffled(count: int) -> torch.Tensor:
        return torch.rand((batch, count), generator=generator, device=device).argsort(dim=1)

    keys = shuffled(task.symbols)[:, : task.items] + task.symbols
    values = torch.randint(task.symbols, (batch, task.items), generator=generator, device=device)
    order = shuffled(task.items)
    inputs = torch.cat([torch.stack([keys, values], dim=2).flatten(1), keys.gather(1, order)], dim=1)
    nothing = torch.full_like(inputs[:, : 2 * task.items], NOTHING)
    return inputs, torch.cat([nothing, values.gather(1, order)], dim=1)
