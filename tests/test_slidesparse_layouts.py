"""Are checkpoints of other layouts taken: encoders beside the decoder, experts, layers that predict further tokens?

Layouts are sets of names and shapes, as models of Hugging Face have them, with widths of a few columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[suite]'")
safetensors_torch = pytest.importorskip("safetensors.torch", reason="pip install -e '.[suite]'")

from perf_workloads.slidesparse import command, completeness  # noqa: E402
from perf_workloads.slidesparse.headers import CheckpointError, Tensor, mark_mamba1  # noqa: E402
from perf_workloads.slidesparse.tiny_checkpoint import CONFIG, DOWN, HIDDEN, WIDTHS, rewrite, write  # noqa: E402

#: What a model with encoders tells of its decoder, and what it has beside that.
NESTED = {"architectures": ["TinyForConditionalGeneration"], "text_config": CONFIG}
ATTENTION = {name: shape for name, shape in WIDTHS.items() if name.startswith("self_attn.")}
#: Wider than the decoder, with heads of its own.
TOWER = {"self_attn.q_proj": (36, 36), "self_attn.k_proj": (36, 36), "self_attn.v_proj": (36, 36), "mlp.fc1": (50, 36)}
EXPERT = {"gate_proj": (6, HIDDEN), "up_proj": (6, HIDDEN), "down_proj": (HIDDEN, 6)}


def stack(name: str, layers: int = 2, widths: Mapping[str, tuple[int, ...]] = WIDTHS) -> dict[str, tuple[int, ...]]:
    """Give the shapes of a stack of layers, by name."""
    return {f"{name}.{number}.{each}.weight": widths[each] for number in range(layers) for each in widths}


def experts(at: str, number: int = 2) -> dict[str, tuple[int, ...]]:
    """Give the shapes of the experts of a layer, by their names within it."""
    return {f"{at}.{expert}.{name}": shape for expert in range(number) for name, shape in EXPERT.items()}


def check(shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any] = CONFIG, **how: bool) -> list[str]:
    """Check a layout with an embedding and a norm, and list what would be converted of it."""
    everything = {"model.embed_tokens.weight": (4, HIDDEN), "model.norm.weight": (HIDDEN,), **shapes}
    tensors = [Tensor(name, "BF16", shape) for name, shape in everything.items()]
    completeness.check(Path("layout"), config, tensors, **how)
    return [tensor.name for tensor in tensors if tensor.is_layer]


@pytest.mark.parametrize(
    "tower",
    [
        "vpm.encoder.layers",
        "model.vision_embed_tokens.img_processor.vision_model.encoder.layers",
        "vision_tower.transformer.layers",
        "audio_tower.layers",
    ],
)
@pytest.mark.parametrize("decoder", ["model.layers", "model.language_model.layers", "language_model.model.layers"])
@pytest.mark.parametrize("config", [CONFIG, NESTED], ids=["flat", "nested"])
def test_an_encoder_beside_the_decoder(tower: str, decoder: str, config: dict[str, Any]) -> None:
    """It is copied, and its widths are not those of the text; the decoder's still are."""
    shapes = {**stack(tower, 3, TOWER), **stack(decoder)}
    assert check(shapes, config) == list(stack(decoder))
    with pytest.raises(CheckpointError, match=r"v_proj\.weight has 12 outputs, and config\.json says 8"):
        check({**shapes, f"{decoder}.1.self_attn.v_proj.weight": (12, HIDDEN)}, config)
    other = {**CONFIG, "hidden_size": 32}
    with pytest.raises(CheckpointError, match=r"q_proj\.weight has 16 inputs, and config\.json says hidden_size 32"):
        check(shapes, {"text_config": other} if config is NESTED else other)
    with pytest.raises(CheckpointError, match=r"^layout: layer 1 lacks .*\.1\.mlp\.fc1\.weight, which layer 0 has"):
        check({name: shape for name, shape in shapes.items() if name != f"{tower}.1.mlp.fc1.weight"}, config)


