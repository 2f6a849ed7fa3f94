"""How is one run made to have M tokens in every pass? As the published run did it.

Prefill: prompts of min(M, 1024) tokens, ceil(M / 1024) of them in a pass, 128 passes, 1 new token. Decode: M sequences
at once, prompts of 16 tokens, 256 new tokens. Chunked prefill and prefix caching are off. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

Stage = Literal["prefill", "decode"]

STAGES: tuple[Stage, ...] = ("prefill", "decode")
#: M of the published run.
TOKENS: dict[Stage, tuple[int, ...]] = {
    "prefill": (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536),
    "decode": (64, 128, 256, 512),
}
LONGEST_PROMPT, DECODE_PROMPT = 1024, 16
PASSES, NEW_TOKENS = 128, 256
#: What one sequence may hold: the longest prompt or a decoded sequence, and some room.
MODEL_LENGTH = LONGEST_PROMPT + 256


class Point(NamedTuple):
    """One M of one stage."""

    stage: Stage
    tokens: int

    def __str__(self) -> str:
        return f"{self.stage} M={self.tokens}"


#: Every point of the published run, the smallest M first.
POINTS: tuple[Point, ...] = tuple(
    sorted((Point(stage, tokens) for stage in STAGES for tokens in TOKENS[stage]), key=lambda point: point.tokens)
)


@dataclass(frozen=True)
class Workload:
    """What an engine is given.

    Attributes:
        point: the stage, and M.
        prompts: number of sequences.
        prompt: tokens of each prompt.
        new_tokens: tokens that are generated for each.
        budget: tokens that the scheduler may put into one pass.
    """

    point: Point
    prompts: int
    prompt: int
    new_tokens: int
    budget: int

    @property
    def prompt_tokens(self) -> int:
        """Count the tokens of all prompts."""
        return self.prompts * self.prompt

    @property
    def output_tokens(self) -> int:
        """Count the tokens that are generated."""
        return self.prompts * self.new_tokens

    @property
    def steps(self) -> tuple[int, ...]:
        """List the tokens of every pass, as the scheduler must have them."""
        if self.point.stage == "prefill":
            return (self.budget,) * (self.prompt_tokens // self.budget)
        return (self.prompt_tokens,) + (self.prompts,) * (self.new_tokens - 1)


def workload(point: Point, passes: int = PASSES, new_tokens: int = NEW_TOKENS) -> Workload:
    """Pin M.

    Args:
        point: the stage and M. For prefill at most 1024, or a multiple of that.
        passes: how often a prefill of M tokens is repeated.
        new_tokens: that a sequence decodes, at least 2.

    Raises:
        ValueError: an M that cannot be pinned.
    """
    stage, tokens = point
    if tokens < 1:
        raise ValueError(f"{point}: M must be at least 1")
    if stage == "decode":
        if new_tokens < 2:
            raise ValueError(f"{point}: a sequence must decode at least 2 tokens")
        return Workload(point, tokens, DECODE_PROMPT, new_tokens, max(tokens * DECODE_PROMPT, MODEL_LENGTH))
    prompt = min(tokens, LONGEST_PROMPT)
    if tokens % prompt:
        raise ValueError(f"{point}: M must be at most {LONGEST_PROMPT}, or a multiple of it")
    return Workload(point, tokens // prompt * passes, prompt, 1, tokens)


def unpinned(wanted: Sequence[int], seen: Sequence[int]) -> str | None:
    """Say where an engine's passes differ from what pins M; None if they do not.

    Args:
        wanted: tokens of each pass.
        seen: what the scheduler put into each.
    """
    if list(seen) == list(wanted):
        return None
    for number, (right, found) in enumerate(zip(wanted, seen, strict=False), start=1):
        if right != found:
            return f"M is not pinned: pass {number} of {len(seen)} had {found} tokens, not {right}"
    return f"M is not pinned: {len(seen)} passes instead of {len(wanted)}"


def most_tokens(points: Iterable[Point]) -> int:
    """Give the largest pass that an engine must have room for, to run all of these points."""
    return max([MODEL_LENGTH, *(workload(point).budget for point in points)])


def most_sequences(points: Iterable[Point]) -> int:
    """Give the most sequences that an engine holds at once.

    One that schedules ahead still holds the sequences of a pass while it puts the next one together.
    """
    return max((_held(point) for point in points), default=1)


def _held(point: Point) -> int:
    return point.tokens if point.stage == "decode" else 2 * -(-point.tokens // LONGEST_PROMPT)
