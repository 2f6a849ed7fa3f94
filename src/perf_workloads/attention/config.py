"""Which decoders are compared, what computes the mixing in each, and how much do they carry from token to token?

Imports nothing heavy: cases are listed from here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

#: What a softmax mixer may force scaled_dot_product_attention to take.
SDPA_BACKENDS = ("math", "efficient", "flash", "cudnn")


@dataclass(frozen=True)
class DecoderConfig:
    """One decoder.

    Args:
        mixer: "softmax", "linear" or "gated_deltanet".
        implementation: what computes the mixing: one of ``SDPA_BACKENDS`` for softmax, else a name of
            ``perf_kernels.linear_attention.IMPLEMENTATIONS`` or ``perf_workloads.attention.delta_net.IMPLEMENTATIONS``.
        vocabulary: tokens there are.
        positions: longest sequence.
        hidden: width of the residual stream.
        layers: blocks.
        heads: of each mixer.
        key_width: of one head; ``hidden / heads`` by default. Only the gated delta net can have another.
        value_width: likewise.
        dropout: of embeddings and of what each block adds. Attention weights are never dropped: no other mixer has any.
    """

    mixer: str
    implementation: str
    vocabulary: int
    positions: int
    hidden: int = 256
    layers: int = 4
    heads: int = 4
    key_width: int | None = None
    value_width: int | None = None
    dropout: float = 0.1

    def __post_init__(self) -> None:
        """Check that the widths fit together.

        Raises:
            ValueError: they do not.
        """
        if self.hidden % self.heads and None in (self.key_width, self.value_width):
            raise ValueError(f"DecoderConfig: {self.heads} heads do not divide a hidden width of {self.hidden}")
        if self.mixer != "gated_deltanet" and (self.key_width, self.value_width) != (None, None):
            raise ValueError(f"DecoderConfig: only a gated_deltanet mixer has widths of its own, not {self.mixer}")

    @property
    def keys(self) -> int:
        """How wide a key of one head is."""
        return self.key_width or self.hidden // self.heads

    @property
    def values(self) -> int:
        """How wide a value of one head is."""
        return self.value_width or self.hidden // self.heads

    def state_elements(self, tokens: int) -> int:
        """Count what one layer carries to the next token of one sequence: keys and values, or a matrix for each head.

        Args:
            tokens: seen so far; only what softmax keeps grows with them.
        """
        if self.mixer == "softmax":
            return 2 * self.hidden * tokens
        return self.heads * self.keys * self.values


#: Row of the published tables -> mixer, and what computes it on a GPU and on a CPU ("" where nothing can).
_ROWS = {
    "softmax": ("softmax", "math", "math"),
    "efficient": ("softmax", "efficient", ""),
    "flash": ("softmax", "flash", "flash"),
    "linear": ("linear", "fla_fused_chunk", "naive_chunk"),
    "gated_deltanet": ("gated_deltanet", "fla_chunk", "naive_chunk"),
    "gated_deltanet_kda": ("gated_deltanet", "fla_kda", ""),
}

#: Rows of every experiment, as there are on each kind of device.
ROWS = {
    "cuda": ("softmax", "flash", "linear", "gated_deltanet", "gated_deltanet_kda"),
    "cpu": ("softmax", "flash", "linear", "gated_deltanet"),
}

#: Hidden width, layers and heads of the sizes in the published comparison.
SIZES = {"1M": (128, 2, 4), "5M": (256, 4, 8), "15M": (384, 6, 8), "30M": (512, 8, 8)}
#: The same for its gated delta net, whose heads had fla's default widths of keys and values.
PUBLISHED_DELTA_NET_SIZES = {"1M": (64, 2, 4), "5M": (128, 4, 4), "15M": (192, 6, 4), "30M": (256, 8, 4)}
PUBLISHED_DELTA_NET_WIDTHS = (256, 512)
#: Hidden width of its gated delta net in every other experiment.
PUBLISHED_DELTA_NET_HIDDEN = 128


def decoder(row: str, device: str, *, vocabulary: int, positions: int, **changes: object) -> DecoderConfig:
    """Give the decoder of a row of the tables, with heads as wide as every other row's: states are matched.

    Args:
        row: a key of the tables, e.g. "flash".
        device: "cuda" or "cpu".
        vocabulary: tokens there are.
        positions: longest sequence.
        changes: other fields of the configuration.

    Raises:
        ValueError: a row that is unknown, or that nothing computes on this kind of device.
    """
    if row not in _ROWS:
        raise ValueError(f"decoder: row is {row!r}; it must be one of {', '.join(_ROWS)}")
    mixer, on_gpu, on_cpu = _ROWS[row]
    implementation = on_gpu if device == "cuda" else on_cpu
    if not implementation:
        raise ValueError(f"decoder: nothing computes {row} on a {device}")
    return replace(DecoderConfig(mixer, implementation, vocabulary, positions), **changes)  # type: ignore[arg-type]


def published_delta_net(device: str, *, vocabulary: int, positions: int, size: str = "") -> DecoderConfig:
    """Give the gated delta net as it was published: keys 256 and values 512 wide, whatever the hidden width.

    Args:
        device: "cuda" or "cpu".
        vocabulary: tokens there are.
        positions: longest sequence.
        size: a key of ``PUBLISHED_DELTA_NET_SIZES``; the one of all other experiments by default.
    """
    hidden, layers, heads = PUBLISHED_DELTA_NET_SIZES[size] if size else (PUBLISHED_DELTA_NET_HIDDEN, 4, 4)
    keys, values = PUBLISHED_DELTA_NET_WIDTHS
    _, on_gpu, on_cpu = _ROWS["gated_deltanet"]
    return DecoderConfig(
        "gated_deltanet",
        on_gpu if device == "cuda" else on_cpu,
        vocabulary,
        positions,
        hidden,
        layers,
        heads,
        keys,
        values,
    )
