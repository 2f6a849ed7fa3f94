"""Does the advice rank what another device can save, whatever first calls, noise and frequencies make of the times?"""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf_workloads.bitnet import advice
from perf_workloads.bitnet.recorder import APART, Call, LayerFigures
from perf_workloads.bitnet.roofline import Machine, Work, work_of
from perf_workloads.bitnet.system import System

REFERENCE = Path(__file__).resolve().parents[1] / "perf_tests" / "bitnet" / "reference"
#: A desktop CPU: memory bounds a single token.
MACHINE = Machine(bandwidth=50e9, rates={"fp32": 500e9, "bf16": 400e9, "int8": 2000e9})
SYSTEM = System("CPU", 8, 16, 8, 3800.0, 3800.0, 32 << 30, None, "AVX512", "2", "5")


def layer(name: str, inputs: int, outputs: int, cold_s: float, warm_s: float, *, calls: int = 50) -> LayerFigures:
    """Give a layer with two cold calls (the prompt's and the first token's) and warm ones."""
    ternary = name != "lm_head"
    prompt, token = ((1, 9, inputs), (1, 9, outputs)), ((1, 1, inputs), (1, 1, outputs))
    made = [Call("prefill", *prompt, cold_s / 2, True), Call("decode", *token, cold_s / 2, True)]
    made += [Call("decode", *token, warm_s, False)] * (calls - 2)
    made.append(Call(APART, *prompt, warm_s, False))
    weight_bytes = inputs * outputs * (1 if ternary else 2)
    return LayerFigures(name, ternary, inputs * outputs, weight_bytes, 2, made)


