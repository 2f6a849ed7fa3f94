"""Does every figure of every reference file stand in ``published.csv``, under a case and a metric that exist?

What a figure of a reference file is compared with is said here once more, by row and column, so that neither a column
nor a row can be added, mistyped or left out unnoticed. A place without a metric is one that has to give its reason.
"""

from __future__ import annotations

import ast
import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import pytest

from perfgate.report import published_csv, recorded
from perfgate.report.published import FILE, Published, load

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "perf_tests"
#: A case, its metric or "", and the unit of the published figure.
Place = tuple[str, str, str]
Row = Mapping[str, str]
#: Columns that name a row.
KEYS = {
    "llm_generate": {"method", "input_tokens", "new_tokens", "run"},
    "linear_attention": {"attention", "epoch", "sequence_length", "copy_length", "kv_pairs", "nominal_size"},
    "hbv": {"implementation", "basins", "timesteps"},
    "bitnet": {"stage", "module", "layer", "index", "outputs", "inputs"},
}
#: How many rows of the H200's table baselines give.
FROM_BASELINES = {"bitnet": 4, "hbv": 216, "linear_attention": 36, "llm_generate": 151}
METHODS = {
    "fp16": ("fp16-torch", "fp16-triton"),
    "int8-torchao": ("int8-weight-only-rebuild", "int8-weight-only-triton"),
    "gptq": ("int4-gptq-rebuild", "int4-gptq-triton"),
    "gptq-new": ("int4-gptq-rebuild", "int4-gptq-triton"),
}
#: The stage at whose end each row of the published timeline was taken.
TIMELINE_STAGES = (
    "", "tokenizer_load", "tokenizer_load", "model_load", "model_load", "tokenize", "tokenize", "prefill", "decode",
    "detokenize",
)  # fmt: skip


def llm_generate(file: str, number: int, row: Row) -> dict[str, list[Place]]:
    """Each run as published; medians are below."""
    eager = f"test_generation.py::test_qwen3_4b[{METHODS[row['method']][0]}-dynamic-eager-{point(row)}]"
    return {
        "latency_s": [(eager, f"latency_{row['run']}", "s")],
        "tokens_per_s": [(eager, f"tokens_per_s_{row['run']}", "tokens/s")],
        "peak_memory_gb": [(eager, "peak_memory", "GiB")],
    }


def point(row: Row) -> str:
    """Name the prompt and what is generated as cases do."""
    return f"b1-{row['input_tokens']}-{row['new_tokens']}"


def linear_attention(file: str, number: int, row: Row) -> dict[str, list[Place]]:
    """The published gated delta net has cases of its own for steps: with its widths."""
    kind, name = file.removeprefix("linear_attention_rtx3090_"), row["attention"]
    as_published = name == "gated_deltanet"
    if kind == "pretrain":
        case = f"test_pretraining.py::test_*pretraining[gpu-{name}]"
        names = {"train_loss": "train_loss", "val_loss": "validation_loss", "val_perplexity": "perplexity"}
        units = {"val_perplexity": ""}
        return {column: [(case, f"{ours}_{row['epoch']}", units.get(column, "nats"))] for column, ours in names.items()}
    if kind == "train_step":
        test = "test_published_delta_net" if as_published else "test_training_efficiency"
        case = f"test_training_step.py::{test}[gpu-{name}-{row['sequence_length']}]"
        return {
            "step_ms": [(case, "step_time", "ms")],
            "step_ms_std": [(case, "step_time_deviation", "ms")],
            "tokens_per_s": [(case, "tokens_per_s", "tokens/s")],
            "peak_memory_mb": [(case, "peak_memory", "MiB")],
        }
    if kind == "scaling":
        test = "test_published_delta_net_scaling" if as_published else "test_model_scaling"
        case = f"test_training_step.py::{test}[gpu-{name}-{row['nominal_size']}]"
        return {
            "parameters_m": [(case, "parameters", "M")],
            "step_ms": [(case, "step_time", "ms")],
            "peak_memory_mb": [(case, "peak_memory", "MiB")],
        }
    if kind == "memory":
        case = f"test_memory.py::test_memory_scaling[gpu-{name}-{row['sequence_length']}]"
        return {
            "forward_mb": [(case, "forward_memory", "MiB")],
            "backward_mb": [(case, "backward_memory", "MiB")],
        }
    if kind == "profiler":
        case = f"test_profiler.py::test_profiler[gpu-{name}-{row['sequence_length']}]"
        metrics = {
            "self_cpu_ms_10_steps": ("self_cpu_time", "ms"),
            "self_device_ms_10_steps": ("self_device_time", "ms"),
            "peak_memory_mb": ("peak_memory", "MiB"),
        }
        return {
            column: [(case, *(("outcome", "") if row[column] == "oom" else ours))] for column, ours in metrics.items()
        }
    test, column = {"copy_task": ("copy", "copy_length"), "associative_recall": ("recall", "kv_pairs")}[kind]
    return {"accuracy_pct": [(f"test_tasks.py::test_{test}[gpu-{name}-{row[column]}]", "accuracy", "%")]}


