"""Does a generation run what its configuration says? Looks at a few tokens of it, and tells what ran.

Imports torch when something is looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perf_workloads.implementation import compiled_graphs, operators, recorded_graphs
from perf_workloads.text_generation.bench import Runner
from perf_workloads.text_generation.setups import SHAPES, Backend, GenerationSetup, Method, linear_layer_count

if TYPE_CHECKING:
    from perf_workloads.text_generation.watch import Seen

#: Tokens of a generation whose compiled passes are looked at: the prompt's is eager.
COMPILED_TOKENS = 4
#: The operator of torch that a norm is known by.
NORM = "aten::rsqrt"
#: The operator of torch that multiplies in the decoder layers, where it is not ``aten::mm``.
OPERATORS: dict[Backend, str] = {"int-mm": "aten::_int_mm", "scaled-mm": "aten::_scaled_mm"}
#: The type of quantised weights, those of 4 bits being packed.
STORED: dict[Method, str] = {
    "int8-weight-only": "int8",
    "int8-dynamic": "int8",
    "fp8": "float8_e4m3fn",
    "int4-gptq": "int32",
}
#: What making a full weight again runs once, and on what: codes are converted, or zero points taken off them.
REBUILDING: dict[Method, tuple[str, str]] = {
    "int8-weight-only": ("aten::_to_copy", "int8"),
    "int4-gptq": ("aten::sub", "int8"),
}


class OtherImplementation(RuntimeError):
    """Something else ran than what the configuration says."""


def observe(runner: Runner, input_ids: Any, new_tokens: int = 4) -> dict[str, str]:
    """Generate a few tokens, look at what ran, and tell it: also the warm-up of kernels and handles.

    Passes launched one by one are looked at where a generation begins and where it ends, since torch chooses an
    attention for each length.

    Args:
        runner: what generates.
        input_ids: prompts.
        new_tokens: how many are generated later: what is compiled for a cache of that length is compiled here.

    Raises:
        OtherImplementation: it is not what the configuration says.
    """
    from perf_workloads.text_generation.graphed import PROMPT_PASSES
    from perf_workloads.text_generation.watch import watch

    configuration = runner.configuration
    setup, mode = configuration.setup, configuration.mode
    told: dict[str, str] = {"backend": setup.backend, "cache": configuration.cache, "mode": mode}
    if runner.graphed is not None:
        # Launched one by one: a replay tells nothing of what it runs.
        runner.graphed.step()
        seen = watch(runner.model, lambda: runner.capture(input_ids))
        passes = PROMPT_PASSES if runner.on_gpu else 1
    else:
        prompts_seen = [input_ids, *_as_it_ends(input_ids, new_tokens)]
        # What is compiled tells little of what it runs, a replay nothing: eager passes of the same model do.
        seen = watch(runner.model, lambda: [runner.generate(each, 2, compiled=False) for each in prompts_seen])
        passes = 2 * len(prompts_seen)
    wanted_cache = f"{configuration.cache.capitalize()}Cache"
    if seen.caches != {wanted_cache} or seen.passes != passes:
        raise OtherImplementation(
            f"{configuration.label}: {seen.passes} passes with {', '.join(sorted(seen.caches))}; expected were "
            f"{passes} with {wanted_cache}"
        )
    assert_products(configuration.label, setup, runner.model, seen, passes)
    attended = passes * int(SHAPES[setup.model]["num_hidden_layers"])
    if seen.fused_attentions < attended:
        raise OtherImplementation(
            f"{configuration.label}: attention ran in pieces {attended - seen.fused_attentions} of {attended} times; "
            "expected was a fused one"
        )
    told["sdpa_backend"] = seen.attention
    if mode == "compile":
        told["compiled_graphs"] = str(compile_passes(runner, input_ids, new_tokens))
        assert_compiled_passes(runner, input_ids, seen.operators[NORM] // passes)
    return told


def assert_products(label: str, setup: GenerationSetup, model: Any, seen: Seen, passes: int) -> None:
    """Check what multiplied in so many passes, and by what: types of weights, and whether they were made again.

    Args:
        label: what is told of.
        setup: of the model.
        model: what ran.
        seen: what it ran.
        passes: how many of them there were.

    Raises:
        OtherImplementation: it is not what the setup says.
    """
    from perf_workloads.operators import Operator
    from perf_workloads.text_generation.layers import weight_types

    inner = passes * (linear_layer_count(setup.model) - 1)
    # Of quantised layers our kernel takes few tokens, which torch does not see, and torch takes many.
    if setup.backend != "triton" or setup.method == "dense":
        name = OPERATORS.get(setup.backend, "aten::mm")
        # The head's product is an ``mm`` or, for the last token of a prompt, a batched one.
        if not inner <= seen.operators[name] <= inner + passes:
            raise OtherImplementation(
                f"{label}: {seen.operators[name]} {name} in {passes} passes; expected were {inner} and those of the "
                "head"
            )
    stored, wanted = weight_types(model), STORED.get(setup.method, setup.dtype)
    if stored != {wanted}:
        raise OtherImplementation(f"{label}: weights are {' and '.join(sorted(stored))}; expected were {wanted}")
    # Its products are those of a model that is not quantised.
    if setup.backend == "rebuild":
        operator, dtype = REBUILDING[setup.method]
        rebuilt = seen.typed[Operator(operator, dtype)]
        if rebuilt != inner:
            raise OtherImplementation(f"{label}: weights were made again {rebuilt} times for {inner} products")


def _as_it_ends(input_ids: Any, new_tokens: int) -> list[Any]:
    """Give prompts so long that their second new token is where the last one will be; none for two tokens."""
    if new_tokens <= 2:
        return []
    tokens = input_ids.shape[1]
    length = tokens + new_tokens - 2
    return [input_ids.repeat(1, -(-length // tokens))[:, :length]]


def compile_passes(runner: Runner, input_ids: Any, new_tokens: int) -> int:
    """Compile for the length that is measured; give the number of graphs that were compiled.

    Raises:
        OtherImplementation: nothing was compiled, or not all of it was captured.
    """
    import torch
    from torch._dynamo.utils import counters

    # What was compiled for an earlier case must neither serve this one nor hide that nothing is compiled for it.
    torch._dynamo.reset()
    counters.clear()
    # The third token is the first that comes from a captured graph.
    runner.generate(input_ids, max(new_tokens, 4))
    graphs = compiled_graphs()
    if not graphs:
        raise OtherImplementation(f"{runner.configuration.label}: nothing was compiled")
    skipped = int(counters["inductor"]["cudagraph_skips"])
    if skipped:
        raise OtherImplementation(f"{runner.configuration.label}: {skipped} compiled graphs were not captured")
    # Also: torch still calls a recording what is looked for while generations are timed.
    if runner.on_gpu and not recorded_graphs():
        raise OtherImplementation(f"{runner.configuration.label}: torch tells of no CUDA graph that it recorded")
    return graphs


def assert_compiled_passes(runner: Runner, input_ids: Any, norms: int) -> None:
    """Check that each pass after the prompt's runs what was generated, and nothing of the model beside it.

    Args:
        runner: what generates, compiled.
        input_ids: of the prompt.
        norms: operators of norms in an eager pass. What was generated has none.

    Raises:
        OtherImplementation: passes fell back to eager ones, or nothing was generated.
    """
    configuration, passes = runner.configuration, COMPILED_TOKENS - 1
    ran = operators(lambda: runner.generate(input_ids, COMPILED_TOKENS))
    # Torch calls it where a model does; in what is compiled there is only what it chose.
    attended = ran["aten::scaled_dot_product_attention"]
    layers = int(SHAPES[configuration.setup.model]["num_hidden_layers"])
    if not norms:
        raise OtherImplementation(
            f"{configuration.label}: no {NORM} in an eager pass, so compiled ones cannot be told from it: name another "
            "operator of its norms (NORM)"
        )
    if ran[NORM] != norms or attended != layers:
        raise OtherImplementation(
            f"{configuration.label}: {ran[NORM]} norms and {attended} attentions ran as plain operators in the "
            f"prompt's and {passes} compiled passes; expected were {norms} and {layers}, the prompt's"
        )
