"""Which checkpoint do the tests of the conversion convert? Two layers of a few columns, one in each file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from perf_workloads.slidesparse import schemes
from perf_workloads.slidesparse.conversion import convert
from perf_workloads.slidesparse.headers import CheckpointError

#: Widths; four heads of queries share two of keys and values, each 4 wide.
HIDDEN, INTERMEDIATE, KEYS = 16, 24, 8
WIDTHS = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (KEYS, HIDDEN),
    "self_attn.v_proj": (KEYS, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (INTERMEDIATE, HIDDEN),
    "mlp.up_proj": (INTERMEDIATE, HIDDEN),
    "mlp.down_proj": (HIDDEN, INTERMEDIATE),
}
CONFIG = {
    "model_type": "tiny",
    "hidden_size": HIDDEN,
    "intermediate_size": INTERMEDIATE,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 4,
}
DOWN = "model.layers.1.mlp.down_proj.weight"


def layer(number: int) -> dict[str, torch.Tensor]:
    """Draw the tensors of a layer: the same for the same number."""
    generator = torch.Generator().manual_seed(number)
    prefix = f"model.layers.{number}"
    tensors = {
        f"{prefix}.{name}.weight": torch.randn(shape, generator=generator).bfloat16() for name, shape in WIDTHS.items()
    }
    tensors[f"{prefix}.input_layernorm.weight"] = torch.ones(HIDDEN, dtype=torch.bfloat16)
    return tensors


def write(folder: Path) -> Path:
    """Write the checkpoint to a new folder, and give that."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text("{}")
    where = {}
    for number in range(2):
        tensors = layer(number)
        if number == 0:
            tensors["model.embed_tokens.weight"] = torch.arange(64.0).view(4, 16)
            tensors["model.norm.weight"] = torch.ones(HIDDEN, dtype=torch.bfloat16)
        file = _file(number + 1)
        save_file(tensors, folder / file, metadata={"format": "pt"})
        where.update(dict.fromkeys(tensors, file))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    return folder


def rewrite(source: Path, change: Callable[[dict[str, torch.Tensor]], None], number: int = 2) -> None:
    """Change the tensors of one of the files, the last one by default, and the index with them."""
    path = source / _file(number)
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    index = source / "model.safetensors.index.json"
    where = {name: file for name, file in json.loads(index.read_text())["weight_map"].items() if file != path.name}
    index.write_text(json.dumps({"weight_map": {**dict.fromkeys(tensors, path.name), **where}}))


def refused(source: Path, name: str = "int8-2_8", prune: bool = True) -> str:
    """Convert what cannot be converted, check that nothing is left, and give the message."""
    before = sorted(source.parent.iterdir())
    try:
        convert(source, source.parent / "target", schemes.find(name), prune=prune)
    except CheckpointError as error:
        assert sorted(source.parent.iterdir()) == before, "something is left of the conversion"
        return str(error)
    raise AssertionError("it was converted")


def _file(number: int) -> str:
    return f"model-{number:05}-of-00002.safetensors"
