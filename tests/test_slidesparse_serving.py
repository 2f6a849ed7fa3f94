"""Is M pinned as published, are models what products are measured on, and is nothing heavy imported? Without vLLM."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from perf_workloads.slidesparse import command, shapes
from perf_workloads.slidesparse.serving import models, plugin, workloads
from perf_workloads.slidesparse.serving.workloads import Point


def test_published_points() -> None:
    assert [point.tokens for point in workloads.POINTS if point.stage == "prefill"] == [2**n for n in range(9, 17)]
    assert [point.tokens for point in workloads.POINTS if point.stage == "decode"] == [64, 128, 256, 512]


@pytest.mark.parametrize(
    ("tokens", "prompt", "at_once"), [(512, 512, 1), (1024, 1024, 1), (2048, 1024, 2), (65536, 1024, 64)]
)
def test_prefill_as_published(tokens: int, prompt: int, at_once: int) -> None:
    load = workloads.workload(Point("prefill", tokens))
    assert (load.prompt, load.prompts, load.new_tokens, load.budget) == (prompt, 128 * at_once, 1, tokens)
    assert load.steps == (tokens,) * 128
    assert (load.prompt_tokens, load.output_tokens) == (128 * tokens, 128 * at_once)


def test_decode_as_published() -> None:
    load = workloads.workload(Point("decode", 256))
    assert (load.prompt, load.prompts, load.new_tokens) == (16, 256, 256)
    assert load.steps == (4096,) + (256,) * 255
    assert (load.prompt_tokens, load.output_tokens) == (4096, 65536)


def test_an_m_that_cannot_be_pinned() -> None:
    with pytest.raises(ValueError) as caught:
        workloads.workload(Point("prefill", 1500))
    assert str(caught.value) == "prefill M=1500: M must be at most 1024, or a multiple of it"


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ([64, 8, 8], None),
        ([64, 8, 7, 1], "M is not pinned: pass 3 of 4 had 7 tokens, not 8"),
        ([64, 8], "M is not pinned: 2 passes instead of 3"),
        ([64, 8, 8, 8], "M is not pinned: 4 passes instead of 3"),
    ],
)
def test_passes_are_compared(seen: list[int], said: str | None) -> None:
    assert workloads.unpinned((64, 8, 8), seen) == said


def test_room_of_an_engine() -> None:
    assert (workloads.most_tokens(workloads.POINTS), workloads.most_sequences(workloads.POINTS)) == (65536, 512)
    small = [Point("prefill", 64)]
    assert (workloads.most_tokens(small), workloads.most_sequences(small)) == (1280, 2)


@pytest.mark.parametrize("name", models.PUBLISHED)
def test_served_models_have_the_layers_that_products_are_measured_on(name: str) -> None:
    config, layers = models.CONFIGS[name], shapes.MODELS[name]
    heads = config["num_attention_heads"] + 2 * config["num_key_value_heads"]
    assert layers["qkv"][:2] == (config["hidden_size"], heads * config["head_dim"])
    assert layers["gate_up"][:2] == (config["hidden_size"], 2 * config["intermediate_size"])
    assert layers["down"][:2] == (config["intermediate_size"], config["hidden_size"])


def test_a_model_is_its_configuration(tmp_path: Path) -> None:
    plain = models.write_model(tmp_path, "tiny-llama", "bf16")
    assert json.loads((plain / "config.json").read_text()) == models.CONFIGS["tiny-llama"]
    slid = json.loads((models.write_model(tmp_path, "tiny-llama", "int8-2_8") / "config.json").read_text())
    asked = {"quant_method": "slidesparse", "scheme": "int8-2_8", "stored": False, "prune": True}
    assert slid == {**models.CONFIGS["tiny-llama"], "quantization_config": asked}
    own = json.loads((models.write_model(tmp_path, "tiny-llama", "vllm-int8") / "config.json").read_text())
    assert own["quantization_config"]["quant_method"] == "compressed-tensors"


def test_nothing_heavy_is_imported() -> None:
    """VLLM's entry point, the command and the cases read these before they know that there is a torch."""
    import subprocess

    code = (
        "import sys, perf_workloads.slidesparse.command, perf_workloads.slidesparse.serving.plugin, "
        "perf_workloads.slidesparse.serving.child, perf_workloads.slidesparse.conversion\n"
        "print([name for name in ('torch', 'vllm', 'triton', 'numpy', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_the_plugin_is_an_entry_point() -> None:
    import tomllib

    declared = Path(__file__).parents[1] / "src/perf_workloads/pyproject.toml"
    project = tomllib.loads(declared.read_text())["project"]
    assert project["entry-points"]["vllm.general_plugins"] == {"slidesparse": f"{plugin.__name__}:register"}
    assert project["scripts"]["perfgate-slidesparse"] == f"{command.__name__}:main"


def engine_layers(dtype: str, quantization: str | None = None) -> Any:
    """Give a model of one layer with codes, whose method is another's or ours, and one of floats."""
    torch = pytest.importorskip("torch")
    method = type("Method", (), {} if quantization is None else {"quantization": quantization})()
    layer = torch.nn.Module()
    layer.weight = torch.nn.Parameter(torch.zeros(64, 96, dtype=getattr(torch, dtype)).t(), requires_grad=False)
    layer.weight_scale = torch.nn.Parameter(torch.zeros(64, 1), requires_grad=False)
    layer.quant_method = method
    return torch.nn.ModuleDict({"codes": layer, "floats": torch.nn.Linear(4, 4)})


def test_codes_that_the_engine_leaves_undrawn_are_drawn() -> None:
    """What memory happened to hold is no weight to compare with."""
    from perf_workloads.slidesparse.serving.engine import draw_codes

    model = engine_layers("int8")
    floats = model["floats"].weight.clone()
    assert draw_codes(model) == 1
    codes = model["codes"].weight
    assert (int(codes.min()), int(codes.max())) == (-127, 127)
    assert codes.unique().numel() == 255
    assert model["codes"].weight_scale.unique().tolist() == [pytest.approx(1e-3 / 127)]
    assert model["floats"].weight.equal(floats)


def test_our_own_codes_are_not_drawn_again() -> None:
    from perf_workloads.slidesparse.serving.engine import draw_codes

    model = engine_layers("int8", models.METHOD)
    assert draw_codes(model) == 0
    assert not model["codes"].weight.any()


def test_weights_of_another_type_are_no_comparison() -> None:
    from perf_workloads.slidesparse.serving.engine import draw_codes

    with pytest.raises(RuntimeError) as caught:
        draw_codes(engine_layers("float16"))
    assert str(caught.value) == "codes: weights of torch.float16 were not drawn, and cannot be compared"
