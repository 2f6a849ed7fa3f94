"""Is it transformers' BitNet of the asked shape, with layers and weights as they should be, generating as it should?"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("triton")

from perf_workloads.bitnet import METHODS, BitnetSetup, Sampling, load  # noqa: E402
from perf_workloads.bitnet.generation import Generation  # noqa: E402
from perf_workloads.bitnet.layers import TernaryLinear  # noqa: E402
from perf_workloads.bitnet.models import linear_modules, shape_of  # noqa: E402
from perf_workloads.bitnet.shapes import MODELS, linear_layers  # noqa: E402
from perf_workloads.bitnet.weights import RandomWeights  # noqa: E402

TINY = BitnetSetup("tiny", "int8")
PROMPT = [3, 1, 4, 1, 5]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tiny():
    return load(TINY)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Store a model of the tiny shape as transformers does, with plain linear layers."""
    config = transformers.BitNetConfig(
        **MODELS["tiny"], tie_word_embeddings=True, bos_token_id=None, eos_token_id=None, max_position_embeddings=64
    )
    torch.manual_seed(0)
    model = transformers.BitNetForCausalLM(config)
    with torch.no_grad():
        model.model.norm.weight.uniform_(0.5, 1.5)
    folder = tmp_path_factory.mktemp("stored")
    model.save_pretrained(folder)
    return folder, model


def generate(model: Any, new_tokens: int, sampling: Sampling | None = None) -> list[int]:
    with torch.inference_mode():
        generation = Generation(model, sampling or Sampling())
        tokens = [generation.start(torch.tensor([PROMPT]))]
        tokens += [generation.step() for _ in range(new_tokens - 1)]
    assert generation.passes == new_tokens
    return tokens


def test_it_is_the_model_of_transformers_with_ternary_layers(tiny):
    assert type(tiny).__name__ == "BitNetForCausalLM"
    modules = linear_modules(tiny)
    assert len(modules) == linear_layers(2) == 15
    assert [name for name, module in modules.items() if not isinstance(module, TernaryLinear)] == ["lm_head"]
    assert list(modules)[:2] == ["model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.k_proj"]
    left = [module for module in tiny.modules() if isinstance(module, torch.nn.Linear)]
    assert left == [tiny.lm_head]
    assert tiny.lm_head.weight is tiny.model.embed_tokens.weight
    assert not any(tensor.is_meta for tensor in [*tiny.parameters(), *tiny.buffers()])


def test_the_2b4t_model_has_211_linear_layers_and_the_published_parameters():
    shape = shape_of(BitnetSetup())
    config = transformers.BitNetConfig(**shape)
    with torch.device("meta"):
        model = transformers.BitNetForCausalLM(config)
    found = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    assert len(found) == linear_layers(shape["num_hidden_layers"]) == 211
    assert sum(module.weight.numel() for module in found) == 2_412_380_160
    assert model.model.layers[0].mlp.act_fn.__class__.__name__ == "ReLUSquaredActivation"


def test_rotations_are_those_of_a_model_that_was_built_at_once(tiny, stored):
    _, model = stored
    assert torch.equal(tiny.model.rotary_emb.inv_freq, model.model.rotary_emb.inv_freq)


@pytest.mark.parametrize("method", METHODS)
def test_every_form_of_the_weights_generates(method):
    model = load(BitnetSetup("tiny", method))
    tokens = generate(model, 6)
    assert all(0 <= token < 512 for token in tokens)
    if method in ("fp32", "online"):
        assert tokens == generate(load(BitnetSetup("tiny", "fp32")), 6)
    if method in ("int8", "packed"):
        assert tokens == generate(load(TINY), 6)


def test_generation_equals_a_plain_loop_without_a_cache():
    model = load(BitnetSetup("tiny", "fp32"))
    ids = torch.tensor([PROMPT])
    with torch.inference_mode():
        for _ in range(8):
            ids = torch.cat([ids, model(ids, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)], dim=-1)
    expected = ids[0, len(PROMPT) :].tolist()
    assert generate(model, 8) == expected
    # A model that repeats one token would agree with any cache.
    assert len(set(expected)) > 2


def test_a_token_takes_one_pass(tiny):
    """Pitfall: the published run took 51 passes for 50 tokens."""
    passes: list[Any] = []
    handle = tiny.register_forward_pre_hook(lambda *_: passes.append(1))
    try:
        assert len(generate(tiny, 7)) == 7
    finally:
        handle.remove()
    assert len(passes) == 7


def test_sampled_tokens_repeat():
    """Pitfall: the published run sampled without a seed."""
    model = load(TINY)
    tokens = generate(model, 12, Sampling(1.0, 5))
    torch.manual_seed(99)
    torch.rand(3)
    before = torch.random.get_rng_state()
    assert generate(model, 12, Sampling(1.0, 5)) == tokens
    assert torch.equal(torch.random.get_rng_state(), before)
    assert generate(model, 12, Sampling(1.0, 6)) != tokens
    assert generate(model, 12) != tokens


