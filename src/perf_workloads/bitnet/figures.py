"""Which figures of a report does a case keep, under which names? Exact ones are judged, times are shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def record_exact(benchmark: Any, report: Mapping[str, Any]) -> None:
    """Record what has to be the same in every run: counts and sizes."""
    # One pass a token and one call of every linear layer a pass. The published run took one pass too many.
    benchmark.record("forward_passes", report["totals"]["forward_passes"], limit="0")
    benchmark.record("linear_layers", len(report["layers"]), limit="0")
    benchmark.record("linear_calls", sum(layer["calls"] for layer in report["layers"]), limit="0")
    benchmark.record("linear_parameters", report["model"]["linear_parameters"], limit="0")
    for name in ("fp32_bytes", "ternary_bytes", "packed_bytes", "head_bytes"):
        benchmark.record(f"size_{name.removesuffix('_bytes')}", report["sizes"][name], unit="B", limit="0")
    benchmark.note("offload_first", report["advice"]["groups"][0]["name"])


def report_times(benchmark: Any, report: Mapping[str, Any]) -> None:
    """Report what no single run knows well enough to be judged by."""
    totals = report["totals"]
    for stage in report["stages"]:
        benchmark.report(f"{stage['name']}_time", stage["time_s"], unit="s")
        benchmark.report(f"{stage['name']}_rss_change", stage["rss_change"], unit="B")
    for name in ("time_to_first_token", "time_per_token", "time_per_token_without_wait"):
        benchmark.report(name, totals[f"{name}_s"], unit="s")
    benchmark.report("tokens_per_s", totals["tokens_per_s"], unit="tokens/s")
    benchmark.report("peak_rss", totals["peak_rss"], unit="B")
    if totals["device_peak"] is not None:
        benchmark.report("device_peak", totals["device_peak"], unit="B")
    for name, seconds in report["token_times"].items():
        benchmark.report(f"token_{name.removesuffix('_s')}", seconds, unit="s")
    for token in report["tokens"]:
        benchmark.report(f"token_{token['index']}_time", token["time_s"], unit="s")
    benchmark.report("linear_first_calls", totals["linear_cold_s"], unit="s")
    benchmark.report("linear_warm", totals["linear_warm_per_token_s"], unit="s")
    benchmark.report("linear_roofline", sum(group["roofline_s"] for group in report["advice"]["groups"]), unit="s")
    for group in report["groups"]:
        name = group["name"].replace(".", "_")
        benchmark.report(f"{name}_total", group["total_s"], unit="s")
        benchmark.report(f"{name}_warm", group["warm_s"], unit="s")
    for layer in report["layers"]:
        name = layer["name"].removeprefix("model.layers.").replace(".", "_")
        benchmark.report(f"layer_{name}_total", layer["total_s"], unit="s")
        benchmark.report(f"layer_{name}_warm", layer["warm_s"], unit="s")
