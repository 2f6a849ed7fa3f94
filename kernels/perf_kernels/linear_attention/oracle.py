"""How far may linear attention be from fp64? In proportion to what was summed up, not to what was left of it."""

from __future__ import annotations

import torch

from perf_kernels.linear_attention.arguments import State, unpack_state
from perf_kernels.linear_attention.reference import recurrent_reference
from perf_kernels.target import INTERPRETED

#: The references multiply fp32 in full. A GPU cuts off what TF32 lacks, past 10 bits: a factor is too small by a share
#: of at most 2**-10, a product of four (an output is a product of a product) by 4 * 2**-10. Of a sum of products p the
#: mean share is lost of the sum, and what shares differ by, of random signs, of ``sqrt(sum p^2)``: see
#: :func:`relative_error`.
TF32 = 4 * 2**-10
#: What is allowed beside twice the error of torch, by the type of the inputs.
FLOOR = {torch.bfloat16: 1e-4, torch.float16: 1e-4, torch.float32: 1e-5 if INTERPRETED else TF32}


def uncancelled(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    initial_state: State | None = None,
    normalize: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give how large outputs and states are where what they sum up does not happen to cancel.

    That is the root of the sum of its squares. Takes the arguments of :func:`recurrent_reference`.

    Returns:
        Of the outputs [B, T, H, V] and of the final state [B, H, K, V], fp64. The sum of keys of the normalised form
        is one of positive numbers, of which none cancel.
    """
    state, key_sum = unpack_state("uncancelled", initial_state, q, v, normalize=normalize)
    outputs, final = recurrent_reference(
        *(x.double().square() for x in (q, k, v)),
        scale=1 / q.shape[-1],
        initial_state=None if state is None else state.square(),
        output_final_state=True,
        dtype=torch.float64,
    )
    assert isinstance(final, torch.Tensor)
    outputs = outputs.sqrt()
    if normalize:
        # What outputs are divided by: attention to values of 1, from the sum of keys on.
        before = None if key_sum is None else key_sum.permute(0, 2, 3, 1)
        divisor, _ = recurrent_reference(q, k, torch.ones_like(v[..., :1]), initial_state=before, dtype=torch.float64)
        outputs = outputs / divisor
    return outputs, final.sqrt()


def relative_error(x: torch.Tensor, expected: torch.Tensor, size: torch.Tensor) -> float:
    """Give the RMS of the difference over the RMS of what is expected or of its ``size``, whichever is larger.

    The two are alike for many random numbers. A single sum may cancel to any share of what was summed up, and an error
    relative to that says nothing of how it was computed: 35 products in TF32 missed -0.0327 by 5 %, and their root of
    summed squares, 3.6, by 0.05 %.

    Args:
        x: what was computed.
        expected: of the same shape, fp64.
        size: likewise, of :func:`uncancelled`.
    """
    scale = torch.maximum(_rms(expected), _rms(size)).clamp_min(1e-30)
    return (_rms(x.double() - expected) / scale).item()


def _rms(x: torch.Tensor) -> torch.Tensor:
    return x.square().mean().sqrt()
