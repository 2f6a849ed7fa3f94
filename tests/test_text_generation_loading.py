"""Are the weights that are asked for loaded, without a network, and are others refused?"""

from __future__ import annotations

import socket
from typing import Any

import pytest

from perf_workloads.text_generation import GenerationSetup, generate, load, random_prompt

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

TINY = GenerationSetup("tiny-qwen3", dtype="float32", device="cpu")


@pytest.fixture(autouse=True)
def one_thread():
    """Use one thread: several wait for each other at every small operation when a core is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tiny():
    return load(TINY)


def test_loading_leaves_the_global_random_state_and_dtype_alone():
    before = torch.random.get_rng_state()
    load(GenerationSetup("tiny-qwen3", dtype="bfloat16", device="cpu"))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_default_dtype() == torch.float32


def test_loading_and_generating_need_no_network(monkeypatch, tmp_path, tiny):
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was asked")

    tiny.save_pretrained(tmp_path)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    for setup in (TINY, GenerationSetup("tiny-qwen3", dtype="float32", device="cpu", weights=str(tmp_path))):
        model = load(setup)
        assert len(generate(model, random_prompt(model, 3), 2).tokens[0]) == 2


def test_real_weights_are_used_and_their_end_of_sequence_token_is_ignored(tmp_path):
    other = load(GenerationSetup("tiny-qwen3", dtype="float32", device="cpu", seed=5))
    input_ids = random_prompt(other, 3)
    expected = generate(other, input_ids, 8).tokens
    other.generation_config.eos_token_id = expected[0][0]
    other.generation_config.pad_token_id = 0
    other.save_pretrained(tmp_path)
    assert f'"eos_token_id": {expected[0][0]}' in (tmp_path / "generation_config.json").read_text()

    model = load(GenerationSetup("tiny-qwen3", dtype="float32", device="cpu", weights=str(tmp_path)))

    assert generate(model, input_ids, 8).tokens == expected


def test_a_folder_without_weights_is_an_error(tmp_path):
    with pytest.raises(ValueError) as error:
        load(GenerationSetup("tiny-qwen3", device="cpu", weights=str(tmp_path)))
    assert str(error.value) == f"{tmp_path}: no config.json there, so these are not the weights of tiny-qwen3"


def test_the_weights_of_another_model_are_an_error(tmp_path, tiny):
    tiny.config.save_pretrained(tmp_path)
    with pytest.raises(ValueError) as error:
        load(GenerationSetup("qwen3-4b", device="cpu", weights=str(tmp_path)))
    assert str(error.value) == f"{tmp_path}: not the weights of qwen3-4b: hidden_size is 160, not 2560"


def test_another_number_of_linear_layers_is_an_error(monkeypatch):
    from perf_workloads.text_generation import models

    monkeypatch.setattr(models, "linear_layer_count", lambda name: 28)
    with pytest.raises(ValueError) as error:
        load(TINY)
    assert str(error.value) == "tiny-qwen3 as it is installed has 29 linear layers, not 28"