def hbv(file: str, number: int, row: Row) -> dict[str, list[Place]]:
    """The published "triton" stands beside one launch, its memory being that of a whole step."""
    size = f"hard-{row['basins']}-{row['timesteps']}]"
    if row["implementation"] == "triton":
        forward, backward = (f"test_fused.py::test_fused_{way}[fused-{size}" for way in ("forward", "backward"))
        return {
            "forward_ms": [(forward, "device_time", "ms")],
            "backward_ms": [(backward, "device_time", "ms")],
            "peak_memory_mib": [(backward, "step_memory", "MiB")],
        }
    name = {"eager": "eager", "jit": "torchscript"}[row["implementation"]]
    # Loops of the same size on a CPU, too.
    case = f"test_loops.py::test_*loop[{name}-{size}"
    return {
        "forward_ms": [(case, "forward_time", "ms")],
        "backward_ms": [(case, "backward_time", "ms")],
        "peak_memory_mib": [(case.replace("*", ""), "step_memory", "MiB")],
    }


def bitnet(file: str, number: int, row: Row) -> dict[str, list[Place]]:
    """What grows with the number of tokens stands beside the forms that make as many: online quantisation does not."""
    kind = file.removeprefix("bitnet_2b4t_ryzen9700x_")
    if kind == "stages":
        name, decode = row["stage"], row["stage"] == "decode"
        return {
            "time_ms": report(f"{name}_time", "ms", total=decode),
            "normalized_ms": report(f"{name}_normalised", "ms", total=decode),
            "share_pct": report(f"{name}_share", "%", total=True),
            "rss_delta_mb": report(f"{name}_rss_change", "MiB", total=decode),
        }
    if kind == "module_groups":
        name = row["module"].replace(".", "_")
        return {
            "layers": report(f"{name}_layers", ""),
            "total_ms": report(f"{name}_total", "ms", total=True),
            "share_pct": report(f"{name}_share", "%"),
            "parameters_m": report(f"{name}_parameters", "M"),
        }
    if kind == "linear_layers":
        name = "layer_" + row["layer"].removeprefix("model.layers.").replace(".", "_")
        columns = {
            "calls": ("calls", ""),
            "total_ms": ("total", "ms"),
            "share_pct": ("share", "%"),
            "input_shape": ("inputs", "last"),
            "output_shape": ("outputs", "last"),
            "parameters_m": ("parameters", "M"),
        }
        return {
            column: [("test_report.py::test_2b4t_report[int8]", f"{name}_{ours}", unit)]
            for column, (ours, unit) in columns.items()
        }
    if kind == "tokens":
        name = f"token_{row['index']}"
        return {
            "token_id": report(f"{name}_id", ""),
            "time_ms": report(f"{name}_time", "ms"),
            "normalized_ms": report(f"{name}_normalised", "ms"),
            "rss_mb": report(f"{name}_rss", "MiB"),
        }
    if kind == "memory_timeline":
        # Each stage ends where the next begins.
        stage = TIMELINE_STAGES[number]
        return {
            "time_s": report(f"{stage}_end" if stage else "", "s", total=stage in ("decode", "detokenize")),
            "rss_mb": report(f"{stage or 'start'}_rss", "MiB"),
            "virtual_mb": report(f"{stage or 'start'}_virtual", "MiB"),
            "system_used_mb": report(f"{stage or 'start'}_system_used", "MiB"),
            "system_total_mb": report("system_memory", "MiB"),
        }
    assert file == "bitnet_w2a8_a100"
    layer = {("2560", "2560"): "query", ("2560", "6912"): "down"}.get((row["outputs"], row["inputs"]))
    metric = "device_time" if layer else ""
    return {
        column: [(f"test_ternary_matmul.py::{test}[{f'{layer}-1' if layer else '*'}]", metric, "us")]
        for column, test in (("w2a8_us", "test_ternary_matmul"), ("bf16_us", "test_bf16_linear"))
    }