def test_figures_of_the_decoder_stand_over_those_of_all() -> None:
    shapes = stack("model.language_model.layers")
    check(shapes, {**CONFIG, "hidden_size": 99, "num_hidden_layers": 7, "text_config": CONFIG})
    with pytest.raises(CheckpointError, match=r"layer 2 is missing, and config\.json tells of 3 layers"):
        check(shapes, {"text_config": {**CONFIG, "num_hidden_layers": 3}})
    with pytest.raises(CheckpointError, match=r"model\.layers\.0\.self_attn\.q_proj\.weight has 16 inputs"):
        check(stack("model.layers"), {**CONFIG, "text_config": None, "hidden_size": 99})


def test_kinds_of_layers_in_the_configuration_of_the_decoder() -> None:
    shapes = {**stack("model.language_model.layers"), "model.language_model.layers.1.linear_attn.A_log": (3,)}
    check(shapes, {"text_config": {**CONFIG, "layer_types": ["full", "linear"]}})
    with pytest.raises(CheckpointError, match="layer 0 lacks"):
        check(shapes, {"text_config": {**CONFIG, "layer_types": ["full", "full"]}})


def test_a_decoder_saved_without_its_head() -> None:
    """Embedding models are: their layers have no ``model.`` before them, in an engine they do."""
    assert check(stack("layers")) == list(stack("layers"))


def test_an_encoder_and_a_decoder_of_unknown_figures() -> None:
    """Whisper's num_hidden_layers are those of its encoder."""
    shapes = {**stack("model.encoder.layers", 4), **stack("model.decoder.layers")}
    assert check(shapes, {**CONFIG, "num_hidden_layers": 4}) == list(stack("model.decoder.layers"))


def test_experts_are_copied() -> None:
    """Qwen3-MoE has experts of a width of their own, OLMoE of the one that the configuration tells."""
    widths = {**ATTENTION, "mlp.gate": (2, HIDDEN), **experts("mlp.experts")}
    wanted = list(stack("model.layers", widths=ATTENTION))
    assert sorted(check(stack("model.layers", widths=widths), {**CONFIG, "moe_intermediate_size": 6})) == sorted(wanted)
    assert sorted(check(stack("model.layers", widths=widths), {**CONFIG, "intermediate_size": 6})) == sorted(wanted)
    lost = stack("model.layers", widths=widths)
    del lost["model.layers.1.mlp.experts.1.up_proj.weight"]
    with pytest.raises(CheckpointError, match=r"layer 1 lacks model\.layers\.1\.mlp\.experts\.1\.up_proj\.weight"):
        check(lost)


@pytest.mark.parametrize("shared", ["shared_expert", "shared_experts"])
def test_shared_experts_are_converted(shared: str) -> None:
    """As an engine does, which serves them as linear layers; their width is none of the configuration's."""
    widths = {**ATTENTION, **experts("mlp.experts"), **{f"mlp.{shared}.{name}": each for name, each in EXPERT.items()}}
    found = check(stack("model.layers", widths=widths))
    assert f"model.layers.1.mlp.{shared}.gate_proj.weight" in found
    assert not any(".experts." in name for name in found)
    widths[f"mlp.{shared}.down_proj"] = (HIDDEN + 2, 6)
    with pytest.raises(
        CheckpointError, match=r"down_proj\.weight has 18 outputs, and config\.json says hidden_size 16"
    ):
        check(stack("model.layers", widths=widths))


def test_dense_layers_between_those_with_experts() -> None:
    """Llama 4 has two widths for them."""
    widths = {**ATTENTION, "feed_forward.gate_proj": (40, HIDDEN)}
    check(stack("model.layers", widths=widths), {**CONFIG, "intermediate_size_mlp": 40})
    with pytest.raises(CheckpointError, match=r"has 40 outputs, and config\.json says intermediate_size 24"):
        check(stack("model.layers", widths=widths))


