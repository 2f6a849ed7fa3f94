"""Can the pass of a prompt be captured as a CUDA graph? On a CPU: does it read a value, which would wait for a GPU?"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("triton")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from perf_workloads.text_generation import GenerationSetup, load, random_prompt  # noqa: E402
from perf_workloads.text_generation.graphed import GraphedGenerator  # noqa: E402
from perf_workloads.text_generation.layers import FEW_TOKENS, quantize_layers  # noqa: E402

#: What takes values to the CPU, or has a shape that depends on them.
READS = frozenset({"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::_unique2"})


class Operators(TorchDispatchMode):  # type: ignore[misc]  # torch is not followed
    """Lists the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    @property
    def reads(self) -> list[str]:
        """Those that a capture would refuse."""
        return [name for name in self.names if name in READS]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func._schema.name)
        return func(*args, **(kwargs or {}))


def test_a_prompt_reads_nothing_while_it_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself transformers asks the cache what it holds, and does something else while a stream is capturing."""
    model = load(GenerationSetup("tiny-qwen3", "float32", "cpu", "dense", "triton"))
    generator = GraphedGenerator(model, 2, 64, graph=False)
    input_ids = random_prompt(model, 26, batch=2)
    with torch.no_grad():
        with Operators() as alone:
            model(input_ids, past_key_values=generator.cache)
        with Operators() as launched:
            generator.run_prompt(input_ids)
        token = generator.step.token.clone()
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        with Operators() as captured:
            generator.run_prompt(input_ids)
        right = model(input_ids).logits[:, -1].argmax(dim=-1)
    assert alone.reads, "the check finds nothing where there is something"
    assert captured.reads == []
    assert captured.names == launched.names
    assert torch.equal(token, right)
    assert torch.equal(generator.step.token, right)
    assert int(generator.step.position) == 26


@pytest.mark.parametrize("method", ["int8-weight-only", "int8-dynamic", "int4-gptq"])
def test_quantised_layers_read_nothing_of_a_prompt(method: Any) -> None:
    setup = GenerationSetup("tiny-qwen3", "float32", "cpu", method, "triton")
    model = load(GenerationSetup("tiny-qwen3", "float32", "cpu", "dense", "triton"))
    quantize_layers(model, setup)
    with torch.no_grad(), Operators() as seen:
        model.model.layers[0].mlp.down_proj(torch.randn(1, FEW_TOKENS + 1, 608))
    assert seen.reads == []


def test_a_prompt_is_captured_once_for_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(GenerationSetup("tiny-qwen3", "float32", "cpu", "dense", "triton"))
    generator = GraphedGenerator(model, 1, 64, graph=False)
    run, passes = generator.run_prompt, []

    def counted(input_ids: Any) -> None:
        passes.append(input_ids)
        run(input_ids)

    class Graph:
        """Stands for a CUDA graph: runs the last captured pass again, on the memory that it was captured with."""

        def replay(self) -> None:
            run(passes[-1])

    monkeypatch.setattr(generator, "run_prompt", counted)
    monkeypatch.setattr(generator, "_graph", Graph())
    monkeypatch.setattr("perf_workloads.text_generation.graphed.beside", lambda call: call())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr("perf_workloads.text_generation.graphed._capture_stream", lambda: None)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, stream: contextlib.nullcontext())

    def lengths() -> list[int]:
        return [each.shape[1] for each in passes]

    def expected(input_ids: Any) -> list[int]:
        with torch.no_grad():
            return [int(model(input_ids).logits[0, -1].argmax())]

    prompts = [random_prompt(model, length, seed=seed) for length, seed in ((20, 0), (20, 1), (24, 0), (20, 0))]
    with torch.no_grad():
        assert [generator.start(prompt) for prompt in prompts] == [expected(prompt) for prompt in prompts]
        assert lengths() == [20, 20, 24, 24, 20, 20]
        generator.start(prompts[0])
        assert lengths() == [20, 20, 24, 24, 20, 20]
        generator.start(prompts[0], anew=True)
    assert lengths() == [20, 20, 24, 24, 20, 20, 20, 20]
