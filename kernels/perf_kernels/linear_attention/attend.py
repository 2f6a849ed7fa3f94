"""How are the three kernels launched one after the other, over chunks in segments?"""

from __future__ import annotations

from typing import NamedTuple

import torch

from perf_kernels.linear_attention.kernel import _outputs_kernel, _prefix_sums_kernel, _segment_sums_kernel
from perf_kernels.linear_attention.launch import (
    SMALLEST_TILE,
    LaunchConfig,
    check_warps,
    launch_config,
    power_of_two,
    shape_class,
)
from perf_kernels.target import current_target, launch_beside
from perf_kernels.tuned import Chooser

#: Elements of a state that one program of ``_prefix_sums_kernel`` handles.
PREFIX_BLOCK = 512


def _fallback(
    batch: int, tokens: int, heads: int, keys: int, values: int, itemsize: int, normalize: bool
) -> LaunchConfig:
    return launch_config(batch, tokens, heads, keys, values, itemsize, normalize, current_target())


choose = Chooser("linear_attention", _fallback, shape_class)


class Chunked(NamedTuple):
    """What :func:`attend_chunks` gives.

    Attributes:
        output: [B, T, H, V], of the type of the values.
        state: [B, H, K, V] fp32 after the last token, or None.
        key_sum: [B, H, K] fp32 after the last token, or None.
        divisor: [B, T, H] fp32 that the output was divided by, or None.
    """

    output: torch.Tensor
    state: torch.Tensor | None
    key_sum: torch.Tensor | None
    divisor: torch.Tensor | None


def attend_chunks(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    scale: float,
    *,
    state: torch.Tensor | None = None,
    key_sum: torch.Tensor | None = None,
    store_final: bool = False,
    normalize: bool = False,
    reverse: bool = False,
    config: LaunchConfig | None = None,
) -> Chunked:
    """Launch the kernels, without checks and without gradients; :func:`chunk_linear_attention` has both.

    Args:
        q: [B, T, H, K] bf16, fp16 or fp32; any strides, but a last one other than 1 costs a copy.
        k: [B, T, H, K], of the same type, likewise.
        v: [B, T, H, V], of the same type, likewise.
        scale: factor of the scores.
        state: [B, H, K, V] fp32 before the first token; zeros by default.
        key_sum: [B, H, K] fp32 before the first token; zeros by default. Only for ``normalize``.
        store_final: give the state (and the sum of keys) after the last token.
        normalize: divide by ``scale q . sum of keys + 1e-10``.
        reverse: walk from the last token to the first; "before" and "after" are in the order of the walk. Not together
            with ``normalize``.
        config: how to launch; by default what was tuned for this GPU, else what :func:`launch_config` chooses.
    """
    batch, tokens, heads, keys = q.shape
    values = v.shape[-1]
    output = torch.empty((batch, tokens, heads, values), dtype=v.dtype, device=v.device)
    divisor = output.new_empty((batch, tokens, heads), dtype=torch.float32) if normalize else None
    final = output.new_empty((batch, heads, keys, values), dtype=torch.float32) if store_final else None
    final_keys = output.new_empty((batch, heads, keys), dtype=torch.float32) if store_final and normalize else None
    result = Chunked(output, final, final_keys, divisor)
    if output.numel() == 0 or keys == 0:
        output.zero_()
        for end, begin in ((final, state), (final_keys, key_sum)):
            if end is not None:
                end.zero_() if begin is None else end.copy_(begin)
        return result
    if config is None:
        config = choose(batch, tokens, heads, keys, values, q.element_size(), normalize)
    launch_beside(q, _launch, q, k, v, scale, state, key_sum, result, reverse, config)
    return result


def _launch(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    scale: float,
    state: torch.Tensor | None,
    key_sum: torch.Tensor | None,
    result: Chunked,
    reverse: bool,
    config: LaunchConfig,
) -> None:
    batch, tokens, heads, keys = q.shape
    values = v.shape[-1]
    normalize = result.divisor is not None
    q, q_strides = _walk(q, reverse)
    k, k_strides = _walk(k, reverse)
    v, v_strides = _walk(v, reverse)
    output, o_strides = _walk(result.output, reverse)
    state = None if state is None else state.contiguous()
    key_sum = None if key_sum is None else key_sum.contiguous()

    check_warps(config, keys, current_target())
    block_k = max(power_of_two(keys), SMALLEST_TILE)
    value_blocks = -(-values // config.value_block)
    segments, segment_chunks = config.used_segments(tokens), config.segment_chunks(tokens)
    tiles = (keys, values, block_k, config.value_block, config.chunk)
    options = {"num_warps": config.num_warps, "num_stages": config.num_stages}
    if segments > 1:
        states = output.new_empty((batch, segments, heads, keys, values), dtype=torch.float32)
        key_sums = output.new_empty((batch, segments, heads, keys), dtype=torch.float32) if normalize else None
        _segment_sums_kernel[(value_blocks * heads * (segments - 1) * batch,)](
            *(k, v, states, key_sums, heads, segments, segment_chunks),
            *(*k_strides, *v_strides, *tiles, normalize),
            **options,
        )
        for sums, initial in ((states, state), (key_sums, key_sum)):
            if sums is not None:
                width = sums.numel() // (batch * segments)
                _prefix_sums_kernel[(batch * -(-width // PREFIX_BLOCK),)](
                    *(sums, initial, segments, width, power_of_two(segments), PREFIX_BLOCK, initial is not None)
                )
        state, key_sum = states, key_sums
    elif normalize and (state is None) != (key_sum is None):
        # The kernel has one switch for both.
        if state is None:
            state = output.new_zeros((batch, heads, keys, values), dtype=torch.float32)
        else:
            key_sum = output.new_zeros((batch, heads, keys), dtype=torch.float32)
    _outputs_kernel[(value_blocks * heads * segments * batch,)](
        *(q, k, v, output, state, key_sum, result.state, result.key_sum, result.divisor),
        *(scale, tokens, heads, segments, segment_chunks),
        *(*q_strides, *k_strides, *v_strides, *o_strides, *tiles),
        *(tokens % config.chunk != 0, state is not None, result.state is not None, normalize),
        **options,
    )


def _walk(x: torch.Tensor, reverse: bool) -> tuple[torch.Tensor, tuple[int, int, int]]:
    """Give ``x`` where a walk starts, with its strides over batch, time (in the direction of the walk) and heads."""
    if x.stride(3) != 1:
        x = x.contiguous()
    batch_stride, time_stride, head_stride, _ = x.stride()
    if not reverse:
        return x, (batch_stride, time_stride, head_stride)
    return x[:, -1:], (batch_stride, -time_stride, head_stride)