def published() -> list[LayerFigures]:
    """Give the published layers: all that q_proj of layer 0 took beyond its twins went into first calls."""
    with (REFERENCE / "bitnet_2b4t_ryzen9700x_linear_layers.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    groups: dict[str, list[float]] = {}
    for row in rows:
        groups.setdefault(".".join(row["layer"].split(".")[-2:]), []).append(float(row["total_ms"]) * 1e-3)
    layers = []
    for row in rows:
        total_s = float(row["total_ms"]) * 1e-3
        twins = sorted(groups[".".join(row["layer"].split(".")[-2:])])
        warm_s = min(twins[len(twins) // 2], total_s) / 51
        inputs, outputs = (int(row[f"{side}_shape"].split(",")[-1]) for side in ("input", "output"))
        layers.append(layer(row["layer"], inputs, outputs, total_s - 49 * warm_s, warm_s, calls=51))
    return layers


def test_the_published_layers_are_read_right():
    layers = published()
    assert len(layers) == 211
    assert sum(each.parameters for each in layers) == 2_412_380_160
    assert sum(each.total_s for each in layers) == pytest.approx(69.73, abs=0.01)


def test_a_cold_first_call_does_not_rank():
    """Pitfall: first calls made layer 0's q_proj 28 times dearer than its twins, and the advice named it first."""
    layers = published()
    by_total = max(layers, key=lambda each: each.total_s)
    assert by_total.name == "model.layers.0.self_attn.q_proj"

    ranked = [each.name for each in advice.rank(advice.candidates(layers, MACHINE, "int8"))]

    assert ranked[0] == "lm_head"
    assert all(name.split(".")[-1] in ("gate_proj", "up_proj", "down_proj") for name in ranked[1:91])
    assert ranked.index("model.layers.0.self_attn.q_proj") >= 91


def test_cold_calls_are_told_apart_and_warm_ones_are_the_median():
    found = layer("model.layers.0.self_attn.q_proj", 2560, 2560, cold_s=4.9, warm_s=0.003)
    assert found.total_s == pytest.approx(4.9 + 48 * 0.003)
    assert (found.cold_s, found.warm_s, len(found.warm)) == (4.9, 0.003, 48)


@given(st.floats(1e-6, 1e3), st.floats(1e-6, 1e3), st.sampled_from([0, 1, 2]))
def test_no_measured_time_changes_the_order(cold_s, warm_s, which):
    shapes = [("mlp.down_proj", 6912, 2560), ("self_attn.q_proj", 2560, 2560), ("self_attn.k_proj", 2560, 640)]
    layers = [
        layer(f"model.layers.0.{name}", inputs, outputs, cold_s, warm_s if number == which else 0.001)
        for number, (name, inputs, outputs) in enumerate(shapes)
    ]
    ranked = advice.rank(advice.candidates(layers[::-1], MACHINE, "int8"))
    assert [each.name.split(".", 3)[-1] for each in ranked] == [name for name, _, _ in shapes]


def test_frequencies_do_not_rank():
    """Pitfall: times scaled by MHz. A layer that waits for memory is not faster on a core with a faster clock.

    Twins, the first measured while the clock was high, the second while it was low: scaled by MHz the first is the
    dearer, though it took half as long. By what they cost at the least they are alike.
    """
    fast_clock = System("CPU", 8, 16, 8, 3000.0, 6000.0, 32 << 30, None, "AVX512", "2", "5")
    slow_clock = System("CPU", 8, 16, 8, 3000.0, 1500.0, 32 << 30, None, "AVX512", "2", "5")
    first, second = (layer(f"model.layers.{n}.mlp.up_proj", 2560, 6912, 0.1, s) for n, s in ((0, 1e-3), (1, 2e-3)))
    scaled = [fast_clock.normalised(first.warm_s), slow_clock.normalised(second.warm_s)]
    assert scaled[0] > scaled[1]
    ranked = advice.rank(advice.candidates([first, second], MACHINE, "int8"))
    assert ranked[0].roofline_s == ranked[1].roofline_s
    assert [each.name for each in ranked] == [first.name, second.name]


def test_normalisation_is_the_published_one():
    assert SYSTEM.normalised(0.23848) == pytest.approx(0.23848 * 3800 / 3000)
    unknown = System("CPU", 0, 1, 1, None, None, 0, None, "", "2", "5")
    assert unknown.normalised(1.0) is None


def test_a_roofline_is_the_longer_of_bytes_and_operations():
    assert MACHINE.least_s(50e9, 1.0, "fp32") == (1.0, "memory")
    assert MACHINE.least_s(1.0, 4000e9, "int8") == (2.0, "compute")
    # Narrow operands can be widened to fp32: no type has a lower ceiling.
    assert MACHINE.least_s(1.0, 500e9, "bf16") == (1.0, "compute")


def test_the_work_of_a_call():
    found = layer("model.layers.0.mlp.up_proj", 2560, 6912, 0.1, 0.001)
    assert work_of(found, found.calls[1]) == Work(2560 * 6912 + 2 * (2560 + 6912), 2 * 2560 * 6912)
    assert work_of(found, found.calls[0]) == Work(2560 * 6912 + 9 * 2 * (2560 + 6912), 9 * 2 * 2560 * 6912)


def test_groups_bring_twins_together():
    layers = published()
    groups = {each.name: each for each in advice.grouped(advice.candidates(layers, MACHINE, "int8"))}
    assert {name: group.layers for name, group in groups.items()} == {
        "self_attn.q_proj": 30,
        "self_attn.k_proj": 30,
        "self_attn.v_proj": 30,
        "self_attn.o_proj": 30,
        "mlp.gate_proj": 30,
        "mlp.up_proj": 30,
        "mlp.down_proj": 30,
        "lm_head": 1,
    }
    down = groups["mlp.down_proj"]
    assert down.parameters == 30 * 6912 * 2560
    assert down.roofline_s == pytest.approx(30 * (6912 * 2560 + 2 * (6912 + 2560)) / 50e9)
    assert down.roofline_share == down.roofline_s / down.warm_s
    assert not groups["lm_head"].ternary


def test_compression_does_not_count_the_head():
    """Pitfall: the claimed 16 times counted lm_head, which is not ternary and keeps its size."""
    sizes = advice.sizes(published())
    ternary, head = 30 * (2 * 2560**2 + 2 * 2560 * 640 + 3 * 2560 * 6912), 2560 * 128256
    assert ternary + head == 2_412_380_160
    assert sizes == advice.Sizes(
        fp32_bytes=4 * (ternary + head),
        ternary_fp32_bytes=4 * ternary,
        ternary_bytes=math.ceil(ternary * math.log2(3) / 8),
        packed_bytes=ternary // 4,
        head_bytes=2 * head,
    )
    assert sizes.compression == pytest.approx(20.19, abs=0.01)
    assert sizes.compression_with_head == pytest.approx(9.0, abs=0.1)
