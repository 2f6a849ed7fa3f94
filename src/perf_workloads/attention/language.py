"""How well does a decoder learn to write: loss and perplexity by epoch? Imports torch."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from perf_workloads.attention.corpus import CHARACTERS
from perf_workloads.attention.training import Training, forward_and_loss

#: Told about the progress of a training.
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Epoch:
    """One pass over the training text.

    Args:
        number: from 1.
        train_loss: mean over its updates, in nats a character, dropout included.
        validation_loss: after it, in nats a character, without dropout.
    """

    number: int
    train_loss: float
    validation_loss: float

    @property
    def perplexity(self) -> float:
        """Give the perplexity of a character of the validation text."""
        return math.exp(self.validation_loss)


def encode(text: str, device: torch.device | str = "cpu") -> torch.Tensor:
    """Give the ids [len(text)] int64 of characters.

    Raises:
        ValueError: a character that is not in the vocabulary.
    """
    unknown = sorted(set(text) - set(CHARACTERS))
    if unknown:
        raise ValueError(f"encode: {unknown} are not in the vocabulary")
    table = torch.zeros(128, dtype=torch.int64)
    for number, character in enumerate(CHARACTERS):
        table[ord(character)] = number
    codes = torch.frombuffer(bytearray(text, "ascii"), dtype=torch.uint8)
    return table[codes.long()].to(device)


def unigram_entropy(text: str) -> float:
    """Give the nats a character of whoever knows how frequent each is, and nothing else."""
    return -sum(count / len(text) * math.log(count / len(text)) for count in Counter(text).values())


def sequences(ids: torch.Tensor, tokens: int) -> torch.Tensor:
    """Cut ids into as many sequences [N, tokens + 1] as there are; neighbours share the character between them."""
    count = (len(ids) - 1) // tokens
    return ids[: count * tokens + 1].unfold(0, tokens + 1, tokens)


def pretrain(
    training: Training,
    train: torch.Tensor,
    validation: torch.Tensor,
    *,
    epochs: int,
    seed: int = 0,
    progress: Progress = lambda text: None,
) -> Iterator[Epoch]:
    """Train for some epochs, and give each when it is done.

    Args:
        training: its recipe's batch is used.
        train: [N, T + 1] ids.
        validation: [M, T + 1] ids.
        epochs: passes over ``train``, each in another order; sequences that fill no batch are left out.
        seed: of orders and of dropout. Torch's own generators are left as they were.
        progress: told where it is.

    Raises:
        ValueError: fewer sequences than one batch has.
    """
    batch = training.recipe.batch
    if len(train) < batch:
        raise ValueError(f"pretrain: {len(train)} sequences do not fill a batch of {batch}")
    generator = torch.Generator().manual_seed(seed)
    devices = [train.device] if train.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        for number in range(1, epochs + 1):
            order = torch.randperm(len(train), generator=generator)[: len(train) // batch * batch].to(train.device)
            losses = []
            training.model.train()
            for some in order.split(batch):
                rows = train[some]
                losses.append(training.step(rows[:, :-1], rows[:, 1:]))
                if len(losses) % 50 == 0:
                    progress(f"epoch {number} of {epochs}, loss {losses[-1].item():.3f}")
            train_loss = torch.stack(losses).mean().item()
            yield Epoch(number, train_loss, validation_loss(training.model, validation, batch))


@torch.no_grad()  # type: ignore[untyped-decorator]
def validation_loss(model: Any, validation: torch.Tensor, batch: int) -> float:
    """Give the mean loss of sequences [M, T + 1], without dropout, and leave the model in training."""
    model.eval()
    total = sum(
        forward_and_loss(model, rows[:, :-1], rows[:, 1:]).double() * len(rows) for rows in validation.split(batch)
    )
    model.train()
    return float(total / len(validation))


def updates_within(seconds: float, step: Callable[[], Any], *, trials: int = 10) -> int:
    """Give how many updates fit into some seconds, found by making a few.

    Args:
        seconds: there are.
        step: makes one update of a model that is thrown away, and gives its loss.
        trials: updates that are timed, after three that are not.
    """

    def run(updates: int) -> float:
        begin = time.perf_counter()
        for _ in range(updates):
            # Reading the loss waits for a device.
            step().item()
        return time.perf_counter() - begin

    run(3)
    return max(1, int(seconds / (run(trials) / trials)))
