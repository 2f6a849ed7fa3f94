"""What must pruning, sliding and compression of 2:L weights give? Plain torch and Python, readable and slow.

"2:L" means at least 2 zeros in each group of L columns. Windows of 4 at stride 2, ``W = L / 2 - 1`` of them, turn a
group into ``2 L - 4`` columns that are 2:4 sparse: window w of group g sees columns ``g L + 2 w`` to ``g L + 2 w + 3``,
and its lane l is column ``g 4W + 4 w + l`` of the result. Each weight is placed in the first window that sees it and
holds fewer than 2; activations are repeated for every window, so that the products are the same.
"""

from __future__ import annotations

import torch

#: Columns of a slid matrix are padded to a multiple of this, as activations are.
COLUMN_MULTIPLE = 32


def windows(group: int) -> int:
    """Give W, the windows of a group of L columns."""
    return group // 2 - 1


def slid_columns(columns: int, group: int) -> int:
    """Give K', the columns of a slid matrix with so many columns before."""
    used = -(-columns // group) * windows(group) * 4
    return -(-used // COLUMN_MULTIPLE) * COLUMN_MULTIPLE


def prune_weight_reference(weight: torch.Tensor, group: int) -> torch.Tensor:
    """Zero the 2 smallest magnitudes of each group of ``weight: [N, K]``; of equal ones those further left.

    Missing columns of a ragged last group count as zeros, which are further right than any zero that is there.
    """
    missing = -weight.shape[1] % group
    pruned = torch.cat([weight, weight.new_zeros(weight.shape[0], missing)], dim=1)
    magnitudes = pruned.to(torch.float64).abs()
    for row in range(weight.shape[0]):
        for start in range(0, pruned.shape[1], group):
            columns = range(start, start + group)
            # A NaN sorts above everything.
            order = sorted(columns, key=lambda at: (magnitudes[row, at].isnan().item(), magnitudes[row, at].item()))
            for column in order[:2]:
                pruned[row, column] = 0
    return pruned[:, : weight.shape[1]].contiguous()


def slide_weight_reference(weight: torch.Tensor, group: int) -> torch.Tensor:
    """Place the weights of ``weight: [N, K]``, 2:L sparse, in windows from left to right: [N, K']."""
    slid = torch.zeros(weight.shape[0], slid_columns(weight.shape[1], group), dtype=weight.dtype)
    for row in range(weight.shape[0]):
        for number, start in enumerate(range(0, weight.shape[1], group)):
            placed = set()
            for window in range(windows(group)):
                held = 0
                for lane in range(4):
                    column = start + 2 * window + lane
                    if column >= weight.shape[1] or column in placed or weight[row, column] == 0 or held == 2:
                        continue
                    slid[row, number * 4 * windows(group) + 4 * window + lane] = weight[row, column]
                    placed.add(column)
                    held += 1
    return slid


def slide_activations_reference(x: torch.Tensor, group: int) -> torch.Tensor:
    """Repeat the columns of ``x: [M, K]`` for every window that sees them: [M, K'], 0 where there is no column."""
    slid = x.new_zeros(x.shape[0], slid_columns(x.shape[1], group))
    for number in range(-(-x.shape[1] // group)):
        for window in range(windows(group)):
            for lane in range(4):
                column = number * group + 2 * window + lane
                if column < x.shape[1]:
                    slid[:, number * 4 * windows(group) + 4 * window + lane] = x[:, column]
    return slid


def compress_reference(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Compress ``weight: [N, K']``, 2:4 sparse, as its definition says (cuSPARSELt orders the same data its own way).

    Returns:
        Values [N, K' / 2], the two that are kept of each window in the order of their lanes; and their lanes, 2 bits
        each and two to a nibble, of which two windows fill a byte from its low bits: [N, K' / 8] uint8. A window with
        fewer than two non-zeros keeps zeros as well, the leftmost that are free.
    """
    rows, columns = weight.shape
    lanes = torch.empty(rows, columns // 4, 2, dtype=torch.int64)
    nonzero = (weight.to(torch.float64) != 0).view(rows, -1, 4)
    for row in range(rows):
        for window in range(columns // 4):
            # False sorts after True here: non-zeros first, then zeros, both from the left.
            kept = sorted(range(4), key=lambda lane: (not nonzero[row, window, lane], lane))[:2]
            lanes[row, window] = torch.tensor(sorted(kept))
    values = weight.view(rows, -1, 4).gather(2, lanes.to(weight.device)).reshape(rows, -1)
    nibbles = lanes[..., 0] | lanes[..., 1] << 2
    return values, (nibbles[:, ::2] | nibbles[:, 1::2] << 4).to(torch.uint8)


def decompress_reference(values: torch.Tensor, metadata: torch.Tensor) -> torch.Tensor:
    """Give the matrix [N, K'] that :func:`compress_reference` compressed."""
    rows = values.shape[0]
    nibbles = torch.stack([metadata & 15, metadata >> 4], dim=2).view(rows, -1)
    lanes = torch.stack([nibbles & 3, nibbles >> 2], dim=2).to(torch.int64)
    weight = values.new_zeros(rows, nibbles.shape[1], 4)
    return weight.scatter(2, lanes, values.view(rows, -1, 2)).view(rows, -1)
