"""Are wrong results of a configuration noticed?"""

from __future__ import annotations

import pytest

from perfgate.tune.check import bit_equal, close, spoil

torch = pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[suite]'")


def test_equal_bits_are_equal() -> None:
    x = torch.tensor([1.0, float("nan"), -0.0])
    assert (
        bit_equal((x, torch.ones(2, 2, dtype=torch.bfloat16).T), (x.clone(), torch.ones(2, 2, dtype=torch.bfloat16)))
        == ""
    )
    assert bit_equal(torch.empty(0), torch.empty(0)) == ""


def test_the_sign_of_a_zero_is_a_difference() -> None:
    assert bit_equal(torch.tensor([0.0, 1.0]), torch.tensor([-0.0, 1.0])) == "1 of 2 elements differ from the default's"


def test_the_result_that_differs_is_named() -> None:
    x, y = torch.arange(4), torch.arange(4).float()
    assert bit_equal((x, y), (x, y + 1)) == "result 1: 4 of 4 elements differ from the default's"
    assert bit_equal((x, y), (x,)) == "1 results instead of 2"
    assert bit_equal(x, y) == "[4] torch.float32 instead of [4] torch.int64"
    assert bit_equal({"n": 3}, {"n": 4}) == "4 instead of 3"


def test_close_allows_a_share_of_the_largest_value() -> None:
    x = torch.tensor([100.0, 1.0])
    assert close(x, x + 0.9, relative=0.01) == ""
    assert (
        close(x, x + 1.1, relative=0.01) == "differs from the default's by 0.011 of the largest value, 0.01 is allowed"
    )
    assert close((x, x), (x, x[:1]), relative=1.0) == "result 1: [1] torch.float32 instead of [2] torch.float32"
    assert close((x,), (x, x), relative=1.0) == "2 results instead of 1"


def test_close_allows_no_nan() -> None:
    x = torch.tensor([100.0, 1.0])
    nan = torch.tensor([100.0, float("nan")])
    assert close(x, nan, relative=1.0) == "differs from the default's by nan of the largest value, 1 is allowed"
    assert close(torch.zeros(2), torch.zeros(2), relative=0.0) == ""
    assert close(torch.empty(0), torch.empty(0), relative=0.0) == ""


def test_spoiling_leaves_the_results_alone() -> None:
    results = (torch.arange(4), "text")
    spoil(results)
    assert torch.equal(results[0], torch.arange(4))