def test_layers_that_predict_further_tokens() -> None:
    config = {**CONFIG, "num_nextn_predict_layers": 1}
    further = {"model.layers.2.eh_proj.weight": (HIDDEN, 2 * HIDDEN), "model.layers.2.enorm.weight": (HIDDEN,)}
    shapes = {**stack("model.layers", 3), **further}
    assert check(shapes, config) == list(stack("model.layers", 3))
    assert check(shapes, {**config, "layer_types": ["full", "full"]}) == list(stack("model.layers", 3))
    # Without them, as some publish it.
    check(stack("model.layers"), config)
    check(stack("model.layers"), {**config, "num_nextn_predict_layers": 0})
    with pytest.raises(CheckpointError, match=r"layer 3 is missing, and config\.json tells of 2 layers and 2 more"):
        check(shapes, {**config, "num_nextn_predict_layers": 2})
    with pytest.raises(CheckpointError, match=r"it has layer 3, and config\.json tells of 2 layers and 1 more"):
        check(stack("model.layers", 4), config)
    with pytest.raises(CheckpointError, match=r"it has layer 2, and config\.json tells of 2 layers\n"):
        check(shapes, CONFIG)


def test_nothing_but_experts() -> None:
    with pytest.raises(CheckpointError) as caught:
        check(stack("model.layers", widths=experts("mlp.experts")))
    assert str(caught.value) == (
        "layout: no linear layers of a text decoder (….layers.N.…_proj.weight, no experts), so there is nothing to "
        "convert\nhint: serve the checkpoint as it is"
    )


def test_layers_that_are_meant_to_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The hint is what to type; all else is still checked."""
    source, target = write(tmp_path / "source"), tmp_path / "target"
    rewrite(source, lambda tensors: tensors.pop(DOWN))
    arguments = ["convert", str(source), str(target), "--scheme", "2:8", "--prune"]
    assert command.main(arguments) == 1
    assert "if layers are meant to differ, as some models' do, give --layers-differ\n" in capsys.readouterr().err
    assert command.main([*arguments, "--layers-differ"]) == 0
    assert capsys.readouterr().err.endswith("13 layers as int8-2_8\n")
    with pytest.raises(CheckpointError, match="layer 1 is missing"):
        check(stack("model.layers", 1), layers_differ=True)


def test_experts_and_encoders_keep_their_values(tmp_path: Path) -> None:
    source, target = write(tmp_path / "source"), tmp_path / "target"
    copied = ("model.layers.1.mlp.experts.0.gate_proj.weight", "vpm.encoder.layers.0.self_attn.q_proj.weight")
    rewrite(source, lambda tensors: tensors.update({name: torch.randn(6, 5).bfloat16() for name in copied}))
    before = safetensors_torch.load_file(source / "model-00002-of-00002.safetensors")
    assert command.main(["convert", str(source), str(target), "--scheme", "2:8", "--prune", "--layers-differ"]) == 0
    after = safetensors_torch.load_file(target / "model-00002-of-00002.safetensors")
    for name in copied:
        assert torch.equal(after[name], before[name])
        assert f"{name}_scale" not in after


#: The blocks of Mamba 1 and 2, as transformers names and shapes them: 32 channels, 3 states each, and 4 heads.
MAMBA_1 = {"in_proj.weight": (64, HIDDEN), "conv1d.weight": (32, 1, 4), "x_proj.weight": (8, 32), "A_log": (32, 3)}
MAMBA_1 |= {"dt_proj.weight": (32, 2), "dt_proj.bias": (32,), "D": (32,), "out_proj.weight": (HIDDEN, 32)}
MAMBA_2 = {"in_proj.weight": (74, HIDDEN), "dt_bias": (4,), "A_log": (4,), "D": (4,), "out_proj.weight": (HIDDEN, 32)}


def mixers(block: Mapping[str, tuple[int, ...]], at: str = "backbone.layers", name: str = "mixer") -> dict[str, Any]:
    """Draw the tensors of two layers of nothing but such a block, and what is before and behind them."""
    tensors = {
        f"{at}.{number}.{name}.{each}": torch.randn(shape) for number in range(2) for each, shape in block.items()
    }
    return {"backbone.embeddings.weight": torch.randn(4, HIDDEN), **tensors}


def saved(folder: Path, tensors: dict[str, Any]) -> Path:
    """Write a checkpoint of one file."""
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "mamba", "hidden_size": 16, "num_hidden_layers": 2}')
    safetensors_torch.save_file(tensors, folder / "model.safetensors")
    return folder


def test_mamba_1_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Codes would not be loaded: vLLM takes floats for it whatever a scheme says."""
    source, target = saved(tmp_path / "source", mixers(MAMBA_1)), tmp_path / "target"
    for more in ([], ["--layers-differ"]):
        assert command.main(["convert", str(source), str(target), "--scheme", "2:8", "--prune", *more]) == 1
        assert capsys.readouterr().err == (
            f"perfgate-slidesparse: {source}: its only projections are those of Mamba 1 blocks "
            "(backbone.layers.0.mixer.dt_proj.weight), which vLLM serves as floats whatever a scheme says, so there "
            "is nothing to convert\nhint: serve the checkpoint as it is\n"
        )
    assert [*tmp_path.iterdir()] == [source]


