"""Does the report of serving show what was stored, what was not run, and what failed? From records to rendered text."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import pytest

from perf_workloads.slidesparse import command
from perf_workloads.slidesparse.serving import comparison, models, report, results, workloads
from perf_workloads.slidesparse.serving.results import Key, Record
from perf_workloads.slidesparse.serving.workloads import Point
from perfgate.model import Outcome

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "perf_tests" / "slidesparse" / "reference" / "slidesparse_a100_status.csv"
MODEL = "Qwen2.5-7B"
SCHEMES = ("bf16", "int8-dense", "int8-2_4")
TOKENS = {"prefill": (8192, 65536), "decode": (64,)}


def record(scheme: str, stage: str, tokens: int, rate: float) -> Record:
    key = Key("h200", MODEL, scheme, "prefill" if stage == "prefill" else "decode", tokens)
    other = "output" if stage == "prefill" else "prompt"
    judged = "prompt" if stage == "prefill" else "output"
    figures = {f"{judged}_tokens_per_s": rate, f"{other}_tokens_per_s": 7.0, "elapsed_s": 2.5, "passes": 128}
    facts = {"engine": "vllm 0.20.2", "backend": "FLASH_ATTN", "graph_mode": "FULL"}
    return Record(key, "2026-01-01T08:00:30+00:00", Outcome.PASSED, "", figures, facts)


RECORDS = [
    record("bf16", "prefill", 8192, 40000.0),
    record("int8-dense", "prefill", 8192, 50000.0),
    record("int8-2_4", "prefill", 8192, 80000.4),
    record("int8-dense", "decode", 64, 1000.0),
    record("int8-2_4", "decode", 64, 11740.0),
    Record(
        Key("h200", MODEL, "int8-dense", "prefill", 65536),
        "2026-01-02T23:59:59+00:00",
        Outcome.OUT_OF_MEMORY,
        "CUDA out of memory",
    ),
    Record(Key("a100", MODEL, "bf16", "decode", 64), "2026-01-03", Outcome.CRASHED, "another device"),
]
REPORT = """\
# Serving with SlideSparse on h200

- engine: vllm 0.20.2
- backend: FLASH_ATTN
- graph_mode: FULL
- epilogue: int32
- passes of a prefill: 128 to 128, published were 128; M was read from each

## Totals

| stage | points | ok | failed | absent | A100, published |
|---|---|---|---|---|---|
| prefill | 6 | 3 | 1 | 2 | 155 of 160 ok |
| decode | 3 | 2 | 0 | 1 | 80 of 80 ok |

## When points were run, UTC

| model | scheme | points | first | last |
|---|---|---|---|---|
| Qwen2.5-7B | bf16 | 1 | 2026-01-01 08:00 | 2026-01-01 08:00 |
| Qwen2.5-7B | int8-dense | 3 | 2026-01-01 08:00 | 2026-01-02 23:59 |
| Qwen2.5-7B | int8-2_4 | 2 | 2026-01-01 08:00 | 2026-01-01 08:00 |

## How runs ended

The A100's published runs stand behind a slash where they did not end alike.

### prefill

| model | scheme | M=8192 | M=65536 |
|---|---|---|---|
| Qwen2.5-7B | bf16 | ok | – |
| Qwen2.5-7B | int8-dense | ok | out of memory / illegal-memory-access |
| Qwen2.5-7B | int8-2_4 | ok | – / illegal-memory-access |

### decode

| model | scheme | M=64 |
|---|---|---|
| Qwen2.5-7B | bf16 | – |
| Qwen2.5-7B | int8-dense | ok |
| Qwen2.5-7B | int8-2_4 | ok |

## Prompt tokens/s of prefill

| model | scheme | M=8192 | M=65536 |
|---|---|---|---|
| Qwen2.5-7B | bf16 | 40,000 | – |
| Qwen2.5-7B | int8-dense | 50,000 | – |
| Qwen2.5-7B | int8-2_4 | 80,000 | – |

## Output tokens/s of decode

| model | scheme | M=64 |
|---|---|---|
| Qwen2.5-7B | bf16 | – |
| Qwen2.5-7B | int8-dense | 1,000 |
| Qwen2.5-7B | int8-2_4 | 11,740 |

## Speed-up

Sparse schemes over dense weights of the same codes; dense ones over bf16.

### prefill

| model | scheme | M=8192 | M=65536 |
|---|---|---|---|
| Qwen2.5-7B | bf16 | – | – |
| Qwen2.5-7B | int8-dense | 1.25 | – |
| Qwen2.5-7B | int8-2_4 | 1.60 | – |

### decode

