"""Is it told which layers of a model a scheme leaves as they are? Stand-ins for vLLM's methods and layers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from perf_workloads.slidesparse.headers import Tensor, converts
from perf_workloads.slidesparse.serving import coverage
from perf_workloads.slidesparse.serving.models import METHOD


class Ours:
    """A method of ours, as its layers have it."""

    quantization = METHOD


class CompressedTensorsLinearMethod:
    """Another method of quantisation."""

    quantization = "compressed-tensors"


class UnquantizedLinearMethod:
    """vLLM's method of float weights."""


class UnquantizedFusedMoEMethod:
    """vLLM's method of experts."""


class UnquantizedEmbeddingMethod:
    """vLLM's method of embeddings and the head."""


class Layer:
    """A module with a method, or without one."""

    def __init__(self, method: object = None) -> None:
        if method is not None:
            self.quant_method = method


class SomeForCausalLM:
    """A model of such modules."""

    def __init__(self, **layers: object) -> None:
        self._layers = layers

    def named_modules(self) -> Iterator[tuple[str, Layer]]:
        """Name two layers of each kind, an embedding and what is no layer."""
        yield "", Layer()
        yield "model.embed_tokens", Layer(UnquantizedEmbeddingMethod())
        for number in range(2):
            yield f"model.layers.{number}", Layer()
            for name, method in self._layers.items():
                yield f"model.layers.{number}.{name}", Layer(method)


def test_all_layers_are_converted() -> None:
    found = coverage.coverage(SomeForCausalLM(qkv_proj=Ours(), o_proj=Ours(), norm=None))
    assert (found.converted, str(found)) == (4, "4 converted")
    found.check("int8-2_8")


def test_layers_that_are_left_are_named() -> None:
    model = SomeForCausalLM(
        qkv_proj=Ours(), gate=UnquantizedLinearMethod(), experts=UnquantizedFusedMoEMethod(), lora=None
    )
    found = coverage.coverage(model)
    assert str(found) == "2 converted, not 2 model.layers.N.experts, 2 model.layers.N.gate"
    found.check("int8-2_8")


def test_a_model_of_which_nothing_is_converted() -> None:
    found = coverage.coverage(SomeForCausalLM(wqkv=UnquantizedLinearMethod(), w2=UnquantizedLinearMethod()))
    with pytest.raises(ValueError) as caught:
        found.check("int8-2_8")
    assert str(caught.value) == (
        "int8-2_8 converts no layer of SomeForCausalLM: it converts those named *.layers.N.*_proj, and the "
        "model has model.layers.N.w2, model.layers.N.wqkv. Its figures would be those of float weights: serve it "
        "without quantization_config, as bf16"
    )
    with pytest.raises(ValueError, match="and the model has no linear layers"):
        coverage.coverage(SomeForCausalLM(other=CompressedTensorsLinearMethod())).check("fp8-dense")


def test_a_model_in_which_no_scheme_has_a_say() -> None:
    """As in Mamba 1 blocks, whose layers vLLM builds without the model's quantisation."""
    found = coverage.coverage(SomeForCausalLM(in_proj=UnquantizedLinearMethod(), conv1d=UnquantizedLinearMethod()))
    with pytest.raises(ValueError) as caught:
        found.check("int8-2_8")
    assert str(caught.value) == (
        "int8-2_8 converts no layer of SomeForCausalLM: vLLM gives no scheme a say in those that it has, as in all "
        "Mamba 1 blocks: model.layers.N.conv1d, model.layers.N.in_proj. Its figures would be those of float weights: "
        "serve it without quantization_config, as bf16"
    )


def test_a_checkpoint_and_an_engine_agree_on_layers() -> None:
    """By the names of either: an engine joins some layers, and may call their stack otherwise."""
    for name in (
        "model.layers.0.self_attn.qkv_proj",
        "layers.0.mlp.gate_up_proj",
        "model.language_model.layers.10.mlp.down_proj",
        "language_model.model.layers.10.mlp.down_proj",
        "model.decoder.layers.0.self_attn.out_proj",
        "model.layers.3.mlp.shared_expert.gate_up_proj",
        "model.layers.3.mlp.shared_experts.down_proj",
        "model.layers.3.out_proj",
        "model.layers.3.self_attn.kv_a_proj_with_mqa",
        "model.layers.3.self_attn.fused_qkv_a_proj",
    ):
        assert converts(name), name
        assert Tensor(f"{name}.weight", "BF16", (2, 2)).is_layer, name
    for name in (
        "model.layers.3.mlp.experts.0.gate_proj",
        "model.layers.3.mlp.experts.gate_up_proj",
        "model.layers.61.eh_proj",
        "model.layers.3.mlp.gate",
        "transformer.h.0.attn.c_proj",
        "vpm.encoder.layers.0.self_attn.out_proj",
        "model.vision_embed_tokens.img_processor.vision_model.encoder.layers.0.self_attn.q_proj",
        "vision_tower.transformer.layers.0.attention.qkv_proj",
        "audio_tower.layers.0.self_attn.qkv_proj",
        "visual.blocks.0.mlp.gate_up_proj",
        "mm_input_proj",
    ):
        assert not converts(name), name
        assert not Tensor(f"{name}.weight", "BF16", (2, 2)).is_layer, name


def test_kinds() -> None:
    assert coverage.kind("model.layers.13.mlp.experts.7.w1") == "model.layers.N.mlp.experts.N.w1"
    assert coverage.kind("h.2") == "h.N"
    assert coverage.kind("model.conv1.w2") == "model.conv1.w2"
