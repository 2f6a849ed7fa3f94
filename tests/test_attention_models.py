"""Do the four mixers compute what they are defined as, and is only the mixer different between decoders?"""

from __future__ import annotations

import ast
import csv
import importlib.util
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from perf_kernels.gated_delta_rule.reference import EPSILON
from perf_kernels.linear_attention import relative_rms
from perf_workloads.attention import delta_net
from perf_workloads.attention.config import (
    PUBLISHED_DELTA_NET_SIZES,
    ROWS,
    SIZES,
    DecoderConfig,
    decoder,
    published_delta_net,
)
from perf_workloads.attention.decoder import build, parameters
from perf_workloads.attention.delta_net import GatedDeltaNet
from perf_workloads.attention.mixers import LinearAttention, SoftmaxAttention, mixer

REFERENCE = Path(__file__).resolve().parents[1] / "perf_tests" / "linear_attention" / "reference"
BATCH, TOKENS, HIDDEN, HEADS = 2, 70, 12, 3
WIDTH = HIDDEN // HEADS


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(BATCH, TOKENS, HIDDEN, generator=torch.Generator().manual_seed(3))


def config(name: str, implementation: str) -> DecoderConfig:
    return DecoderConfig(name, implementation, 16, TOKENS, HIDDEN, 2, HEADS, dropout=0.0)


def heads(x: torch.Tensor, number: int, parts: int = 3) -> list[torch.Tensor]:
    """Cut [T, parts * HIDDEN] into what one head has of each part, in fp64."""
    return [part[:, number * WIDTH : (number + 1) * WIDTH].double() for part in x.split(HIDDEN, dim=1)[:parts]]