@pytest.mark.parametrize(
    ("temperature", "seed", "message"),
    [
        (0.7, None, "a temperature needs a seed: without one, no two runs generate the same tokens"),
        (-1.0, 1, "temperature -1: it must be 0 (the likeliest token) or more"),
        (float("nan"), 1, "temperature nan: it must be 0 (the likeliest token) or more"),
    ],
)
def test_sampling_that_cannot_be_repeated_is_an_error(temperature, seed, message):
    with pytest.raises(ValueError) as error:
        Sampling(temperature, seed)
    assert str(error.value) == message


def test_weights_do_not_depend_on_the_method_or_on_other_layers():
    one = load(BitnetSetup("tiny", "online", layers=1))
    two = load(BitnetSetup("tiny", "online"))
    first = one.model.layers[0].mlp.up_proj.weight
    assert torch.equal(first, two.model.layers[0].mlp.up_proj.weight)
    assert not torch.equal(first, two.model.layers[1].mlp.up_proj.weight)
    assert not torch.equal(first, load(BitnetSetup("tiny", "online", seed=1)).model.layers[0].mlp.up_proj.weight)
    assert RandomWeights(0, 0.5, "cpu", torch.bfloat16)("norm", (3,)).tolist() == [1.0, 1.0, 1.0]


def test_loading_leaves_the_global_random_state_and_dtype_alone():
    before = torch.random.get_rng_state()
    load(TINY)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_default_dtype() == torch.float32


def test_stored_weights_are_used_without_a_network(stored, monkeypatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    folder, theirs = stored
    model = load(BitnetSetup("tiny", "online", weights=str(folder)))
    name = "model.layers.1.self_attn.o_proj"
    assert torch.equal(model.get_submodule(name).weight, theirs.get_submodule(name).weight)
    assert torch.equal(model.model.norm.weight, theirs.model.norm.weight)
    assert torch.equal(model.lm_head.weight, theirs.lm_head.weight)


def test_fewer_layers_of_stored_weights_can_be_loaded(stored):
    folder, _ = stored
    assert len(linear_modules(load(BitnetSetup("tiny", "int8", layers=1, weights=str(folder))))) == 8


def rewritten(folder: Path, target: Path, change: dict[str, Any]) -> Path:
    """Copy a stored model with some tensors changed or, if None, left out."""
    from safetensors.torch import load_file, save_file

    (target / "config.json").write_text((folder / "config.json").read_text())
    tensors = {name: tensor for name, tensor in load_file(folder / "model.safetensors").items() if name not in change}
    save_file(tensors | {name: tensor for name, tensor in change.items() if tensor is not None}, target / "x")
    (target / "x").rename(target / "model.safetensors")
    return target


Q = "model.layers.0.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({Q: None}, "{folder}: no weights named " + Q),
        ({Q: torch.zeros(8, 160)}, "{folder}: " + Q + " is [8, 160], not [160, 160]"),
        (
            {Q: torch.zeros(40, 160, dtype=torch.uint8)},
            "{folder}: " + Q + " is torch.uint8, packed already; master weights are needed, as in the checkpoint whose "
            "name ends in -bf16",
        ),
    ],
    ids=["missing", "shape", "packed"],
)
def test_unusable_tensors_are_errors(change, message, stored, tmp_path):
    folder = rewritten(stored[0], tmp_path, change)
    with pytest.raises(ValueError) as error:
        load(BitnetSetup("tiny", "int8", weights=str(folder)))
    assert str(error.value) == message.format(folder=folder)


def test_a_folder_without_weights_is_an_error(tmp_path, stored):
    setup = BitnetSetup("tiny", weights=str(tmp_path))
    with pytest.raises(ValueError) as error:
        load(setup)
    assert str(error.value) == f"{tmp_path}: no config.json there, so these are not weights of BitNet"
    (tmp_path / "config.json").write_text((stored[0] / "config.json").read_text())
    with pytest.raises(ValueError) as error:
        load(setup)
    assert str(error.value) == f"{tmp_path}: neither model.safetensors nor model.safetensors.index.json is there"


def test_weights_of_another_model_are_an_error(stored, tmp_path):
    folder, _ = stored
    with pytest.raises(ValueError) as error:
        shape_of(BitnetSetup(weights=str(folder)))
    assert str(error.value) == f"{folder}: not the weights of this model: hidden_size is 160, not 2560"
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    with pytest.raises(ValueError) as error:
        shape_of(BitnetSetup("tiny", weights=str(tmp_path)))
    assert str(error.value) == f"{tmp_path}: not the weights of this model: num_hidden_layers is 1, not 2"


def test_an_unknown_model_or_method_is_an_error():
    with pytest.raises(ValueError) as error:
        load(BitnetSetup("3b"))
    assert str(error.value) == "unknown model '3b': the known ones are 2b4t, tiny"
    with pytest.raises(ValueError) as error:
        load(BitnetSetup("tiny", "int3"))
    assert str(error.value) == "unknown method 'int3': the known ones are fp32, bf16, int8, online, packed"
