"""Is no result of serving ever lost, and is a speed-up what it says?"""

from __future__ import annotations

import dataclasses
import multiprocessing
from pathlib import Path

import pytest

from perf_workloads.slidesparse import command, schemes
from perf_workloads.slidesparse.serving import comparison, models, results
from perf_workloads.slidesparse.serving.results import Key, Record
from perfgate.errors import RunFileError
from perfgate.model import Outcome

KEY = Key("h200", "Qwen2.5-7B", "int8-2_8", "prefill", 8192)
DECODE = KEY._replace(stage="decode", tokens=64)


def passed(key: Key = KEY, rate: float = 100.0, when: str = "2026-01-01") -> Record:
    figures = {"prompt_tokens_per_s": rate, "output_tokens_per_s": rate / 2, "elapsed_s": 1.0}
    return Record(key, when, Outcome.PASSED, "", figures, {"engine": "vllm 1"})


def failed(key: Key = KEY, outcome: Outcome = Outcome.OUT_OF_MEMORY, when: str = "2026-01-02") -> Record:
    return Record(key, when, outcome, "CUDA out of memory")


def test_a_failure_never_replaces_a_success(tmp_path: Path) -> None:
    path = tmp_path / "serving.jsonl"
    for record in (failed(), passed(), failed(), failed(DECODE), failed(DECODE, Outcome.CRASHED)):
        results.append(path, record)
    stands = results.standing(results.read(path))
    assert stands == {KEY: passed(), DECODE: failed(DECODE, Outcome.CRASHED)}


def test_a_rerun_of_one_m_loses_no_other(tmp_path: Path) -> None:
    path = tmp_path / "serving.jsonl"
    keys = [KEY._replace(tokens=tokens) for tokens in (512, 1024, 65536)]
    for key in keys:
        results.append(path, passed(key))
    results.append(path, passed(keys[2], rate=300.0))
    stands = results.standing(results.read(path))
    assert [stands[key].figures["prompt_tokens_per_s"] for key in keys] == [100.0, 100.0, 300.0]


def test_no_results(tmp_path: Path) -> None:
    assert results.read(tmp_path / "nowhere.jsonl") == []


@pytest.mark.parametrize("kept", [1, 9, 10, 30, 80])
def test_a_line_that_was_being_written_is_absent(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "serving.jsonl"
    results.append(path, passed())
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:kept])
    assert results.read(path) == [passed()]
    results.append(path, passed(DECODE))
    assert results.read(path) == [passed(), passed(DECODE)]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("garbage", "it is no JSON"),
        ('{"version": 2}', "ValueError: version 2 instead of 1"),
        ('{"version": 1}', "KeyError: 'device'"),
    ],
)
def test_a_damaged_line_is_not_passed_over(tmp_path: Path, line: str, why: str) -> None:
    path = tmp_path / "serving.jsonl"
    results.append(path, passed())
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(RunFileError) as caught:
        results.read(path)
    assert str(caught.value) == (
        f"{path}:2: not a serving result: {why}\nhint: take the file from where it was recorded, or remove the line"
    )


def _append_many(path: Path, model: str) -> None:
    for tokens in range(50):
        results.append(path, passed(KEY._replace(model=model, tokens=tokens)))


def test_processes_append_at_once(tmp_path: Path) -> None:
    path = tmp_path / "serving.jsonl"
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_append_many, args=(path, name)) for name in "abc"]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert len(results.standing(results.read(path))) == 150


def test_merging_keeps_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two, both = (tmp_path / name for name in ("one", "two", "both"))
    results.append(one, passed(when="2026-01-03"))
    results.append(one, passed(DECODE, when="2026-01-01"))
    results.append(two, failed(when="2026-01-04"))
    results.append(two, passed(DECODE, when="2026-01-01"))
    for _ in range(2):
        assert command.main(["merge", str(one), str(two), "--results", str(both)]) == 0
        assert capsys.readouterr().out == f"{both}: 3 runs\n"
    assert [record.when for record in results.read(both)] == ["2026-01-01", "2026-01-03", "2026-01-04"]
    assert results.standing(results.read(both))[KEY].ok


def test_speedups_are_over_the_dense_scheme_of_the_same_codes() -> None:
    pairs = {name: comparison.dense_of(name) for name in models.SERVED}
    assert pairs["bf16"] is None
    assert pairs["int8-dense"] == pairs["fp8-dense"] == pairs["vllm-int8"] == "bf16"
    assert pairs["int8-2_8"] == pairs["int8-2_8-bf16"] == "int8-dense"
    assert pairs["fp8-2_8"] == "fp8-dense"


def test_a_speedup_needs_both_rates() -> None:
    dense = KEY._replace(scheme="int8-dense")
    assert comparison.speedup({KEY: passed(), dense: passed(dense, 80.0)}, KEY) == 1.25
    assert comparison.speedup({KEY: passed(), dense: failed(dense)}, KEY) is None
    assert comparison.speedup({KEY: failed(), dense: passed(dense)}, KEY) is None
    assert comparison.speedup({KEY: passed()}, KEY) is None
    assert comparison.speedup({}, KEY) is None


def test_an_outlier_is_no_result() -> None:
    """The published run printed 11.74 x."""
    assert comparison.implausible("int8-2_4", 11.74)
    assert comparison.implausible("int8-2_4", 2.21)
    assert not comparison.implausible("int8-2_4", 2.19)
    assert not comparison.implausible("int8-dense", 11.74)
    assert not comparison.implausible("vllm-int8", 11.74)
    sparse = [name for name in models.SERVED if "-2_" in name]
    assert len(sparse) == 12
    assert all(comparison.implausible(name, 5) for name in sparse)


def test_what_products_wrote_is_known_of_old_results() -> None:
    """Lines from before there was a choice do not say: sparse INT8 products wrote int32 then."""
    old = {
        name: passed(KEY._replace(scheme=name)).fact("epilogue")
        for name in models.SERVED
        if name not in schemes.TO_BF16
    }
    assert {name for name, epilogue in old.items() if epilogue} == {"int8-2_4", "int8-2_6", "int8-2_8", "int8-2_10"}
    assert {*old.values()} == {"int32", ""}
    assert failed().fact("epilogue") == ""
    new = dataclasses.replace(passed(KEY._replace(scheme="int8-2_8-bf16")), facts={"epilogue": "bf16"})
    assert (new.fact("epilogue"), new.fact("engine")) == ("bf16", "")


def test_lines_of_today_are_read(tmp_path: Path) -> None:
    """As they were written before results said what products wrote."""
    path = tmp_path / "serving.jsonl"
    path.write_text(
        '{"version": 1, "device": "h200", "model": "Qwen2.5-7B", "scheme": "int8-2_8", "stage": "prefill", '
        '"tokens": 8192, "when": "2026-01-01", "outcome": "passed", "cause": "", "figures": {"prompt_tokens_per_s": '
        '100.0, "output_tokens_per_s": 50.0, "elapsed_s": 1.0}, "facts": {"engine": "vllm 1"}}\n'
    )
    assert results.read(path) == [passed()]
    assert [each.fact("epilogue") for each in results.read(path)] == ["int32"]


def test_forms_of_a_scheme_do_not_replace_each_other(tmp_path: Path) -> None:
    path = tmp_path / "serving.jsonl"
    other = KEY._replace(scheme="int8-2_8-bf16")
    for record in (passed(), passed(other, 120.0)):
        results.append(path, record)
    assert results.standing(results.read(path)) == {KEY: passed(), other: passed(other, 120.0)}
