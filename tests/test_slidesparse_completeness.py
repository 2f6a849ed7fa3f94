"""Is a checkpoint that lacks a part, or belongs to another configuration, refused before anything is written?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[suite]'")
pytest.importorskip("safetensors.torch", reason="pip install -e '.[suite]'")

from perf_workloads.slidesparse import checkpoint, completeness  # noqa: E402
from perf_workloads.slidesparse.headers import CheckpointError, Tensor  # noqa: E402
from perf_workloads.slidesparse.serving import models  # noqa: E402
from perf_workloads.slidesparse.tiny_checkpoint import CONFIG, HIDDEN, KEYS, refused, rewrite, write  # noqa: E402

AGAIN = "hint: copy the checkpoint again"
OTHER_MODEL = "hint: weights and configuration are of different models: copy both from the same one"
EMBEDDING, NORM = "model.embed_tokens.weight", "model.norm.weight"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Write a checkpoint of two files, one layer in each."""
    return write(tmp_path / "source")


def configure(source: Path, **changed: Any) -> None:
    (source / "config.json").write_text(json.dumps({**CONFIG, **changed}))


@pytest.mark.parametrize("part", ["self_attn.v_proj", "mlp.gate_proj", "input_layernorm"])
def test_a_layer_that_lacks_a_tensor(source: Path, part: str) -> None:
    name = f"model.layers.1.{part}.weight"
    rewrite(source, lambda tensors: tensors.pop(name))
    assert refused(source) == (
        f"{source}: layer 1 lacks {name}, which layer 0 has; an engine may serve whatever memory holds there\n"
        f"{AGAIN}; if layers are meant to differ, as some models' do, give --layers-differ"
    )


def test_a_missing_layer_in_the_middle(source: Path) -> None:
    def move(tensors: dict[str, Any]) -> None:
        for name in list(tensors):
            tensors[name.replace(".1.", ".2.")] = tensors.pop(name)

    rewrite(source, move)
    configure(source, num_hidden_layers=3)
    assert refused(source) == f"{source}: layer 1 is missing, and config.json tells of 3 layers\n{AGAIN}"
    configure(source, num_hidden_layers=None)
    assert refused(source) == f"{source}: layer 1 is missing, and model.layers goes up to 2\n{AGAIN}"


def test_more_layers_than_the_configuration_tells_of(source: Path) -> None:
    configure(source, num_hidden_layers=1)
    assert refused(source) == f"{source}: it has layer 1, and config.json tells of 1 layers\n{AGAIN}"


def test_no_embedding(source: Path) -> None:
    rewrite(source, lambda tensors: tensors.pop(EMBEDDING), number=1)
    said = (
        f"{source}: no embedding ({EMBEDDING}): config.json says vocab_size 4, and no tensor but the head has so many "
        f"rows\n{AGAIN}"
    )
    assert refused(source) == said
    rewrite(source, lambda tensors: tensors.update({"lm_head.weight": torch.zeros(4, HIDDEN)}))
    assert refused(source) == said


def test_an_embedding_of_another_vocabulary(source: Path) -> None:
    configure(source, vocab_size=3)
    said = f"{source}: {EMBEDDING} has 4 rows, and config.json says vocab_size 3\n{OTHER_MODEL}"
    assert refused(source) == said
    rewrite(source, lambda tensors: tensors.update({"lm_head.weight": torch.zeros(3, HIDDEN)}))
    assert refused(source) == said


def test_no_head(source: Path) -> None:
    configure(source, architectures=["TinyForCausalLM"], tie_word_embeddings=False)
    assert refused(source) == (
        f"{source}: no head (lm_head.weight): config.json says that it is not {EMBEDDING}, by tie_word_embeddings\n"
        f"{AGAIN}"
    )
    rewrite(source, lambda tensors: tensors.update({"lm_head.weight": torch.zeros(4, HIDDEN)}))
    checkpoint.inspect(source)


def test_no_norm_behind_the_layers(source: Path) -> None:
    rewrite(source, lambda tensors: tensors.pop(NORM), number=1)
    assert refused(source) == f"{source}: no norm behind the layers ({NORM}), though each has one\n{AGAIN}"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"num_attention_heads": 8},
            "k_proj.weight has 8 outputs, and config.json says 4: num_key_value_heads 2 x hidden_size 16 / "
            "num_attention_heads 8",
        ),
        (
            {"num_key_value_heads": 4},
            "k_proj.weight has 8 outputs, and config.json says 16: num_key_value_heads 4 x hidden_size 16 / "
            "num_attention_heads 4",
        ),
        ({"head_dim": 8}, "k_proj.weight has 8 outputs, and config.json says 16: num_key_value_heads 2 x head_dim 8"),
        (
            {"head_dim": 4, "num_attention_heads": 6, "num_key_value_heads": None},
            "o_proj.weight has 16 inputs, and config.json says 24: num_attention_heads 6 x head_dim 4",
        ),
    ],
)
def test_heads_of_another_model(source: Path, changed: dict[str, Any], said: str) -> None:
    configure(source, **changed)
    assert refused(source) == f"{source}: model.layers.0.self_attn.{said}\n{OTHER_MODEL}"


def test_a_projection_of_another_width(source: Path) -> None:
    name = "model.layers.1.self_attn.v_proj.weight"
    rewrite(source, lambda tensors: tensors.update({name: torch.ones(2 * KEYS, HIDDEN)}))
    assert refused(source) == (
        f"{source}: {name} has 16 outputs, and config.json says 8: num_key_value_heads 2 x hidden_size 16 / "
        f"num_attention_heads 4\n{OTHER_MODEL}"
    )


