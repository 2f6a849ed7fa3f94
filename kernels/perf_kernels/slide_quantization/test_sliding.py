"""Does sliding keep every product: as it is defined, in integers, and for every pattern of zeros in a group?"""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn.functional import pad

from perf_kernels.row_quantization import quantize_rows
from perf_kernels.row_tests import DEVICE, refusal
from perf_kernels.slide_quantization import slid_width, slide, slide_quantize_rows
from perf_kernels.slide_quantization.inputs import random_rows, sparse_weight, weight_windows
from perf_kernels.slide_quantization.launch import GROUPS
from perf_kernels.undeclared_tests import few_short_rows

pytestmark = few_short_rows

by_size = pytest.mark.parametrize("group", GROUPS)


@by_size
def test_slide_as_it_is_defined(group: int) -> None:
    width = 3 * group - 1
    x = torch.arange(1, width + 1).reshape(1, width)
    windows = group // 2 - 1
    expected = [0] * slid_width(width, group)
    for g, w, lane in itertools.product(range(3), range(windows), range(4)):
        column = g * group + 2 * w + lane
        expected[4 * (g * windows + w) + lane] = column + 1 if column < width else 0
    assert slide(x, group).tolist() == [expected]


@by_size
def test_slide_keeps_every_product_exactly(group: int) -> None:
    """slide(x) . slide(w) == x . w in integers, and what is multiplied has at most 2 of 4 non-zeros."""
    width = 13 * group - 3
    x = random_rows(5, width, torch.bfloat16, DEVICE, seed=1)
    weight = sparse_weight(4, width, group, seed=2)
    slid_weight = torch.tensor(weight_windows(weight, group))
    assert (slid_weight.count_nonzero(dim=2) <= 2).all()
    slid_weight = slid_weight.flatten(1)
    slid_weight = pad(slid_weight, (0, slid_width(width, group) - slid_weight.shape[1]))

    q, _ = quantize_rows(x)
    slid_q, _ = slide_quantize_rows(x, group)

    assert slid_q.shape == (16, slid_weight.shape[1])
    assert torch.equal(slid_q.cpu().long()[:5] @ slid_weight.t(), q.cpu().long() @ weight.t())


@by_size
def test_every_pattern_of_a_group_can_be_placed(group: int) -> None:
    patterns = [p for p in itertools.product((0, 1), repeat=group) if sum(p) <= group - 2]
    weight = torch.tensor(patterns) * torch.arange(1, group + 1)
    for row, windows in zip(weight.tolist(), weight_windows(weight, group), strict=True):
        assert sorted(value for window in windows for value in window if value) == [value for value in row if value]
        assert all(sum(value != 0 for value in window) <= 2 for window in windows)


def test_a_denser_weight_is_refused() -> None:
    weight = torch.tensor([[1] * 8 + [0, 1, 1, 1, 1, 1, 1, 1]])
    assert refusal(ValueError, weight_windows, weight, 8) == "more than 6 non-zeros in the group of 8 from column 0"
