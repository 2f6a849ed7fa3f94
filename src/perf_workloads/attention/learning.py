"""Does a decoder learn a task, how fast, and how sure is that? Imports torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from perf_workloads.attention.statistics import binomial_interval
from perf_workloads.attention.tasks import NOTHING, Task, draw
from perf_workloads.attention.training import Training, logits

#: Accuracy that softmax attention must reach, or the task, the model or the training is broken.
LEARNED = 0.99


class BrokenTask(AssertionError):
    """A task that cannot be learned measures nothing."""


@dataclass(frozen=True)
class Learned:
    """What a decoder has learned.

    Args:
        right: answers that were right.
        answers: all answers, of sequences that were never trained on.
        updates: made until then.
        loss: of the last update, in nats an answer.
    """

    right: int
    answers: int
    updates: int
    loss: float

    @property
    def accuracy(self) -> float:
        """Give the share of right answers."""
        return self.right / self.answers

    @property
    def interval(self) -> tuple[float, float]:
        """Bound the accuracy with 95 % confidence, as if answers of one sequence were independent."""
        return binomial_interval(self.right, self.answers)


def learn(
    training: Training,
    task: Task,
    device: torch.device | str,
    *,
    seed: int = 0,
    every: int = 25,
    sequences: int = 512,
    progress: Callable[[str], None] = lambda text: None,
) -> Learned:
    """Train on fresh sequences until nearly all answers are right, or the recipe's updates are made.

    Args:
        training: of a new model.
        task: what to learn.
        device: where the model is.
        seed: of the sequences; those that are examined come from another one.
        every: updates between two looks.
        sequences: examined at each look.
        progress: told where it is.
    """
    generator = torch.Generator(device).manual_seed(seed)
    learned = Learned(0, 1, 0, float("nan"))
    while training.updates < training.recipe.updates and learned.accuracy < (1 + LEARNED) / 2:
        loss = training.step(*draw(task, training.recipe.batch, generator))
        if training.updates % every == 0 or training.updates == training.recipe.updates:
            right, answers = examine(training.model, task, device, sequences, seed + 1)
            learned = Learned(right, answers, training.updates, loss.item())
            progress(f"update {learned.updates}, loss {learned.loss:.3f}, accuracy {learned.accuracy:.1%}")
    right, answers = examine(training.model, task, device, 4 * sequences, seed + 2)
    return Learned(right, answers, learned.updates, learned.loss)


@torch.no_grad()  # type: ignore[untyped-decorator]
def examine(model: Any, task: Task, device: torch.device | str, sequences: int, seed: int) -> tuple[int, int]:
    """Give how many answers are right, and how many there are, for sequences of a seed."""
    model.eval()
    inputs, targets = draw(task, sequences, torch.Generator(device).manual_seed(seed))
    due = targets != NOTHING
    answers = logits(model, inputs).argmax(dim=-1)
    model.train()
    return int((answers[due] == targets[due]).sum().item()), int(due.sum().item())


def require_learned(learned: Learned, task: Task) -> None:
    """Refuse the figures of a task that the model which can do it has not learned.

    Raises:
        BrokenTask: its accuracy is not surely above a guess, or below ``LEARNED``.
    """
    low, high = learned.interval
    if learned.accuracy < LEARNED or low <= task.chance:
        raise BrokenTask(
            f"BROKEN: {task.name} of {task.items} was not learned: {learned.accuracy:.2%} of {learned.answers} answers "
            f"are right ({low:.2%} to {high:.2%}), {LEARNED:.0%} are asked for, a guess is right in {task.chance:.2%}; "
            f"{learned.updates} updates, loss {learned.loss:.3f}"
        )
