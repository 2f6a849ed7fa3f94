"""Which checkpoints cannot be converted, and how is that said? Nothing may be left of a conversion that failed."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[suite]'")
safetensors_torch = pytest.importorskip("safetensors.torch", reason="pip install -e '.[suite]'")

from perf_workloads.slidesparse.tiny_checkpoint import (  # noqa: E402
    CONFIG,
    DOWN,
    HIDDEN,
    INTERMEDIATE,
    refused,
    rewrite,
    write,
)

INDEX = "model.safetensors.index.json"
AGAIN = "hint: copy the checkpoint again"
OTHER_MODEL = "hint: weights and configuration are of different models: copy both from the same one"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Write a checkpoint of two files, one layer in each."""
    return write(tmp_path / "source")


def test_a_truncated_file(source: Path) -> None:
    path = source / "model-00002-of-00002.safetensors"
    size = path.stat().st_size
    os.truncate(path, size - 7)
    assert refused(source) == (
        f"{path}: is truncated: {size - 7} bytes, its header tells of {size}\nhint: copy the checkpoint again"
    )


@pytest.mark.parametrize("content", [b"", b"12345678", struct.pack("<Q", 5) + b"{]}{ ", struct.pack("<Q", 2**62)])
def test_a_damaged_header(source: Path, content: bytes) -> None:
    path = source / "model-00001-of-00002.safetensors"
    path.write_bytes(content)
    assert refused(source) == (
        f"{path}: not a safetensors file, or its header is damaged\nhint: copy the checkpoint again"
    )


def change_header(source: Path, change: dict[str, object], name: str = DOWN) -> Path:
    """Change what the header of the second file tells of a tensor; the tensors' bytes stay."""
    path = source / "model-00002-of-00002.safetensors"
    content = path.read_bytes()
    end = 8 + struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:end])
    header[name].update(change)
    written = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(written)) + written + content[end:])
    return path


@pytest.mark.parametrize(
    "change",
    [
        {"shape": ["16", "24"]},
        {"shape": [16.5, 24]},
        {"shape": [-16, -24]},
        {"shape": [True, 384]},
        {"shape": None},
        {"dtype": 7},
        {"data_offsets": ["0", "768"]},
    ],
)
def test_a_damaged_entry_of_a_header(source: Path, change: dict[str, object]) -> None:
    """A header that is JSON, and tells of a tensor what no tensor has."""
    path = change_header(source, change)
    assert refused(source) == (
        f"{path}: not a safetensors file, or its header is damaged\nhint: copy the checkpoint again"
    )


def test_a_header_that_the_library_refuses(source: Path) -> None:
    path = change_header(source, {"dtype": "X9"}, "model.layers.1.input_layernorm.weight")
    first, hint = refused(source).splitlines()
    assert first.startswith(f"{path}: cannot be read: Error while deserializing header: ")
    assert hint == AGAIN


def test_a_missing_file(source: Path) -> None:
    path = source / "model-00002-of-00002.safetensors"
    path.unlink()
    assert refused(source) == (
        f"{path}: the index names this file, and it is not there\nhint: copy the checkpoint again"
    )


def test_an_index_of_another_checkpoint(source: Path) -> None:
    index = source / "model.safetensors.index.json"
    where = json.loads(index.read_text())["weight_map"]
    index.write_text(json.dumps({"weight_map": {**where, "more": "model-00001-of-00002.safetensors"}}))
    assert refused(source) == (
        f"{index}: more is not in model-00001-of-00002.safetensors\nhint: copy the checkpoint again"
    )


@pytest.mark.parametrize("found", [None, [], "model.safetensors", {}])
def test_an_index_that_names_no_files(source: Path, found: object) -> None:
    (source / INDEX).write_text(json.dumps({"weight_map": found}))
    assert refused(source) == (
        f"{source / INDEX}: weight_map must be an object that names the file of each tensor\n{AGAIN}"
    )