def report(metric: str, unit: str, *, total: bool = False) -> list[Place]:
    """Place a figure of the whole report beside all forms of the weights, or those that make as many tokens."""
    forms = ("fp32", "bf16", "int8", "packed") if total else ("*",)
    return [(f"test_report.py::test_2b4t_report[{form}]", metric, unit) for form in forms]


SYSTEMS: dict[str, Callable[[str, int, Row], dict[str, list[Place]]]] = {
    "llm_generate": llm_generate,
    "linear_attention": linear_attention,
    "hbv": hbv,
    "bitnet": bitnet,
}


def reference(system: str) -> dict[str, list[Row]]:
    """Read the reference files of a system."""
    found = {}
    for path in sorted((FOLDER / system / "reference").glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            found[path.stem] = list(csv.DictReader(file))
    return found


def written(cell: str, unit: str) -> tuple[str, str]:
    """Give value and unit as they are in ``published.csv``: millions with an exponent, the last extent of a shape."""
    if unit == "M":
        return f"{cell}e6", ""
    return (cell.rpartition(", ")[2], "") if unit == "last" else (cell, unit)


def medians() -> Counter[tuple[str, ...]]:
    """Place the medians of the published runs: beside the same, and beside static caches and graphs where cases are."""
    runs: dict[tuple[str, str], list[Row]] = {}
    for row in reference("llm_generate")["llm_generate_qwen3_4b_rocm"]:
        runs.setdefault((row["method"], point(row)), []).append(row)
    found: Counter[tuple[str, ...]] = Counter()
    for (method, where), rows in runs.items():
        eager, graphs = METHODS[method]
        cases = [f"{eager}-dynamic-eager-{where}"]
        if method != "fp16" or where == "b1-26-100":
            cases.append(f"{graphs}-static-graph-{where}")
        for column, metric, unit in (
            ("latency_s", "wall_time", "s"),
            ("tokens_per_s", "tokens_per_s", "tokens/s"),
            ("peak_memory_gb", "peak_memory", "GiB"),
        ):
            middle = median(float(row[column]) for row in rows)
            text = next(row[column] for row in rows if float(row[column]) == middle)
            found.update((f"test_generation.py::test_qwen3_4b[{case}]", metric, text, unit) for case in cases)
    return found


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_figure_has_its_place(system: str) -> None:
    expected = medians() if system == "llm_generate" else Counter()
    for file, rows in reference(system).items():
        for number, row in enumerate(rows):
            places = SYSTEMS[system](file, number, row)
            assert set(row) - KEYS[system] == set(places), f"{file}: a column has neither a metric nor a reason"
            # A row that says only how it ended says so once.
            expected.update(
                {
                    (case, metric, *written(row[column], unit))
                    for column, found in places.items()
                    for case, metric, unit in found
                }
            )
    with (FOLDER / system / FILE).open(encoding="utf-8", newline="") as table:
        listed = Counter(
            (row["case"], row["metric"], row["value"], row["unit"])
            for row in csv.DictReader(table)
            if row["source"].startswith("reference/")
        )
    assert expected - listed == Counter()
    assert listed - expected == Counter()


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_table_of_results_leaves_none_out(system: str) -> None:
    """The published report of BitNet is a CPU's: the table of a GPU has what was published of one."""
    found, _ = load(ROOT, [f"perf_tests/{system}"])
    wanted = [each for each in found if not each.case.startswith("test_report.py")]
    with (FOLDER / system / "results" / "nvidia_h200.csv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    assert [row for row in rows if not row["ours"] and not row["why not"]] == []
    listed = [(each["case"].removeprefix(f"perf_tests/{system}/"), each["metric"]) for each in rows]
    assert len(listed) == len(wanted)
    for each, (case, metric) in zip(wanted, listed, strict=True):
        assert metric == each.metric
        assert case == each.case or each.is_of(f"perf_tests/{system}/{case}")


def test_the_table_of_a_cpu_has_the_published_report_of_bitnet() -> None:
    """One row for each figure and each form of the weights that it stands for."""
    found, _ = load(ROOT, ["perf_tests/bitnet"])
    wanted = {(each.case, each.metric) for each in found if each.case.startswith("test_report.py")}
    with (FOLDER / "bitnet" / "results" / "cpu_intel_xeon_2t.csv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    assert [row for row in rows if not row["ours"] and not row["why not"]] == []
    of_all_forms = "test_report.py::test_2b4t_report[*]"
    listed = {(row["case"].removeprefix("perf_tests/bitnet/"), row["metric"]) for row in rows}
    missing = {
        (case, metric)
        for case, metric in wanted - listed
        if case != of_all_forms or metric not in {metric for each, metric in listed if "2b4t_report[" in each}
    }
    assert missing == set()
    assert sum(bool(row["ours"]) for row in rows) > 0.9 * len(rows)


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_table_of_results_has_what_baselines_say(system: str) -> None:
    """A figure changed by hand, or left behind when its baseline was recorded again. Rows of runs are not held so."""
    found, _ = load(ROOT, [f"perf_tests/{system}"])
    stored, damages = recorded.results(ROOT / "baselines" / "nvidia-h200")
    assert damages == []
    names = ("case", "metric", "published", "ours")
    of_baselines = Counter(
        tuple(row[name] for name in names)
        for row in csv.DictReader(io.StringIO(published_csv.table([], found, stored)))
        if row["ours"]
    )
    with (FOLDER / system / "results" / "nvidia_h200.csv").open(encoding="utf-8", newline="") as table:
        listed = Counter(tuple(row[name] for name in names) for row in csv.DictReader(table))
    assert of_baselines - listed == Counter()
    # So that a baseline that goes, or comes, is looked at.
    assert of_baselines.total() == FROM_BASELINES[system]


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_metric_is_one_of_its_case(system: str) -> None:
    """Reports of BitNet have names of their own making, which ``test_bitnet_readme.py`` looks at."""
    found, _ = load(ROOT, [f"perf_tests/{system}"])
    mapped = [each for each in found if each.metric and not each.case.startswith("test_report.py")]
    assert mapped
    assert {(each.case, each.metric) for each in mapped if not gives(system, each)} == set()


def gives(system: str, published: Published) -> bool:
    """Tell whether the module of the case, or what measures for it, has such a name."""
    if published.metric == "outcome":
        return True
    module = FOLDER / system / published.case.partition("::")[0]
    text = module.read_text(encoding="utf-8")
    if published.metric in ("wall_time", "device_time"):
        return f'clock="{published.metric.removesuffix("_time")}"' in text
    if module.name == "test_memory.py":
        text += (ROOT / "src" / "perf_workloads" / "attention" / "memory.py").read_text(encoding="utf-8")
    return any(re.fullmatch(name, published.metric) for name in names(text))


def names(text: str) -> set[str]:
    """Give patterns of the strings of a module that may name a metric."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.JoinedStr):
            parts = (re.escape(each.value) if isinstance(each, ast.Constant) else r"\d+" for each in node.values)
            found.add("".join(parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(re.escape(node.value))
    return found
