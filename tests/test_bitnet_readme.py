"""Do the tests, metrics and fields that the README of the BitNet cases names exist?"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pytest

from perf_workloads.bitnet import figures
from perf_workloads.bitnet.document import document, schema
from perfgate.report.published import load

ROOT = Path(__file__).resolve().parents[1]
CASES = ROOT / "perf_tests" / "bitnet"
TEXT = (CASES / "README.md").read_text(encoding="utf-8")
#: What the gate measures of every timed call, what cases record beside reports, and what only a GPU has.
MEASURED = {"wall_time", "device_time", "memory", "weight_memory", "device_peak", "ratio"}


class Names:
    """A benchmark fixture that keeps names alone."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def record(self, name: str, value: float, **_: Any) -> None:
        assert name not in self.names
        self.names.add(name)

    def report(self, name: str, value: float, **_: Any) -> None:
        assert name not in self.names
        self.names.add(name)

    def note(self, name: str, text: str) -> None:
        """Notes are not in the README."""


@pytest.fixture(scope="module")
def recorded() -> set[str]:
    """Give the names of all figures that a report of two layers records."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from perf_workloads.bitnet import BitnetSetup
    from perf_workloads.bitnet.experiment import run
    from perf_workloads.bitnet.roofline import Machine

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        machine = Machine(1e9, {"fp32": 1e9, "bf16": 1e9, "int8": 1e9})
        patch.setattr("perf_workloads.bitnet.roofline.measure", lambda device: machine)
        report = document(run(BitnetSetup("tiny"), new_tokens=3))
    torch.set_num_threads(before)
    # Not every kernel tells frequencies, and the README names what follows from them.
    report["system"].update(base_mhz=2500.0, current_mhz=2500.0)
    for row in (*report["stages"], *report["tokens"], *report["layers"], *report["groups"]):
        row["normalised_s"] = 1.0
    names = Names()
    figures.record_exact(names, report)
    figures.report_times(names, report)
    return names.names


def test_tests_exist():
    named = re.findall(r"`((?:tests/)?\w+\.py)::(\w+)`", TEXT)
    assert len(named) >= 20
    for file, test in named:
        path = ROOT / file if file.startswith("tests/") else CASES / file
        assert re.search(rf"^def {test}\(", path.read_text(encoding="utf-8"), re.MULTILINE), f"{file}::{test}"


def rows(heading: str) -> list[list[str]]:
    """Give the rows of the table below a heading, without its head."""
    lines = TEXT.split(f"## {heading}")[1].split("\n## ")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return cells[2:]


def test_metrics_exist(recorded):
    named = {name for row in rows("Published tables") for name in re.findall(r"`(\w+)`", row[2])}
    assert len(named) >= 50
    assert named - recorded - MEASURED == set()


def test_fields_of_the_document_exist():
    named = {name for row in rows("Published tables") for name in re.findall(r"`([\w.]+)`", row[3])}
    assert len(named) >= 30
    for name in named:
        at = schema()
        for step in name.split("."):
            at = at.get("items", at)["properties"][step]


def test_gated_names_exist(recorded):
    assert {"forward_passes", "linear_calls"} <= recorded


@pytest.mark.parametrize(
    ("file", "figure", "columns"),
    [
        (
            "linear_layers",
            "layer_0_self_attn_q_proj",
            {
                "calls": "calls",
                "total_ms": "total",
                "share_pct": "share",
                "input_shape": "inputs",
                "output_shape": "outputs",
                "parameters_m": "parameters",
            },
        ),
        (
            "module_groups",
            "mlp_down_proj",
            {"layers": "layers", "total_ms": "total", "share_pct": "share", "parameters_m": "parameters"},
        ),
        (
            "stages",
            "prefill",
            {"time_ms": "time", "normalized_ms": "normalised", "share_pct": "share", "rss_delta_mb": "rss_change"},
        ),
        ("tokens", "token_1", {"token_id": "id", "time_ms": "time", "normalized_ms": "normalised", "rss_mb": "rss"}),
        (
            "memory_timeline",
            "prefill",
            {"time_s": "end", "rss_mb": "rss", "virtual_mb": "virtual", "system_used_mb": "system_used"},
        ),
    ],
)
def test_each_published_column_is_a_figure_of_the_run(recorded, file, figure, columns):
    with (CASES / "reference" / f"bitnet_2b4t_ryzen9700x_{file}.csv").open(encoding="utf-8") as table:
        published = set(next(csv.reader(table)))
    # What names a row, and what is the same in all of them.
    assert published - columns.keys() <= {"layer", "module", "stage", "index", "system_total_mb"}
    assert {f"{figure}_{name}" for name in columns.values()} - recorded == set()


def test_every_metric_beside_a_published_figure_is_recorded(recorded):
    found, _ = load(ROOT, ["perf_tests/bitnet"])
    named = {each.metric for each in found if each.metric and each.case.startswith("test_report.py")}
    assert len(named) > 1266  # 6 columns of 211 layers
    # The report here has fewer layers and tokens.
    named = {re.sub(r"^(layer|token)_\d+_", r"\1_1_", name) for name in named}
    assert named - recorded == set()


def test_every_published_file_is_there():
    files = {path.name for path in (CASES / "reference").glob("*.csv")}
    parts = ("linear_layers", "memory_timeline", "module_groups", "stages", "tokens")
    assert files == {"bitnet_w2a8_a100.csv", *(f"bitnet_2b4t_ryzen9700x_{part}.csv" for part in parts)}