@pytest.mark.parametrize("outside", ["../x.safetensors", "/tmp/x.safetensors", "sub/x.safetensors", "..", "x.bin", 7])
def test_an_index_that_names_a_file_elsewhere(source: Path, outside: object) -> None:
    """A file of the same name is written: it would replace one outside the target."""
    where = json.loads((source / INDEX).read_text())["weight_map"]
    (source / INDEX).write_text(json.dumps({"weight_map": {**where, DOWN: outside}}))
    assert refused(source) == (
        f"{source / INDEX}: {DOWN} is said to be in {outside!r}; it must be a *.safetensors file of the checkpoint's "
        f"own folder, since a file of the same name is written\n"
        f"hint: move its files into {source}, and name them in the index without a folder"
    )


@pytest.mark.parametrize("name", ["config.json", INDEX, "model-00002-of-00002.safetensors"])
def test_a_file_that_cannot_be_read(source: Path, name: str) -> None:
    (source / name).unlink()
    (source / name).mkdir()
    assert refused(source) == (
        f"{source / name}: cannot be read: Is a directory\n"
        "hint: give a folder whose files can be read by whoever converts it"
    )


def test_a_tensor_in_two_files(source: Path) -> None:
    rewrite(source, lambda tensors: tensors.update({DOWN: torch.zeros(HIDDEN, INTERMEDIATE)}), number=1)
    assert refused(source) == (
        f"{source}: {DOWN} is in model-00001-of-00002.safetensors and in model-00002-of-00002.safetensors"
    )


def test_a_missing_layer(source: Path) -> None:
    (source / "config.json").write_text(json.dumps({**CONFIG, "num_hidden_layers": 3}))
    assert refused(source) == (
        f"{source}: layer 2 is missing, and config.json tells of 3 layers\nhint: copy the checkpoint again"
    )


def test_another_models_configuration(source: Path) -> None:
    (source / "config.json").write_text(json.dumps({**CONFIG, "hidden_size": 32}))
    assert refused(source) == (
        f"{source}: model.layers.0.mlp.down_proj.weight has 16 outputs, and config.json says hidden_size 32\n"
        "hint: weights and configuration are of different models: copy both from the same one"
    )


def test_quantised_already(source: Path) -> None:
    (source / "config.json").write_text(json.dumps({**CONFIG, "quantization_config": {"quant_method": "gptq"}}))
    assert refused(source) == (
        f"{source / 'config.json'}: the weights are quantised already, by gptq\n"
        "hint: convert the checkpoint with float weights that it was made of"
    )


def test_quantised_by_nobody_knows_what(source: Path) -> None:
    (source / "config.json").write_text(json.dumps({**CONFIG, "quantization_config": "int8"}))
    assert refused(source).startswith(
        f"{source / 'config.json'}: the weights are quantised already, by an unknown method\n"
    )


@pytest.mark.parametrize("name", ["num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size"])
@pytest.mark.parametrize("value", ["2", 2.0, True, 0, {}])
def test_a_figure_that_is_no_number(source: Path, name: str, value: object) -> None:
    (source / "config.json").write_text(json.dumps({**CONFIG, name: value}))
    assert refused(source) == (
        f"{source / 'config.json'}: {name} is {value!r}; it must be a whole number above 0\n{OTHER_MODEL}"
    )


def test_weights_of_a_type_that_cannot_be_quantised(source: Path) -> None:
    rewrite(source, lambda tensors: tensors.update({DOWN: torch.zeros(HIDDEN, INTERMEDIATE, dtype=torch.int8)}))
    assert refused(source) == f"{source}: {DOWN} is I8; it must be BF16, F16, F32"


def test_a_configuration_that_is_none(source: Path) -> None:
    config = source / "config.json"
    config.write_text("[1]")
    assert refused(source) == f"{config}: not a JSON object\nhint: copy the checkpoint again"
    config.write_text("{")
    assert refused(source).startswith(f"{config}: not valid JSON: ")
    config.unlink()
    assert refused(source) == f"{config}: not there\nhint: give the folder that holds config.json and weights"


def test_no_weights(source: Path) -> None:
    for path in source.glob("model*"):
        path.unlink()
    assert refused(source) == (
        f"{source}: no *.safetensors files\nhint: save the model with save_pretrained(folder), which writes safetensors"
    )


def test_no_folder(tmp_path: Path) -> None:
    assert refused(tmp_path / "nowhere") == (
        f"{tmp_path / 'nowhere'}: not a folder\nhint: give the one that holds config.json"
    )
