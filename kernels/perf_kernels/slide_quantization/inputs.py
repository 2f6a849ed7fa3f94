"""Which inputs is slide quantisation timed and checked on? Rows are those of every kernel of rows."""

from __future__ import annotations

import torch

from perf_kernels.row_inputs import AWKWARD, FINITE, awkward_rows, random_rows

__all__ = ["AWKWARD", "FINITE", "awkward_rows", "random_rows", "sparse_weight", "weight_windows"]


def sparse_weight(rows: int, width: int, group: int, seed: int = 0) -> torch.Tensor:
    """Draw integers in [-127, 127], ``[rows, width]`` int64, with exactly L - 2 non-zeros in each group of L."""
    generator = torch.Generator().manual_seed(seed)
    groups = -(-width // group)
    weight = torch.randint(1, 128, (rows, groups, group), generator=generator)
    weight *= torch.randint(0, 2, weight.shape, generator=generator) * 2 - 1
    first_two = torch.rand(weight.shape, generator=generator).argsort(dim=2)[..., :2]
    return weight.scatter(2, first_two, 0).reshape(rows, -1)[:, :width]


def weight_windows(weight: torch.Tensor, group: int) -> list[list[list[int]]]:
    """Place the non-zeros of each row: from the left, each in the first window that has it and holds fewer than 2.

    Element by element as it is defined, for small weights.

    Returns:
        Windows of 4 of each row in order, without padding.
    """
    placed = []
    for row in weight.tolist():
        row += [0] * (-len(row) % group)
        windows = []
        for start in range(0, len(row), group):
            left = {start + i for i in range(group) if row[start + i]}
            for first in range(start, start + group - 2, 2):
                taken = [column for column in range(first, first + 4) if column in left][:2]
                left -= set(taken)
                windows.append([row[column] if column in taken else 0 for column in range(first, first + 4)])
            if left:
                raise ValueError(f"more than {group - 2} non-zeros in the group of {group} from column {start}")
        placed.append(windows)
    return placed
