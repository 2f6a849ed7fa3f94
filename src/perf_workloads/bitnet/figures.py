"""Which figures of a report does a case keep, under which names? Exact ones are judged, all others are shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Report = Mapping[str, Any]


def record_exact(benchmark: Any, report: Report) -> None:
    """Record what has to be the same in every run: counts and sizes."""
    # One pass a token and one call of every linear layer a pass. The published run took one pass too many.
    benchmark.record("forward_passes", report["totals"]["forward_passes"], limit="0")
    benchmark.record("linear_layers", len(report["layers"]), limit="0")
    benchmark.record("linear_calls", sum(layer["calls"] for layer in report["layers"]), limit="0")
    benchmark.record("linear_parameters", report["model"]["linear_parameters"], limit="0")
    for name in ("fp32_bytes", "ternary_bytes", "packed_bytes", "head_bytes"):
        benchmark.record(f"size_{name.removesuffix('_bytes')}", report["sizes"][name], unit="B", limit="0")
    for group in report["groups"]:
        benchmark.note(f"product_{_identifier(group['name'])}", group["product"])
    benchmark.note("offload_first", report["advice"]["groups"][0]["name"])


def report_times(benchmark: Any, report: Report) -> None:
    """Report what no single run knows well enough to be judged by: every column of the published tables."""
    _report_system(benchmark, report)
    _report_totals(benchmark, report)
    _report_memory(benchmark, "start", report["timeline"][0])
    for stage in report["stages"]:
        name = stage["name"]
        end_s = stage["start_s"] + stage["time_s"]
        _report_share(benchmark, name, stage, "time")
        benchmark.report(f"{name}_end", end_s, unit="s")
        benchmark.report(f"{name}_rss_change", stage["rss_change"], unit="B")
        _report_memory(benchmark, name, _memory_at(report["timeline"], end_s))
    for token in report["tokens"]:
        name = f"token_{token['index']}"
        benchmark.report(f"{name}_id", token["id"])
        benchmark.report(f"{name}_time", token["time_s"], unit="s")
        _report_normalised(benchmark, name, token)
        benchmark.report(f"{name}_rss", token["rss"], unit="B")
    for rank, group in enumerate(report["advice"]["groups"], 1):
        name = _identifier(group["name"])
        benchmark.report(f"{name}_offload_rank", rank)
        benchmark.report(f"{name}_roofline", group["roofline_s"], unit="s")
    for group in report["groups"]:
        _report_linear(benchmark, _identifier(group["name"]), group)
        benchmark.report(f"{_identifier(group['name'])}_layers", group["layers"])
    for layer in report["layers"]:
        name = f"layer_{_identifier(layer['name'].removeprefix('model.layers.'))}"
        _report_linear(benchmark, name, layer)
        benchmark.report(f"{name}_calls", layer["calls"])
        benchmark.report(f"{name}_inputs", layer["input_shape"][-1])
        benchmark.report(f"{name}_outputs", layer["output_shape"][-1])


def _report_system(benchmark: Any, report: Report) -> None:
    system = report["system"]
    for name in ("cores", "logical", "threads"):
        benchmark.report(f"system_{name}", system[name])
    for name in ("base_mhz", "current_mhz"):
        if system[name] is not None:
            benchmark.report(f"system_{name}", system[name])
    benchmark.report("system_memory", system["memory_bytes"], unit="B")


def _report_totals(benchmark: Any, report: Report) -> None:
    totals = report["totals"]
    benchmark.report("tokens", totals["tokens"])
    for name in ("time_to_first_token", "time_per_token", "time_per_token_without_wait"):
        benchmark.report(name, totals[f"{name}_s"], unit="s")
    benchmark.report("prefill_again_time", report["prefill_again_s"], unit="s")
    benchmark.report("tokens_per_s", totals["tokens_per_s"], unit="tokens/s")
    benchmark.report("peak_rss", totals["peak_rss"], unit="B")
    if totals["device_peak"] is not None:
        benchmark.report("device_peak", totals["device_peak"], unit="B")
    for name, seconds in report["token_times"].items():
        benchmark.report(f"token_{name.removesuffix('_s')}", seconds, unit="s")
    benchmark.report("linear_first_calls", totals["linear_cold_s"], unit="s")
    benchmark.report("linear_warm", totals["linear_warm_per_token_s"], unit="s")
    benchmark.report("linear_roofline", sum(group["roofline_s"] for group in report["advice"]["groups"]), unit="s")


def _report_linear(benchmark: Any, name: str, row: Mapping[str, Any]) -> None:
    """Report a layer or a group: all calls, the first ones, a warm one."""
    _report_share(benchmark, name, row, "total")
    benchmark.report(f"{name}_cold", row["cold_s"], unit="s")
    benchmark.report(f"{name}_warm", row["warm_s"], unit="s")
    benchmark.report(f"{name}_parameters", row["parameters"])


def _report_share(benchmark: Any, name: str, row: Mapping[str, Any], kind: str) -> None:
    """Report a time, the time that the published report makes of it, and its share of the whole."""
    benchmark.report(f"{name}_{kind}", row[f"{kind}_s"], unit="s")
    _report_normalised(benchmark, name, row)
    benchmark.report(f"{name}_share", row["share"])


def _report_normalised(benchmark: Any, name: str, row: Mapping[str, Any]) -> None:
    """Report the published scaling to 3000 MHz, where the machine tells its frequency."""
    if row["normalised_s"] is not None:
        benchmark.report(f"{name}_normalised", row["normalised_s"], unit="s")


def _report_memory(benchmark: Any, name: str, sample: Mapping[str, Any]) -> None:
    for kind in ("rss", "virtual", "system_used"):
        benchmark.report(f"{name}_{kind}", sample[kind], unit="B")


def _memory_at(timeline: list[Mapping[str, Any]], time_s: float) -> Mapping[str, Any]:
    """Give the sample next to a time: one is taken where each stage ends."""
    return min(timeline, key=lambda sample: abs(float(sample["time_s"]) - time_s))


def _identifier(name: str) -> str:
    return name.replace(".", "_")