def rms_normed(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return x / (x.square().mean() + 1e-5).sqrt() * scale.double()


@pytest.mark.parametrize("backend", ["math", "flash"])
def test_softmax_attention(x: torch.Tensor, backend: str) -> None:
    layer = mixer(config("softmax", backend))
    assert isinstance(layer, SoftmaxAttention)
    expected = torch.zeros_like(x, dtype=torch.float64)
    for sequence in range(BATCH):
        qkv = x[sequence] @ layer.qkv.weight.T
        for head in range(HEADS):
            q, k, v = heads(qkv, head)
            for t in range(TOKENS):
                weights = (k[: t + 1] @ q[t] / math.sqrt(WIDTH)).exp()
                expected[sequence, t, head * WIDTH : (head + 1) * WIDTH] = weights @ v[: t + 1] / weights.sum()
    assert relative_rms(layer(x), expected @ layer.out.weight.T.double()) < 1e-5


@pytest.mark.parametrize("implementation", ["naive_chunk", "naive_recurrent"])
def test_linear_attention(x: torch.Tensor, implementation: str) -> None:
    layer = mixer(config("linear", implementation))
    assert isinstance(layer, LinearAttention)
    with torch.no_grad():
        layer.scale.uniform_(0.5, 2.0)
    expected = torch.zeros_like(x, dtype=torch.float64)
    for sequence in range(BATCH):
        qkv = x[sequence] @ layer.qkv.weight.T
        for head in range(HEADS):
            q, k, v = heads(qkv, head)
            q, k = (torch.where(each > 0, each + 1, each.exp()) for each in (q, k))
            for t in range(TOKENS):
                mixed = (k[: t + 1] @ q[t] / math.sqrt(WIDTH)) @ v[: t + 1]
                expected[sequence, t, head * WIDTH : (head + 1) * WIDTH] = rms_normed(mixed, layer.scale)
    assert relative_rms(layer(x), expected @ layer.out.weight.T.double()) < 1e-5


@pytest.mark.parametrize("implementation", ["naive_chunk", "naive_recurrent"])
def test_gated_delta_net(x: torch.Tensor, implementation: str) -> None:
    layer = mixer(config("gated_deltanet", implementation))
    assert isinstance(layer, GatedDeltaNet)
    with torch.no_grad():
        layer.scale.uniform_(0.5, 2.0)
    expected = torch.zeros_like(x, dtype=torch.float64)
    for sequence in range(BATCH):
        each = x[sequence].double()
        before = each @ layer.qkv.weight.T.double()
        convolved = torch.zeros_like(before)
        for t in range(TOKENS):
            for back in range(min(t + 1, delta_net.CONVOLUTION)):
                convolved[t] += before[t - back] * layer.convolution[:, -1 - back].double()
        qkv = convolved * convolved.sigmoid()
        decay, strength = (each @ layer.decay_and_strength.weight.T.double()).split(HEADS, dim=1)
        gates = each @ layer.gate.weight.T.double()
        for head in range(HEADS):
            q, k, v = heads(qkv, head)
            state = torch.zeros(WIDTH, WIDTH, dtype=torch.float64)
            for t in range(TOKENS):
                rate = (1 + (decay[t, head] + layer.rate_bias[head].double()).exp()).log()
                state = state * (-layer.log_rate[head].double().exp() * rate).exp()
                key, query = (vector[t] / (vector[t].square().sum() + EPSILON).sqrt() for vector in (k, q))
                state = state + strength[t, head].sigmoid() * torch.outer(key, v[t] - key @ state)
                mixed = rms_normed(query @ state / math.sqrt(WIDTH), layer.scale)
                part = slice(head * WIDTH, (head + 1) * WIDTH)
                expected[sequence, t, part] = mixed * gates[t, part] * gates[t, part].sigmoid()
    assert relative_rms(layer(x), expected @ layer.out.weight.T.double()) < 1e-5


def per_channel(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    g: torch.Tensor,
    beta: torch.Tensor,
    use_qk_l2norm_in_kernel: bool = False,
) -> tuple[torch.Tensor, None]:
    """Apply the rule with a decay for each channel of a key, as fla's chunk_kda documents it: g is [B, T, H, K]."""
    assert use_qk_l2norm_in_kernel
    q, k = q / q.norm(dim=-1, keepdim=True), k / k.norm(dim=-1, keepdim=True)
    output, state = torch.zeros_like(v), torch.zeros(*v[:, 0].shape[:2], q.shape[-1], v.shape[-1])
    for t in range(q.shape[1]):
        state = state * g[:, t, :, :, None].exp()
        write = beta[:, t, :, None] * (v[:, t] - torch.einsum("bhk,bhkv->bhv", k[:, t], state))
        state = state + torch.einsum("bhk,bhv->bhkv", k[:, t], write)
        output[:, t] = torch.einsum("bhk,bhkv->bhv", q[:, t], state) * q.shape[-1] ** -0.5
    return output, None


def test_a_decay_that_all_channels_share_is_the_gated_delta_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fla's gradients of the one rule are refused on some GPUs where those of the other are right."""
    from perf_kernels.gated_delta_rule.inputs import random_gated_heads

    monkeypatch.setattr(delta_net, "_fla", lambda implementation, module, name: per_channel)
    inputs = random_gated_heads(2, 20, 3, 8, dtype=torch.float32)
    found = delta_net.delta_rule(*inputs, implementation="fla_kda")
    assert relative_rms(found, delta_net.delta_rule(*inputs, implementation="naive_recurrent")) < 1e-5


def test_the_functions_of_fla_take_what_they_are_given() -> None:
    """Names and defaults of the installed version; nothing is run, and fla is not imported: that takes seconds."""
    spec = importlib.util.find_spec("fla")
    if spec is None or spec.origin is None:
        pytest.skip("fla is not installed: pip install fla-core einops")
    for path, name, positional, by_name in (
        ("ops/kda/chunk.py", "chunk_kda", ["q", "k", "v", "g", "beta"], {"use_qk_l2norm_in_kernel"}),
        ("modules/causal_conv1d/ops.py", "causal_conv1d", ["x", "weight"], {"activation"}),
        ("ops/common/chunk_o.py", "chunk_bwd_dqkwg", ["q", "k", "v", "do", "h", "dh"], {"g"}),
    ):
        tree = ast.parse((Path(spec.origin).parent / path).read_text(encoding="utf-8"))
        (found,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
        arguments = [argument.arg for argument in found.args.args]
        assert arguments[: len(positional)] == positional
        assert by_name <= set(arguments)


@pytest.mark.parametrize("row", ROWS["cpu"])
def test_no_token_sees_later_ones(row: str) -> None:
    model = build(decoder(row, "cpu", vocabulary=16, positions=80, hidden=16, layers=2, heads=2, dropout=0.0), "cpu")
    ids = torch.randint(16, (1, 80), generator=torch.Generator().manual_seed(0))
    changed = ids.clone()
    changed[0, 40] = (changed[0, 40] + 1) % 16
    before, after = model(ids)[0], model(changed)[0]
    assert torch.allclose(before[:40], after[:40], atol=1e-6)
    assert (before[40:] - after[40:]).abs().amax(dim=1).min() > 1e-6, "each of the later ones sees it"


def test_rows_differ_in_nothing_but_the_mixer() -> None:
    shapes = {}
    for row in ROWS["cpu"]:
        model = build(decoder(row, "cpu", vocabulary=16, positions=8, hidden=16, layers=2, heads=2), "cpu")
        shapes[row] = {name: p.shape for name, p in model.named_parameters() if ".mixer." not in name}
        assert [module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)] == [0.1] * 3
    assert all(each == shapes["softmax"] for each in shapes.values())
    assert shapes["softmax"]["blocks.0.mlp.0.weight"] == (64, 16)


def test_the_same_seed_gives_the_same_weights_and_leaves_torch_alone() -> None:
    config = decoder("gated_deltanet", "cpu", vocabulary=16, positions=8, hidden=16, layers=1, heads=2)
    before = torch.random.get_rng_state()
    first, second, other = build(config, "cpu"), build(config, "cpu"), build(config, "cpu", seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_sizes_are_those_that_were_published() -> None:
    with (REFERENCE / "linear_attention_rtx3090_scaling.csv").open(encoding="utf-8") as file:
        published = {
            (row["attention"], row["nominal_size"]): float(row["parameters_m"]) for row in csv.DictReader(file)
        }
    for size, (hidden, layers, count) in SIZES.items():
        for row in ("softmax", "linear"):
            config = decoder(row, "cpu", vocabulary=1024, positions=512, hidden=hidden, layers=layers, heads=count)
            # Published decoders had some forty tokens more, and fla's layer a norm.
            assert parameters(build(config, "cpu")) / 1e6 == pytest.approx(published[row, size], rel=0.025)
    for size in PUBLISHED_DELTA_NET_SIZES:
        config = published_delta_net("cpu", vocabulary=1024, positions=512, size=size)
        assert parameters(build(config, "cpu")) / 1e6 == pytest.approx(published["gated_deltanet", size], rel=0.01)


def test_states_are_matched() -> None:
    configs = {row: decoder(row, "cuda", vocabulary=16, positions=8) for row in ROWS["cuda"]}
    states = {row: config.state_elements(512) for row, config in configs.items() if config.mixer != "softmax"}
    assert states == {"linear": 16384, "gated_deltanet": 16384, "gated_deltanet_kda": 16384}
    assert configs["softmax"].state_elements(512) == 2 * 256 * 512
    assert published_delta_net("cuda", vocabulary=16, positions=8).state_elements(512) == 32 * 16384


def test_a_published_delta_net_has_wide_heads_at_any_size() -> None:
    configs = [
        published_delta_net("cpu", vocabulary=16, positions=8, size=size) for size in ("", *PUBLISHED_DELTA_NET_SIZES)
    ]
    assert [(each.hidden, each.layers, each.heads) for each in configs] == [
        (128, 4, 4),
        *PUBLISHED_DELTA_NET_SIZES.values(),
    ]
    assert {(each.keys, each.values, each.implementation) for each in configs} == {(256, 512, "naive_chunk")}
    small = replace(configs[0], hidden=16, layers=1)
    assert build(small, "cpu")(torch.zeros(1, 3, dtype=torch.int64)).shape == (1, 3, 16)


def test_configurations_that_cannot_be() -> None:
    with pytest.raises(ValueError) as raised:
        DecoderConfig("softmax", "math", 16, 8, hidden=10, heads=4)
    assert str(raised.value) == "DecoderConfig: 4 heads do not divide a hidden width of 10"
    with pytest.raises(ValueError) as raised:
        DecoderConfig("linear", "naive_chunk", 16, 8, key_width=8)
    assert str(raised.value) == "DecoderConfig: only a gated_deltanet mixer has widths of its own, not linear"
    with pytest.raises(ValueError) as raised:
        decoder("mamba", "cpu", vocabulary=16, positions=8)
    assert str(raised.value) == (
        "decoder: row is 'mamba'; it must be one of softmax, efficient, flash, linear, gated_deltanet, "
        "gated_deltanet_kda"
    )
    with pytest.raises(ValueError) as raised:
        decoder("efficient", "cpu", vocabulary=16, positions=8)
    assert str(raised.value) == "decoder: nothing computes efficient on a cpu"
    with pytest.raises(ValueError) as raised:
        mixer(DecoderConfig("mamba", "math", 16, 8))
    assert str(raised.value) == "mixer: 'mamba' is unknown; it must be one of softmax, linear, gated_deltanet"