| model | scheme | M=64 |
|---|---|---|
| Qwen2.5-7B | bf16 | – |
| Qwen2.5-7B | int8-dense | – |
| Qwen2.5-7B | int8-2_4 | 11.74 **implausible** |

## Beside the published rates

Prompt tokens/s of Qwen2.5-7B, prefill M=8192, and the speed-up over dense INT8.

| scheme | A100 80 GB PCIe, published | speed-up | h200 | speed-up |
|---|---|---|---|---|
| int8-dense | 20,805 | 1.00 | 50,000 | 1.00 |
| int8-2_4 | 35,858 | 1.72 | 80,000 | 1.60 |
| int8-2_6 | 29,081 | 1.40 | – | – |
| int8-2_8 | 27,435 | 1.32 | – | – |
| int8-2_10 | 26,175 | 1.26 | – | – |

## Failures

- Qwen2.5-7B int8-dense prefill M=65536: out of memory: CUDA out of memory

Run them again: `perfgate-slidesparse serve --results FILE --failed`
"""


def table() -> report.Table:
    return report.Table("h200", [MODEL], SCHEMES, RECORDS, TOKENS)


def test_markdown() -> None:
    published = comparison.published_status(REFERENCE)
    assert report.markdown(table(), published, "perfgate-slidesparse serve --results FILE --failed") == REPORT


def test_both_forms_of_a_scheme_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside each other, with what their products wrote, where a device has results of the other one."""
    names = ["bf16", "int8-2_4", "int8-2_8"]
    assert report.in_every_form(names, "h200", RECORDS) == names
    other = dataclasses.replace(
        record("int8-2_4-bf16", "prefill", 8192, 90000.0), facts={"epilogue": "bf16", "product": "cuSPARSELt"}
    )
    records = [*RECORDS, other]
    assert report.in_every_form(names, "a100", records) == names
    shown = report.in_every_form(names, "h200", records)
    assert shown == ["bf16", "int8-2_4", "int8-2_4-bf16", "int8-2_8"]
    assert report.in_every_form(["int8-2_4-bf16"], "h200", records) == ["int8-2_4-bf16", "int8-2_4"]
    own = [*records, record("vllm-int8", "prefill", 8192, 70000.0)]
    assert report.in_every_form(["int8-dense", "bf16"], "h200", own) == ["int8-dense", "vllm-int8", "bf16"]

    store = tmp_path / "serving.jsonl"
    for each in records:
        results.append(store, each)
    arguments = ["report", "--results", str(store), "--device", "h200", "--models", MODEL, "--prefill", "8192"]
    assert command.main([*arguments, "--published", str(REFERENCE), "--decode"]) == 0
    text = capsys.readouterr().out
    assert "- epilogue: bf16 | int32\n" in text
    assert (
        "\nProducts of sparse INT8 weights write int32, which `dequantize_bias` scales back; those of `-bf16` apply "
        "the weights' scales, and write bf16 (`epilogue`).\n"
    ) in text
    for row in (
        f"| {MODEL} | int8-2_4 | 80,000 |",
        f"| {MODEL} | int8-2_4-bf16 | 90,000 |",
        "| int8-2_4 | 35,858 | 1.72 | 80,000 | 1.60 |",
        "| int8-2_4-bf16 | 35,858 | 1.72 | 90,000 | 1.80 |",
    ):
        assert f"\n{row}\n" in text
    rows = csv.DictReader(report.to_csv(report.Table("h200", [MODEL], shown, records, TOKENS), {}).splitlines())
    written = {row["scheme"]: row["epilogue"] for row in rows if row["tokens"] == "8192"}
    assert (written["int8-2_4"], written["int8-2_4-bf16"], written["bf16"]) == ("int32", "bf16", "")


