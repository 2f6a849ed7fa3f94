"""What must linear attention compute? Plain torch, readable, token by token and chunk by chunk.

``S_t = S_{t-1} + k_t v_t^T`` and ``o_t = scale q_t^T S_t``; the normalised form divides by
``scale q_t . (k_1 + ... + k_t) + 1e-10``. Inputs are fla's: ``q, k: [B, T, H, K]`` and ``v: [B, T, H, V]``.
"""

from __future__ import annotations

import torch
from torch.nn.functional import pad

from perf_kernels.linear_attention.arguments import State, unpack_state

#: Added to the divisor of the normalised form.
EPSILON = 1e-10


def recurrent_reference(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    scale: float | None = None,
    initial_state: State | None = None,
    output_final_state: bool = False,
    normalize: bool = False,
    *,
    dtype: torch.dtype = torch.float32,
) -> tuple[torch.Tensor, State | None]:
    """Attend token by token.

    Args:
        q: [B, T, H, K].
        k: [B, T, H, K].
        v: [B, T, H, V].
        scale: ``K**-0.5`` by default.
        initial_state: [B, H, K, V] fp32; for ``normalize`` a tuple of that and the sum of earlier keys [B, 1, H, K].
        output_final_state: give the state after the last token, of the same form.
        normalize: divide as the normalised form does.
        dtype: type in which all is computed and returned.

    Returns:
        The outputs [B, T, H, V] and the final state or None, in ``dtype``.
    """
    state, key_sum = unpack_state("recurrent_reference", initial_state, q, v, normalize=normalize)
    q, k, v = (x.to(dtype) for x in (q, k, v))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    s = _state_or_zeros(state, k, v)
    rows = []
    for t in range(q.shape[1]):
        s = s + k[:, t, :, :, None] * v[:, t, :, None, :]
        rows.append(scale * torch.einsum("bhk,bhkv->bhv", q[:, t], s))
    output = torch.stack(rows, dim=1) if rows else v.clone()
    return _finish(output, s, q, k, scale, key_sum, output_final_state, normalize)


def chunked_reference(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    scale: float | None = None,
    initial_state: State | None = None,
    output_final_state: bool = False,
    normalize: bool = False,
    *,
    chunk: int = 64,
    dtype: torch.dtype = torch.float32,
    factors: torch.dtype | None = None,
) -> tuple[torch.Tensor, State | None]:
    """Attend chunk by chunk, for all chunks at once; otherwise as :func:`recurrent_reference`.

    Needs the states of all chunks, ``4 B T H K V / chunk`` bytes in fp32: pass large inputs in slices of heads.

    Args:
        q: [B, T, H, K].
        k: [B, T, H, K].
        v: [B, T, H, V].
        scale: as above.
        initial_state: as above.
        output_final_state: as above.
        normalize: as above.
        chunk: tokens of a chunk.
        dtype: as above.
        factors: round scores and states to this type before they are multiplied, as tensor cores take them.
    """
    state, key_sum = unpack_state("chunked_reference", initial_state, q, v, normalize=normalize)
    q, k, v = (x.to(dtype) for x in (q, k, v))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    tokens = q.shape[1]
    # [B, H, N, C, D]
    cq, ck, cv = (_chunks(x, chunk) for x in (q, k, v))
    sums = torch.cat([_state_or_zeros(state, k, v)[:, :, None], ck.mT @ cv], dim=2).cumsum(dim=2)
    scores = (cq @ ck.mT).tril()
    starts = sums[:, :, :-1]
    if factors is not None:
        scores, starts = scores.to(factors).to(dtype), starts.to(factors).to(dtype)
    output = scale * (scores @ cv + cq @ starts)
    output = output.flatten(2, 3)[:, :, :tokens].transpose(1, 2)
    return _finish(output, sums[:, :, -1], q, k, scale, key_sum, output_final_state, normalize)


def relative_rms(x: torch.Tensor, expected: torch.Tensor) -> float:
    """Give the RMS of the difference over the RMS of what is expected, in fp64; 0 for two empty tensors."""
    if not expected.numel():
        return 0.0
    difference = (x.double() - expected.double()).square().mean().sqrt()
    return (difference / expected.double().square().mean().sqrt().clamp_min(1e-30)).item()


def _state_or_zeros(state: torch.Tensor | None, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    if state is not None:
        return state.to(k.dtype)
    batch, _, heads, keys = k.shape
    return k.new_zeros((batch, heads, keys, v.shape[3]))


def _chunks(x: torch.Tensor, chunk: int) -> torch.Tensor:
    """Give [B, T, H, D] as [B, H, N, chunk, D], with zeros after the last token: they change no sum."""
    x = pad(x, (0, 0, 0, 0, 0, -x.shape[1] % chunk)).transpose(1, 2)
    return x.unflatten(2, (x.shape[2] // chunk, chunk))


def _finish(
    output: torch.Tensor,
    state: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    scale: float,
    key_sum: torch.Tensor | None,
    output_final_state: bool,
    normalize: bool,
) -> tuple[torch.Tensor, State | None]:
    """Divide if asked for, and give the final state in the form of the initial one."""
    if not normalize:
        return output, state if output_final_state else None
    before = k.new_zeros((k.shape[0], 1, *k.shape[2:])) if key_sum is None else key_sum.to(k.dtype)
    sums = torch.cat([before, k], dim=1).cumsum(dim=1)
    divisor = scale * (q * sums[:, 1:]).sum(dim=-1, keepdim=True) + EPSILON
    return output / divisor, (state, sums[:, -1:]) if output_final_state else None
