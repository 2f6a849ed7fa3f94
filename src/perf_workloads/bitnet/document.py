"""What does the report say? Everything that was seen in a generation, as JSON values; see ``report.schema.json``.

Times are in seconds, sizes in bytes, shares between 0 and 1. Times of layers on a CPU leave out the wait for a core
that other processes had; those of stages and tokens are the wall's, with ``waited_s`` beside. Times of layers on a GPU
are the device's, without its wait for launches, but for *late* calls (``late_warm_calls`` of the ``conditions``, of
``warm_calls``); stages and tokens hold what that takes: see :class:`perf_workloads.bitnet.clocks.CudaClock`.
``normalised_s`` is the published scaling to 3000 MHz, null where the machine does not tell its frequency; nothing is
ranked by it.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from perf_workloads.bitnet import advice
from perf_workloads.bitnet.experiment import Experiment
from perf_workloads.bitnet.recorder import LayerFigures
from perf_workloads.bitnet.shapes import METHODS

SCHEMA = 2
SCHEMA_FILE = Path(__file__).with_name("report.schema.json")


def schema() -> dict[str, Any]:
    """Read the JSON Schema of the document."""
    read: dict[str, Any] = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    return read


def document(seen: Experiment) -> dict[str, Any]:
    """Turn an experiment into JSON values."""
    found = advice.candidates(seen.layers, seen.machine, seen.setup.method)
    values = {
        "schema": SCHEMA,
        "model": _model(seen),
        "prompt": {"text": seen.prompt, "tokens": seen.prompt_tokens, "tokenizer": seen.tokenizer},
        "sampling": asdict(seen.sampling),
        "system": asdict(seen.system),
        "machine": {"bandwidth": seen.machine.bandwidth, "rates": dict(seen.machine.rates)},
        "conditions": {**seen.conditions, **_late(seen)},
        "stages": _stages(seen),
        "prefill_again_s": seen.prefill_again.seconds,
        "prefill_again_waited_s": seen.prefill_again.waited_s,
        "totals": _totals(seen),
        "layers": _layers(seen, found),
        "groups": _groups(seen),
        "tokens": [
            {
                "index": token.index,
                "id": token.id,
                "text": token.text,
                "time_s": token.seconds,
                "waited_s": token.waited_s,
                "normalised_s": seen.system.normalised(token.seconds),
                "rss": token.rss,
            }
            for token in seen.tokens
        ],
        "token_times": _spread([token.seconds for token in seen.tokens[1:]]),
        "text": seen.text,
        "timeline": [{"time_s": sample.time_s, **asdict(sample.memory)} for sample in seen.timeline],
        "advice": {
            "layers": [_candidate(candidate) for candidate in advice.rank(found)],
            "groups": [_candidate(candidate) for candidate in advice.rank(advice.grouped(found))],
        },
        "sizes": _sizes(seen.layers),
    }
    plain: dict[str, Any] = json.loads(json.dumps(values, allow_nan=False))
    return plain


def _late(seen: Experiment) -> dict[str, int]:
    """Count the warm calls of layers, and those that the GPU may have waited for; nothing on a CPU."""
    if seen.device_peak is None:
        return {}
    warm = [call for layer in seen.layers for call in layer.warm]
    return {"warm_calls": len(warm), "late_warm_calls": sum(call.late for call in warm)}


def _model(seen: Experiment) -> dict[str, Any]:
    setup = seen.setup
    return {
        "name": setup.model,
        "method": setup.method,
        "dtype": METHODS[setup.method],
        "device": setup.device,
        "weights": f"random, seed {setup.seed}" if setup.weights is None else "stored",
        "shape": seen.shape,
        "linear_layers": len(seen.layers),
        "linear_parameters": sum(layer.parameters for layer in seen.layers),
    }


def _stages(seen: Experiment) -> list[dict[str, Any]]:
    whole = sum(stage.seconds for stage in seen.stages)
    return [
        {
            "name": stage.name,
            "start_s": stage.start_s,
            "time_s": stage.seconds,
            "waited_s": stage.waited_s,
            "normalised_s": seen.system.normalised(stage.seconds),
            "share": stage.seconds / whole,
            "rss_change": stage.rss_change,
        }
        for stage in seen.stages
    ]


def _totals(seen: Experiment) -> dict[str, Any]:
    times = [token.seconds for token in seen.tokens]
    decode = sum(times[1:])
    return {
        "tokens": len(times),
        "forward_passes": seen.passes,
        "peak_rss": seen.peak_rss,
        "peak_rss_of": "run" if seen.own_peak else "process",
        "device_peak": seen.device_peak,
        "time_to_first_token_s": times[0],
        "time_per_token_s": decode / (len(times) - 1),
        "time_per_token_without_wait_s": (decode - sum(token.waited_s for token in seen.tokens[1:])) / (len(times) - 1),
        "tokens_per_s": len(times) / sum(times),
        "decode_tokens_per_s": (len(times) - 1) / decode,
        "linear_s": sum(layer.total_s for layer in seen.layers),
        "linear_cold_s": sum(layer.cold_s for layer in seen.layers),
        "linear_warm_per_token_s": sum(layer.warm_s for layer in seen.layers),
    }


def _layers(seen: Experiment, found: Sequence[advice.Candidate]) -> list[dict[str, Any]]:
    whole = sum(layer.total_s for layer in seen.layers)
    return [
        {
            "name": layer.name,
            "group": layer.group,
            "ternary": layer.ternary,
            "product": seen.products[layer.name],
            "calls": len(layer.counted),
            "total_s": layer.total_s,
            "normalised_s": seen.system.normalised(layer.total_s),
            "share": layer.total_s / whole,
            "cold_calls": sum(call.cold for call in layer.counted),
            "cold_s": layer.cold_s,
            "warm_calls": len(layer.warm),
            "warm_s": layer.warm_s,
            "prefill_s": sum(call.seconds for call in layer.calls if call.phase == "prefill"),
            "prefill_again_s": layer.prefill_again_s,
            "input_shape": list(candidate.input_shape),
            "output_shape": list(candidate.output_shape),
            "parameters": layer.parameters,
            "weight_bytes": layer.weight_bytes,
            "roofline_s": candidate.roofline_s,
            "roofline_share": candidate.roofline_share,
            "bound": candidate.bound,
        }
        for layer, candidate in zip(seen.layers, found, strict=True)
    ]


def _groups(seen: Experiment) -> list[dict[str, Any]]:
    whole = sum(layer.total_s for layer in seen.layers)
    groups: dict[str, list[LayerFigures]] = {}
    for layer in seen.layers:
        groups.setdefault(layer.group, []).append(layer)
    rows = [
        {
            "name": name,
            "layers": len(members),
            "product": " | ".join(sorted({seen.products[layer.name] for layer in members})),
            "total_s": (total_s := sum(layer.total_s for layer in members)),
            "normalised_s": seen.system.normalised(total_s),
            "share": total_s / whole,
            "cold_s": sum(layer.cold_s for layer in members),
            "warm_s": sum(layer.warm_s for layer in members),
            "parameters": sum(layer.parameters for layer in members),
            "weight_bytes": sum(layer.weight_bytes for layer in members),
        }
        for name, members in groups.items()
    ]
    return sorted(rows, key=lambda row: -row["total_s"])


def _candidate(candidate: advice.Candidate) -> dict[str, Any]:
    return {**asdict(candidate), "roofline_share": candidate.roofline_share}


def _spread(times: Sequence[float]) -> dict[str, float]:
    return {
        "min_s": min(times),
        "max_s": max(times),
        "mean_s": statistics.mean(times),
        "std_s": statistics.stdev(times),
        "median_s": statistics.median(times),
    }


def _sizes(layers: Sequence[LayerFigures]) -> dict[str, Any]:
    sizes = advice.sizes(layers)
    return {
        **asdict(sizes),
        "compression": sizes.compression,
        "compression_with_head": sizes.compression_with_head,
    }