def test_mamba_2_is_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = saved(tmp_path / "source", mixers(MAMBA_2)), tmp_path / "target"
    assert command.main(["convert", str(source), str(target), "--scheme", "2:8", "--prune"]) == 0
    assert capsys.readouterr().err.endswith("\n4 layers as int8-2_8\n")


def test_mamba_1_beside_attention_keeps_its_floats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As in Jamba; a block may be in another file than its neighbours, and what tells its kind in another still."""
    source, target = write(tmp_path / "source"), tmp_path / "target"
    block = {f"model.layers.1.mamba.{name}": torch.randn(shape) for name, shape in MAMBA_1.items()}
    steps = {name: block.pop(name) for name in list(block) if name.endswith("A_log")}
    rewrite(source, lambda tensors: tensors.update(block))
    rewrite(source, lambda tensors: tensors.update(steps), number=1)
    assert command.main(["convert", str(source), str(target), "--scheme", "2:8", "--prune", "--layers-differ"]) == 0
    assert capsys.readouterr().err.endswith("\n14 layers as int8-2_8; 4 projections of Mamba 1 blocks stay floats\n")
    after = safetensors_torch.load_file(target / "model-00002-of-00002.safetensors")
    for name, before in block.items():
        assert torch.equal(after[name], before), name
        assert f"{name}_scale" not in after
    assert "model.layers.1.mlp.down_proj.weight_scale" in after


@pytest.mark.parametrize(("kind", "layers"), [("Mamba", 0), ("FalconMamba", 0), ("Jamba", 4 + 2 * 3), ("Mamba2", 4)])
def test_blocks_of_transformers(kind: str, layers: int) -> None:
    """What its own models have: two layers, in Jamba one with attention and a feed-forward of three in each."""
    transformers = pytest.importorskip(
        "transformers", reason="transformers is not installed: pip install -e '.[suite]'"
    )
    sizes = {"vocab_size": 8, "hidden_size": 16, "num_hidden_layers": 2}
    own = {
        "Jamba": {"intermediate_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2, "mamba_dt_rank": 2}
        | {"attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 1, "num_experts_per_tok": 1},
        "Mamba2": {"num_heads": 4, "head_dim": 8, "n_groups": 1, "expand": 2},
    }.get(kind, {"time_step_rank": 2})
    config = getattr(transformers, f"{kind}Config")(**sizes, **own)
    with torch.device("meta"):
        state = transformers.AutoModelForCausalLM.from_config(config).state_dict()
    tensors = tuple(Tensor(name, "F32", tuple(each.shape)) for name, each in state.items())
    (marked,) = mark_mamba1({"model.safetensors": tensors}).values()
    found = [tensor.name for tensor in marked if tensor.is_layer]
    assert len(found) == layers
    assert not any(".mamba." in name for name in found)