def test_sparse_fp8_that_was_run_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By default too, though the published run had none; in the order of their sparsity, and once."""
    ran = [*RECORDS, *(record(name, "prefill", 8192, 70000.0) for name in ("fp8-2_8", "fp8-dense", "fp8-2_4"))]
    assert report.in_every_form(["fp8-dense", "bf16"], "h200", ran) == ["fp8-dense", "fp8-2_4", "fp8-2_8", "bf16"]
    assert report.in_every_form(["fp8-2_8", "fp8-dense"], "h200", ran) == ["fp8-2_8", "fp8-dense", "fp8-2_4"]
    assert report.in_every_form(["fp8-dense", "bf16"], "a100", ran) == ["fp8-dense", "bf16"]
    store = tmp_path / "serving.jsonl"
    for each in ran:
        results.append(store, each)
    assert command.main(["report", "--results", str(store), "--device", "h200", "--prefill", "8192", "--decode"]) == 0
    assert f"| {MODEL} | fp8-2_8 | 70,000 |\n" in capsys.readouterr().out


def test_csv() -> None:
    rows = list(csv.DictReader(report.to_csv(table(), comparison.published_status(REFERENCE)).splitlines()))
    assert len(rows) == 9
    by = {(row["scheme"], row["stage"], row["tokens"]): row for row in rows}
    sparse = by["int8-2_4", "prefill", "8192"]
    assert sparse == {
        **dict.fromkeys(sparse, ""),
        "device": "h200",
        "model": MODEL,
        "scheme": "int8-2_4",
        "stage": "prefill",
        "tokens": "8192",
        "status": "ok",
        "published_a100": "ok",
        "speedup": "1.6000",
        "prompt_tokens_per_s": "80000.4",
        "output_tokens_per_s": "7",
        "elapsed_s": "2.5",
        "passes": "128",
        "engine": "vllm 0.20.2",
        "backend": "FLASH_ATTN",
        "graph_mode": "FULL",
        "epilogue": "int32",
        "when": "2026-01-01T08:00:30+00:00",
    }
    assert by["int8-dense", "prefill", "65536"]["cause"] == "CUDA out of memory"
    assert by["int8-dense", "prefill", "65536"]["published_a100"] == "illegal-memory-access"
    absent = by["bf16", "decode", "64"]
    assert (absent["status"], absent["prompt_tokens_per_s"], absent["when"]) == ("absent", "", "")


def test_csv_has_algorithms_and_the_commit() -> None:
    """The report has neither: there are as many algorithms as layers."""
    more = {"facts": {"sparse_matmul": "alg_id=1 (tuned)"}, "commit": "0a1b2c3"}
    known = dataclasses.replace(record("int8-2_4", "prefill", 8192, 90000.0), **more)
    shown = report.Table("h200", [MODEL], SCHEMES, [known], TOKENS)
    rows = [row for row in csv.DictReader(report.to_csv(shown, {}).splitlines()) if row["status"] == "ok"]
    assert [(row["sparse_matmul"], row["commit"]) for row in rows] == [("alg_id=1 (tuned)", "0a1b2c3")]
    assert "alg_id" not in report.markdown(shown, {}, "again")


def test_no_failures() -> None:
    text = report.markdown(report.Table("h200", [MODEL], SCHEMES, RECORDS[:5], TOKENS), {}, "again")
    assert text.endswith("## Failures\n\nNone.\n")
    assert "\n| decode | 3 | 2 | 0 | 1 | – |\n" in text


def test_the_published_run_is_read_whole() -> None:
    published = comparison.published_status(REFERENCE)
    assert len(published) == 240
    bad = {(model, point) for (model, _, point), status in published.items() if status != "ok"}
    assert bad == {(MODEL, Point("prefill", 65536))}
    assert {point for _, _, point in published} == set(workloads.POINTS)
    assert {model for model, _, _ in published} == set(models.PUBLISHED)


def test_command_writes_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, out = tmp_path / "serving.jsonl", tmp_path / "out"
    for each in RECORDS:
        results.append(store, each)
    grid = ["--models", MODEL, "--schemes", *SCHEMES, "--prefill", "8192", "65536", "--decode", "64"]
    arguments = ["report", "--results", str(store), "--device", "h200", "--published", str(REFERENCE), *grid]
    assert command.main([*arguments, "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out / 'serving.md'}\n{out / 'serving.csv'}\n"
    rerun = f"perfgate-slidesparse serve --results {store} --failed"
    assert (out / "serving.md").read_text() == REPORT.replace(
        "perfgate-slidesparse serve --results FILE --failed", rerun
    )
    assert (out / "serving.csv").read_text() == report.to_csv(table(), comparison.published_status(REFERENCE))
    assert command.main(arguments) == 0
    assert capsys.readouterr().out == (out / "serving.md").read_text() + "\n"


def test_the_stored_report_is_of_the_stored_results(tmp_path: Path) -> None:
    """Written by the line of the README."""
    stored = ROOT / "perf_tests" / "slidesparse" / "results"
    arguments = ["--results", str(stored / "serving.jsonl"), "--published", str(REFERENCE), "--device", "nvidia-h200"]
    assert command.main(["report", *arguments, "--out", str(tmp_path)]) == 0
    for name in ("serving.md", "serving.csv"):
        assert (tmp_path / name).read_bytes() == (stored / name).read_bytes(), name


def test_a_damaged_file_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "serving.jsonl"
    store.write_text("no\n")
    assert command.main(["report", "--results", str(store), "--device", "h200"]) == 1
    assert capsys.readouterr().err == (
        f"perfgate-slidesparse: {store}:1: not a serving result: it is no JSON\n"
        "hint: take the file from where it was recorded, or remove the line\n"
    )
