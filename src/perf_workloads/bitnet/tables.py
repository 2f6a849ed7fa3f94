"""Which tables does a reader of the report see, in which order? Rows of text; no format of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from perf_workloads.bitnet import layer_tables, words
from perf_workloads.bitnet.table import Table

#: At most so many looks at memory are shown.
SAMPLES = 200


def title(report: Mapping[str, Any]) -> str:
    """Name the report."""
    model = report["model"]
    return f"BitNet {model['name']}, {model['shape']['num_hidden_layers']} layers, {model['method']} weights"


def tables(report: Mapping[str, Any]) -> Iterator[Table]:
    """Give the tables of a report, as :func:`perf_workloads.bitnet.document.document` made it, in order."""
    yield _system(report)
    yield _totals(report)
    yield _stages(report)
    yield layer_tables.advice(report)
    yield layer_tables.candidates(report)
    yield layer_tables.sizes(report)
    yield layer_tables.groups(report)
    ordered = sorted(report["layers"], key=lambda layer: -layer["total_s"])
    yield layer_tables.layers(
        ordered[: layer_tables.TOP],
        f"Top {layer_tables.TOP} linear layers by total time",
        "As published: first calls count here, so the order is no advice.",
    )
    yield _token_times(report)
    yield layer_tables.layers(report["layers"], "All linear layers", "In the order of the model.", long=True)
    yield _tokens(report)
    yield _timeline(report)


def _system(report: Mapping[str, Any]) -> Table:
    system, model, machine = report["system"], report["model"], report["machine"]
    sampling, prompt = report["sampling"], report["prompt"]
    drawn = f"temperature {sampling['temperature']:g}, seed {sampling['seed']}"
    chosen = "greedy" if sampling["temperature"] == 0 else drawn
    shape = ", ".join(f"{name} {value}" for name, value in model["shape"].items())
    rows = [
        ("CPU", system["cpu"]),
        ("accelerator", system["accelerator"] or "none used"),
        ("cores", f"{system['cores'] or 'unknown'} physical, {system['logical']} logical; {system['threads']} threads"),
        ("frequency", f"base {words.mhz(system['base_mhz'])}, now {words.mhz(system['current_mhz'])}"),
        ("memory", f"{words.mb(system['memory_bytes'])} MB"),
        ("software", f"torch {system['torch']} ({system['instructions']}), transformers {system['transformers']}"),
        ("model", f"{shape}; {model['linear_layers']} linear layers; weights {model['weights']}"),
        ("method", f"{model['method']} weights, {model['dtype']} activations and head, on {model['device']}"),
        ("prompt", f"{prompt['tokens']} tokens, {prompt['text']!r}; tokenizer {prompt['tokenizer']}"),
        ("sampling", chosen),
        ("busy meanwhile", words.busy(report["conditions"])),
        ("times of layers", words.layer_times(report["conditions"])),
        ("read bandwidth, measured", f"{machine['bandwidth'] / 1e9:.1f} GB/s"),
        ("rates, measured", ", ".join(f"{name} {rate / 1e9:.0f} Gop/s" for name, rate in machine["rates"].items())),
    ]
    return Table("System", "", ("", ""), rows)


def _totals(report: Mapping[str, Any]) -> Table:
    totals = report["totals"]
    device = totals["device_peak"]
    rows = [
        ("tokens", f"{totals['tokens']} in {totals['forward_passes']} forward passes"),
        ("time to first token", f"{words.ms(totals['time_to_first_token_s'])} ms"),
        ("time a token, decode", f"{words.ms(totals['time_per_token_s'])} ms"),
        ("without waiting for a core", f"{words.ms(totals['time_per_token_without_wait_s'])} ms"),
        ("tokens/s", f"{totals['tokens_per_s']:.2f} with prefill, {totals['decode_tokens_per_s']:.2f} in decode"),
        ("peak RSS", f"{words.mb(totals['peak_rss'])} MB, the kernel's high-water mark of the {totals['peak_rss_of']}"),
        ("peak on the device", "no device" if device is None else f"{words.mb(device)} MB allocated"),
        (
            "linear layers",
            f"{words.ms(totals['linear_s'])} ms, of which first calls {words.ms(totals['linear_cold_s'])} ms",
        ),
        ("linear layers, warm", f"{words.ms(totals['linear_warm_per_token_s'])} ms a token"),
    ]
    return Table("Totals", "", ("", ""), rows)


def _stages(report: Mapping[str, Any]) -> Table:
    rows = [
        (
            stage["name"],
            words.ms(stage["time_s"]),
            words.ms(stage["waited_s"]),
            words.ms(stage["normalised_s"]),
            words.percent(stage["share"]),
            words.mb(stage["rss_change"]),
        )
        for stage in report["stages"]
    ]
    prefill = next(stage for stage in report["stages"] if stage["name"] == "prefill")
    first_s = prefill["time_s"] - prefill["waited_s"]
    again_s = report["prefill_again_s"] - report["prefill_again_waited_s"]
    return Table(
        "Stages",
        f"Without waiting for a core that others had, the prompt's pass took {words.ms(first_s)} ms, and "
        f"{words.ms(again_s)} ms when it was repeated: the difference is what first calls cost. The normalised column "
        "is time x frequency / 3000 MHz, wrong for what waits for memory.",
        ("stage", "ms", "waited ms", "normalised ms", "share", "RSS change MB"),
        rows,
    )


def _token_times(report: Mapping[str, Any]) -> Table:
    times = report["token_times"]
    names = ("min_s", "max_s", "mean_s", "std_s", "median_s")
    return Table(
        "Time of a token, decode",
        "The first token comes out of the prompt's pass and is not among them.",
        tuple(name.removesuffix("_s") + " ms" for name in names),
        [tuple(words.ms(times[name]) for name in names)],
    )


def _tokens(report: Mapping[str, Any]) -> Table:
    rows = [
        (
            str(token["index"]),
            str(token["id"]),
            repr(token["text"]),
            words.ms(token["time_s"]),
            words.ms(token["waited_s"]),
            words.ms(token["normalised_s"]),
            words.mb(token["rss"]),
        )
        for token in report["tokens"]
    ]
    text = f"Generated: {report['text']!r}"
    return Table("Tokens", text, ("index", "id", "text", "ms", "waited ms", "normalised ms", "RSS MB"), rows, long=True)


def _timeline(report: Mapping[str, Any]) -> Table:
    names = ("rss", "virtual", "system_used", "system_total")
    samples = report["timeline"]
    step = -(-len(samples) // SAMPLES)
    rows = [(f"{sample['time_s']:.2f}", *(words.mb(sample[name]) for name in names)) for sample in samples[::step]]
    return Table(
        "Memory over time",
        f"{len(samples)} samples by a thread, of which every {step}. is shown; peaks between samples show in the "
        "kernel's high-water mark.",
        ("s", "RSS MB", "virtual MB", "system used MB", "system total MB"),
        rows,
        long=True,
    )
