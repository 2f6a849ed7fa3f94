"""How do models call our kernel? As an operator that torch.compile keeps whole and that has gradients.

The gradients are linear attention again, with the roles exchanged and, for keys and values, time reversed:

    dQ = attend(dO, V, K; S_0^T)
    dK = attend back(V, dO, Q; dS_T^T / scale)
    dV = attend back(K, Q, dO; dS_T / scale)

and the state at the end of the last, times the scale, is dS_0. So the three kernels of the forward pass are all there
is. The normalised form adds what its divisor contributes with two running sums in plain torch.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from perf_kernels.linear_attention.arguments import State, check_heads, unpack_state
from perf_kernels.linear_attention.attend import attend_chunks
from perf_kernels.linear_attention.launch import LaunchConfig
from perf_kernels.target import DEVICE_HINT, DEVICE_TYPE

#: A state [256, 16] still fits in the registers of a program.
MAX_KEYS = 256

_SCHEMA = (
    "(Tensor q, Tensor k, Tensor v, float scale, Tensor? state, Tensor? key_sum, bool store_final, bool normalize, "
    "bool reverse, int[]? config) -> (Tensor, Tensor, Tensor, Tensor)"
)


def chunk_linear_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    scale: float | None = None,
    initial_state: State | None = None,
    output_final_state: bool = False,
    normalize: bool = False,
    *,
    config: LaunchConfig | None = None,
) -> tuple[torch.Tensor, State | None]:
    """Attend causally with our chunked kernel: ``o_t = scale q_t^T (S_0 + k_1 v_1^T + ... + k_t v_t^T)``.

    Arguments and results are those of fla's ``chunk_linear_attn``, except that ``normalize`` is off by default. Scores
    and states are fp32 sums that are rounded to the type of the inputs where they are multiplied; in fp16 a state past
    65504 becomes infinite. Gradients are those of all five tensors.

    What is not finite stays in its head: of q in its token, of k in its token and later ones, of v in its column of all
    tokens from the start of its chunk on, as each of these takes it times 0 at least.

    Args:
        q: [B, T, H, K] bf16, fp16 or fp32 with K up to 256; any strides, but a last one other than 1 costs a copy.
        k: [B, T, H, K], of the same type.
        v: [B, T, H, V], of the same type.
        scale: factor of the scores, not 0; ``K**-0.5`` by default.
        initial_state: [B, H, K, V] fp32 before the first token; for ``normalize`` a tuple of that and the sum of
            earlier keys [B, 1, H, K] fp32. Zeros by default.
        output_final_state: give the state after the last token, too.
        normalize: divide by ``scale q_t . (sum of keys up to t) + 1e-10``.
        config: how to launch; by default what was tuned for this GPU, else what :func:`launch_config` chooses.

    Returns:
        The outputs [B, T, H, V], of the type of the inputs, and the final state, in the form of the initial one, or
        None.

    Raises:
        TypeError: a data type that is not supported, or a state of the wrong form.
        ValueError: a shape, device or scale that cannot be used.
    """
    caller = "chunk_linear_attention"
    check_heads(caller, q, k, v)
    if q.device.type != DEVICE_TYPE:
        raise ValueError(f"{caller}: q is on {q.device}; {DEVICE_HINT}")
    if q.shape[3] > MAX_KEYS:
        raise ValueError(f"{caller}: keys are {q.shape[3]} wide; at most {MAX_KEYS} are supported")
    scale = q.shape[3] ** -0.5 if scale is None else float(scale)
    if scale == 0.0:
        raise ValueError(f"{caller}: scale is 0; gradients divide by it")
    state, key_sum = unpack_state(caller, initial_state, q, v, normalize=normalize)
    if key_sum is not None:
        key_sum = key_sum[:, 0]
    cut = None if config is None else list(dataclasses.astuple(config))
    output, final, final_keys, _ = _attend(q, k, v, scale, state, key_sum, output_final_state, normalize, False, cut)
    if not output_final_state:
        return output, None
    return output, (final, final_keys[:, None]) if normalize else final


@torch.library.custom_op("perf_kernels::linear_attention", mutates_args=(), schema=_SCHEMA)
def _attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    scale: float,
    state: torch.Tensor | None,
    key_sum: torch.Tensor | None,
    store_final: bool,
    normalize: bool,
    reverse: bool,
    config: list[int] | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    result = attend_chunks(
        q,
        k,
        v,
        scale,
        state=state,
        key_sum=key_sum,
        store_final=store_final,
        normalize=normalize,
        reverse=reverse,
        config=None if config is None else LaunchConfig(*config),
    )
    # An operator returns tensors only: what was not asked for is empty.
    output, *others = (q.new_empty(0, dtype=torch.float32) if part is None else part for part in result)
    return output, *others


@_attend.register_fake
def _(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    scale: float,
    state: torch.Tensor | None,
    key_sum: torch.Tensor | None,
    store_final: bool,
    normalize: bool,
    reverse: bool,
    config: list[int] | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    batch, tokens, heads, keys = q.shape
    values = v.shape[3]

    def fp32(wanted: bool, *shape: int) -> torch.Tensor:
        return q.new_empty(shape if wanted else (0,), dtype=torch.float32)

    return (
        v.new_empty((batch, tokens, heads, values)),
        fp32(store_final, batch, heads, keys, values),
        fp32(store_final and normalize, batch, heads, keys),
        fp32(normalize, batch, tokens, heads),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
    q, k, v, ctx.scale, state, key_sum, _, ctx.normalize, ctx.reverse, ctx.config = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(q, k, v, state, key_sum, *((output[0], output[3]) if ctx.normalize else ()))


def _gradients(
    ctx: Any,
    d_output: torch.Tensor | None,
    d_final: torch.Tensor | None,
    d_final_keys: torch.Tensor | None,
    _d_divisor: torch.Tensor | None,
) -> tuple[torch.Tensor | None, ...]:
    q, k, v, state, key_sum, *normalized = ctx.saved_tensors
    scale, reverse = ctx.scale, ctx.reverse
    if d_output is None:
        d_output = torch.zeros_like(v)
    d_divisor = None
    if ctx.normalize:
        output, divisor = normalized
        # o = n / d, so dn = do / d and dd = -do . o / d.
        d_divisor = -(d_output.float() * output.float()).sum(-1) / divisor
        d_output = (d_output.float() / divisor[..., None]).to(q.dtype)

    def attend(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, state: torch.Tensor | None, store: bool, reverse: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return _attend(q, k, v, scale, state, None, store, False, reverse, ctx.config)[:2]

    begin = None if d_final is None else d_final / scale
    dq, _ = attend(d_output, v, k, None if state is None else state.mT, False, reverse)
    dk, _ = attend(v, d_output, q, None if begin is None else begin.mT, False, not reverse)
    dv, end = attend(k, q, d_output, begin, state is not None, not reverse)
    d_state = None if state is None else scale * end
    d_key_sum = None
    if d_divisor is not None:
        dq, dk, d_key_sum = _through_the_divisor(dq, dk, q, k, key_sum, scale * d_divisor[..., None], d_final_keys)
    return dq, dk, dv, None, d_state, d_key_sum, None, None, None, None


def _through_the_divisor(
    dq: torch.Tensor,
    dk: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    key_sum: torch.Tensor | None,
    weight: torch.Tensor,
    d_final_keys: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Add what ``d = scale q . sum of keys`` contributes; ``weight`` is its gradient times the scale, [B, T, H, 1]."""
    sums = k.float().cumsum(dim=1)
    if key_sum is not None:
        sums = sums + key_sum[:, None]
    weighted = weight * q.float()
    later = weighted.flip(1).cumsum(dim=1).flip(1)
    total = weighted.sum(dim=1)
    if d_final_keys is not None:
        later, total = later + d_final_keys[:, None], total + d_final_keys
    dq = (dq.float() + weight * sums).to(q.dtype)
    dk = (dk.float() + later).to(k.dtype)
    return dq, dk, None if key_sum is None else total


_attend.register_autograd(_gradients, setup_context=_save)
