"""Does the oracle allow what TF32 costs a sum, whatever is left of it, and nothing that a mistake costs it?"""

from __future__ import annotations

import pytest
import torch

from perf_kernels.linear_attention import recurrent_reference, relative_rms
from perf_kernels.linear_attention.inputs import random_heads, random_state
from perf_kernels.linear_attention.oracle import TF32, relative_error, uncancelled
from perf_kernels.linear_attention.strategies import FP64


def cut_off(x: torch.Tensor) -> torch.Tensor:
    """Cut off the 13 bits of an fp32 that TF32 lacks."""
    return (x.view(torch.int32) & ~0x1FFF).view(torch.float32)


def states(k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the final state in fp64, and its size."""
    _, exact = recurrent_reference(k, k, v, output_final_state=True, dtype=FP64)
    assert isinstance(exact, torch.Tensor)
    return exact, uncancelled(k, k, v)[1]


def test_products_in_tf32_are_allowed_whatever_cancels() -> None:
    """As single states of 35 tokens show: relative to the worst of them, the error is beyond any rule."""
    relative = []
    for seed in range(200):
        _, k, v = random_heads(1, 35, 1, 1, dtype=torch.float32, seed=seed)
        exact, size = states(k, v)
        found, _ = states(cut_off(k), cut_off(v))
        assert relative_error(found, exact, size) <= TF32
        relative.append(relative_rms(found, exact))
    assert max(relative) > 2 * TF32


def test_a_lost_token_is_not_allowed() -> None:
    for seed in range(200):
        _, k, v = random_heads(1, 35, 1, 5, dtype=torch.float32, seed=seed)
        exact, size = states(k, v)
        found, _ = states(k[:, 1:], v[:, 1:])
        assert relative_error(found, exact, size) > TF32


@pytest.mark.parametrize("normalize", [False, True])
def test_size_of_what_is_summed_up(normalize: bool) -> None:
    """Against single products, of one output and one state."""
    q, k, v = random_heads(1, 4, 1, 3, 2, torch.float32, seed=1, positive=normalize)
    given = random_state(1, 1, 3, 2, seed=2, normalize=normalize)
    outputs, state = uncancelled(q, k, v, given, normalize)
    before, keys = given if isinstance(given, tuple) else (given, torch.zeros(1, 1, 1, 3))
    q, k, v, before, keys = (x.double() for x in (q, k, v, before, keys))
    # The second key and the first value; the state before comes first.
    summed = torch.cat([before[0, 0, 1, :1], k[0, :, 0, 1] * v[0, :, 0, 0]])
    assert state[0, 0, 1, 0].item() == pytest.approx(summed.norm().item())
    products = [q[0, 3, 0, i] * k[0, t, 0, i] * v[0, t, 0, 0] for t in range(4) for i in range(3)]
    products += [q[0, 3, 0, i] * before[0, 0, i, 0] for i in range(3)]
    size = torch.stack(products).norm() * 3**-0.5
    if normalize:
        size = size / ((q[0, 3, 0] * (keys[0, 0, 0] + k[0, :, 0].sum(dim=0))).sum() * 3**-0.5)
    assert outputs[0, 3, 0, 0].item() == pytest.approx(size.item())