def tensors_of(config: dict[str, Any], **shapes: tuple[int, int]) -> list[Tensor]:
    """List the tensors of a two-layer model, with other attention where ``shapes`` names it."""
    found = [Tensor(EMBEDDING, "BF16", (config["vocab_size"], config["hidden_size"])), Tensor(NORM, "BF16", (16,))]
    for number in range(2):
        found += [
            Tensor(f"model.layers.{number}.self_attn.{name}.weight", "BF16", each) for name, each in shapes.items()
        ]
    return found


def test_attention_of_another_kind_is_not_judged() -> None:
    """Queries with gates, and compressed keys and values: heads do not make up their widths."""
    gated = {"q_proj": (32, 16), "k_proj": (8, 16), "v_proj": (8, 16), "o_proj": (16, 16)}
    completeness.check(Path("gated"), CONFIG, tensors_of(CONFIG, **gated))
    latent = {"q_proj": (24, 16), "kv_a_proj": (6, 16), "kv_b_proj": (32, 4), "o_proj": (16, 12)}
    completeness.check(Path("latent"), CONFIG, tensors_of(CONFIG, **latent))


def test_layers_of_several_kinds() -> None:
    """As ``layer_types`` tells; without it such a checkpoint cannot be told from one that lacks a part."""
    tensors = tensors_of(CONFIG, in_proj=(16, 16))
    tensors.append(Tensor("model.layers.1.self_attn.extra", "F32", (3,)))
    completeness.check(Path("kinds"), {**CONFIG, "layer_types": ["linear", "full"]}, tensors)
    with pytest.raises(CheckpointError, match=r"layer 0 lacks model\.layers\.0\.self_attn\.extra, which layer 1 has"):
        completeness.check(Path("kinds"), {**CONFIG, "layer_types": ["full", "full"]}, tensors)


@pytest.mark.parametrize("name", models.TINY)
def test_what_transformers_saves_is_whole(tmp_path: Path, name: str) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed: pip install -e '.[suite]'")
    from perf_workloads.slidesparse.serving.tiny import save_checkpoint

    assert checkpoint.inspect(save_checkpoint(tmp_path / name, name)).layers == 14


@pytest.mark.parametrize(
    ("part", "beside"),
    [
        ("mlp.up_proj", "down_proj and gate_proj"),
        ("self_attn.q_proj", "k_proj"),
        ("self_attn.k_proj", "v_proj"),
        ("self_attn.v_proj", "k_proj"),
    ],
)
def test_a_projection_that_all_layers_lack(source: Path, part: str, beside: str) -> None:
    for number in (1, 2):
        rewrite(source, lambda tensors, number=number: tensors.pop(f"model.layers.{number - 1}.{part}.weight"), number)  # type: ignore[misc]
    said = (
        f"{source}: model.layers.0.{part}.weight is missing beside {beside}; an engine makes one product of them\n"
        f"{AGAIN}"
    )
    assert refused(source) == said
    configure(source, attention_k_eq_v=True)
    if part == "self_attn.v_proj":
        checkpoint.inspect(source)
    else:
        assert refused(source) == said


QUERY_BIAS = "model.layers.0.self_attn.q_proj.bias"


def add_biases(source: Path) -> None:
    for number in range(2):
        widths = {"q": HIDDEN, "k": KEYS, "v": KEYS}
        biases = {f"model.layers.{number}.self_attn.{name}_proj.bias": torch.ones(n) for name, n in widths.items()}
        rewrite(source, lambda tensors, biases=biases: tensors.update(biases), number + 1)  # type: ignore[misc]


def test_biases_of_another_model(source: Path) -> None:
    """Weights of Llama, configuration of Qwen2, and the other way round: all widths agree."""
    configure(source, attention_bias=False)
    checkpoint.inspect(source)
    for changed, told in (
        ({"attention_bias": True}, "attention_bias true"),
        ({"model_type": "qwen2"}, "model_type qwen2, which has biases"),
        ({"model_type": "qwen2", "attention_bias": False}, "model_type qwen2, which has biases"),
    ):
        configure(source, **changed)
        assert refused(source) == f"{source}: {QUERY_BIAS} is missing, and config.json says {told}\n{OTHER_MODEL}"
    add_biases(source)
    checkpoint.inspect(source)
    configure(source)
    checkpoint.inspect(source)
    configure(source, attention_bias=True)
    checkpoint.inspect(source)
    configure(source, attention_bias=False)
    said = f"{source}: {QUERY_BIAS} is there, and config.json says attention_bias false\n{OTHER_MODEL}"
    assert refused(source) == said


def test_biases_of_attention_of_another_kind() -> None:
    """There ``attention_bias`` is about other projections."""
    latent = {"q_proj": (24, 16), "kv_a_proj": (6, 16), "kv_b_proj": (32, 4), "o_proj": (16, 12)}
    completeness.check(Path("latent"), {**CONFIG, "attention_bias": True}, tensors_of(CONFIG, **latent))


def test_projections_without_partners() -> None:
    """A feed-forward without a gate, attention with one, and queries that take keys and values from another layer."""
    widths = {"up_proj": (24, 16), "down_proj": (16, 24)}
    completeness.check(Path("no gate"), CONFIG, tensors_of(CONFIG, **widths))
    widths = {"q_proj": (16, 16), "o_proj": (16, 16), "gate_proj": (24, 16)}
    completeness.check(Path("gated attention"), CONFIG, tensors_of(CONFIG, **widths))
