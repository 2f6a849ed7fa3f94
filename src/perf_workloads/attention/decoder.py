"""What is compared: one pre-norm decoder in which only the mixer differs. Imports torch."""

from __future__ import annotations

import torch
from torch import nn

from perf_workloads.attention.config import DecoderConfig
from perf_workloads.attention.mixers import mixer


class Block(nn.Module):  # type: ignore[misc]  # torch is not followed
    """LayerNorm, mixer, LayerNorm, MLP four times as wide with GELU; what each half adds is dropped out."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.before_mixer = nn.LayerNorm(config.hidden)
        self.mixer = mixer(config)
        self.before_mlp = nn.LayerNorm(config.hidden)
        self.mlp = nn.Sequential(
            nn.Linear(config.hidden, 4 * config.hidden), nn.GELU(), nn.Linear(4 * config.hidden, config.hidden)
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give the residual stream [B, T, hidden] behind this block."""
        x = x + self.dropout(self.mixer(self.before_mixer(x)))
        return x + self.dropout(self.mlp(self.before_mlp(x)))


class Decoder(nn.Module):  # type: ignore[misc]  # torch is not followed
    """Learned positions, blocks, LayerNorm, and a head that is not tied to the embedding."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocabulary, config.hidden)
        self.positions = nn.Embedding(config.positions, config.hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.hidden)
        self.head = nn.Linear(config.hidden, config.vocabulary, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Give logits [B, T, vocabulary] for ids [B, T]."""
        x = self.tokens(ids) + self.positions.weight[: ids.shape[1]]
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def build(config: DecoderConfig, device: torch.device | str, seed: int = 0) -> Decoder:
    """Build a decoder with fp32 weights, the same for the same seed, without touching torch's own generators."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Decoder(config)
    model.to(device)
    return model


def parameters(model: nn.Module) -> int:
    """Count the parameters of a model."""
    return sum(parameter.numel() for parameter in model.parameters())
