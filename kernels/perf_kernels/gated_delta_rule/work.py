"""How much must one call of the gated delta rule do?"""

from __future__ import annotations


def bytes_moved(batch: int, tokens: int, heads: int, value_heads: int, keys: int, values: int, itemsize: int) -> int:
    """Count the bytes that must be moved: q, k, v, beta and fp32 g are read, outputs are written, each once."""
    elements = 2 * heads * keys + 2 * value_heads * values + value_heads
    return batch * tokens * (elements * itemsize + value_heads * 4)


def flops(batch: int, tokens: int, value_heads: int, keys: int, values: int) -> int:
    """Count the operations of the recurrence: a state [K, V] is decayed, read for u, written and read for o."""
    return 7 * batch * tokens * value_heads * keys * values
