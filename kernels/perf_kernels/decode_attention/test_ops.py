"""Does a step of attention work inside a compiled graph, and does the operator say what it changes?"""

from __future__ import annotations

import pytest
import torch

from perf_kernels.compiled_tests import BACKEND
from perf_kernels.decode_attention import decode_attention, launch_config, workspace_for
from perf_kernels.decode_attention.inputs import Step, random_step
from perf_kernels.target import DEVICE_TYPE
from perf_kernels.undeclared_tests import attention_in_fp32, narrow_heads

pytestmark = [narrow_heads, attention_in_fp32]

DEVICE = DEVICE_TYPE


def step(position: int = 5, dtype: torch.dtype = torch.float32) -> Step:
    """Draw a step whose cache holds numbers behind the position, too: NaN is not equal to itself."""
    drawn = random_step(2, 4, 2, 32, 9, position, dtype, DEVICE)
    return drawn._replace(keys=drawn.keys.nan_to_num(7.0), values=drawn.values.nan_to_num(7.0))


def copied(given: Step) -> Step:
    return Step(*(tensor.clone() for tensor in given))


def test_compiles_into_a_graph() -> None:
    given = step()
    eager, captured = copied(given), copied(given)

    def model(given: Step, scale: float) -> torch.Tensor:
        y = decode_attention(given.qkv * scale, *given[1:], epsilon=1e-5).relu()
        # Reads what the operator has stored: a graph that does not know would read it before.
        return y + given.keys.sum() + given.values.sum()

    # The backend that keeps the graph as it is: generated code adds the caches up in another order.
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(captured, 2.0), model(eager, 2.0))
    assert torch.equal(captured.keys, eager.keys)
    assert torch.equal(captured.values, eager.values)
    assert not torch.equal(captured.keys, given.keys)
    assert not torch.equal(captured.values, given.values)


def test_steps_of_one_graph_follow_each_other() -> None:
    """The position is read when the graph runs, so that one graph serves all steps."""
    graphs: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    eager, captured = step(3), step(3)
    compiled = torch.compile(lambda given: decode_attention(*given), backend=keep, fullgraph=True)
    for _ in range(3):
        assert torch.equal(compiled(captured), decode_attention(*eager))
        for given in (eager, captured):
            given.position.add_(1)
    assert torch.equal(captured.keys, eager.keys)
    assert len(graphs) == 1


def test_operator() -> None:
    operator = torch.ops.perf_kernels.decode_attention.default
    assert [argument.name for argument in operator._schema.arguments if argument.alias_info] == [
        "keys",
        "values",
        "partial",
        "arrived",
    ]
    for dtype in (torch.float32, torch.bfloat16):
        torch.library.opcheck(operator, (*step(dtype=dtype), None, None, 1e-6))
        given = long_step(dtype)
        torch.library.opcheck(operator, (*given, *workspace_for(given.keys, 4), 1e-6))


def long_step(dtype: torch.dtype = torch.bfloat16) -> Step:
    """Draw a step on a cache that several programs go through."""
    drawn = random_step(1, 4, 2, 32, 150, 140, dtype, DEVICE)
    assert launch_config(150, 32).splits > 1
    return drawn._replace(keys=drawn.keys.nan_to_num(7.0), values=drawn.values.nan_to_num(7.0))


def test_compiles_with_a_workspace() -> None:
    given = long_step()
    workspace = workspace_for(given.keys, 4)
    compiled = torch.compile(
        lambda given, workspace: decode_attention(*given, workspace=workspace), backend=BACKEND, fullgraph=True
    )
    eager, captured = copied(given), copied(given)
    assert torch.equal(compiled(captured, workspace), decode_attention(*eager, workspace=workspace))
    assert torch.equal(captured.keys, eager.keys)
    assert not workspace.arrived.any()


def test_half_a_workspace() -> None:
    given = step()
    with pytest.raises(ValueError) as caught:
        torch.ops.perf_kernels.decode_attention(*given, workspace_for(given.keys, 4).partial, None, 1e-6)
    assert str(caught.value) == (
        "decode_attention: partial and arrived come together, as workspace_for(keys, heads) makes them"
    )


def test_operator_on_tensors_without_memory() -> None:
    """One step of Qwen3-4B."""
    given = [
        torch.empty(shape, dtype=torch.bfloat16, device="meta")
        for shape in ((3, 48 * 128), (128,), (128,), (640, 128), (640, 128), (), (3, 8, 640, 128), (3, 8, 640, 128))
    ]
    given[5] = given[5].long()
    y = torch.ops.perf_kernels.decode_attention(*given, None, None, 1e-6)
    assert (y.shape, y.dtype, y.device.type) == ((3, 32 * 128), torch.bfloat16, "meta")
