"""Do stored results of serving become the baselines of their cases, and only those that measured the same thing?"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from perf_workloads.slidesparse import command
from perf_workloads.slidesparse.serving import baselines, campaign, comparison, origin, repeats, results
from perf_workloads.slidesparse.serving.results import Key, Record
from perfgate.baseline import BaselineStore
from perfgate.model import Baseline, Metric, Noise, Outcome, StoredMetric, Verdict
from perfgate.units import parse_limit
from perfgate.verdict.decide import settle

ROOT = Path(__file__).resolve().parents[1]
STORED = ROOT / "perf_tests" / "slidesparse" / "results" / "serving.jsonl"
DEVICE = "nvidia-h200"
KEY = Key(DEVICE, "Qwen2.5-7B", "int8-2_8-bf16", "prefill", 8192)
DECODE = KEY._replace(stage="decode", tokens=64)
SOFTWARE = {"driver": "1", "cuda": "13.0", "torch": "2.11.0", "triton": "3", "python": "3.12.3"}
OTHER = {**SOFTWARE, "driver": "2"}
FACTS = {"engine": "vllm 1", "torch": "2.11.0+cu130", "graph_mode": "FULL", "epilogue": "bf16"}
PASSES = {"prefill": 32, "decode": 256}


def passed(key: Key = KEY, rate: float = 100.0, when: str = "2026-12-01T10:00:00+00:00", **changes: Any) -> Record:
    figures = {
        "passes": PASSES[key.stage],
        "prompt_tokens_per_s": rate,
        "output_tokens_per_s": rate / 2,
        "elapsed_s": 1.0,
        "weight_bytes": 8.0,
    }
    record = Record(key, when, Outcome.PASSED, "", figures, FACTS, SOFTWARE, "0123456789ab")
    return dataclasses.replace(record, **changes)


def failed(key: Key = KEY) -> Record:
    return Record(key, "2026-12-02T10:00:00+00:00", Outcome.OUT_OF_MEMORY, "CUDA out of memory")


def make(*records: Record, known: Sequence[Mapping[str, str]] = (), **stored: Baseline) -> baselines.Found:
    return baselines.make(records, known, stored)


def values(found: baselines.Found, key: Key = KEY) -> tuple[float, ...]:
    (metric,) = found.baselines[baselines.case(key)].metrics
    return metric.values


def test_a_result_is_what_its_case_would_measure() -> None:
    found = make(passed(), passed(DECODE))
    assert found.left == {}
    assert found.baselines == {
        baselines.case(key): Baseline(
            baselines.case(key),
            Outcome.PASSED,
            (StoredMetric(name, "tokens/s", "higher", (rate,)),),
            {},
            SOFTWARE,
            "0123456789ab",
            "2026-12-01T10:00:00+00:00",
            notes=FACTS,
        )
        for key, name, rate in ((KEY, "prompt_rate", 100.0), (DECODE, "output_rate", 50.0))
    }


def test_repeats_are_samples_up_to_the_last_change() -> None:
    def samples(*changes: dict[str, Any]) -> tuple[float, ...]:
        return values(make(*(passed(rate=100.0 + at, **change) for at, change in enumerate(changes))))

    assert samples({}, {}, {}) == (100.0, 101.0, 102.0)
    dirty = {"commit": "0123456789ab+changes"}
    for change in (
        {"commit": "ba9876543210"},
        {"commit": ""},
        {"environment": OTHER},
        {"facts": {**FACTS, "sparse_matmul": "alg_id=8"}},
        {"figures": {**passed().figures, "passes": 128}},
    ):
        assert samples({}, change, {}, {}) == (102.0, 103.0), change
    assert samples(dirty, dirty) == (101.0,), "two trees with changes need not have the same ones"


def test_a_failure_is_no_sample_and_takes_none_away() -> None:
    assert values(make(passed(rate=100.0), failed(), passed(rate=101.0), failed())) == (100.0, 101.0)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (failed(), "out of memory: CUDA out of memory"),
        (passed(KEY._replace(model="tiny-llama")), "there is no such case"),
        (passed(KEY._replace(scheme="fp8-2_8")), "there is no such case"),
        (passed(KEY._replace(tokens=8193)), "there is no such case"),
        (
            passed(figures={**passed().figures, "passes": 128}),
            "128 passes, where the case has 32: serve --again --most-tokens 262144",
        ),
        (
            passed(DECODE, figures={**passed().figures, "passes": 8}),
            "8 passes, where the case has 256: serve --again --new-tokens 256",
        ),
        (passed(facts={**FACTS, "options": "{}"}), "run with other options than the case: {}"),
        (
            passed(facts={**FACTS, "graph_mode": "NONE"}),
            "run without graphs, which the case has: serve --again without --eager",
        ),
    ],
)
def test_what_was_not_run_as_its_case_is_no_baseline(record: Record, reason: str) -> None:
    found = make(record)
    assert (found.baselines, found.left) == ({}, {reason: [baselines.case(record.key)]})


def test_every_point_of_a_case_has_the_passes_that_the_case_runs() -> None:
    """As ``serve --most-tokens`` is told to, so that rates are of equally long runs."""
    hint = make(passed(figures={})).left
    (reason,) = hint
    options = command._parser().parse_args(["serve", "--results", "x", *reason.split("--again ")[1].split()])
    settings = campaign.Settings(most_tokens=options.most_tokens, passes=options.passes, new_tokens=options.new_tokens)
    assert settings == campaign.CASES


def test_software_of_old_results_is_that_of_other_baselines() -> None:
    old = passed(environment={}, commit="")
    other_torch = {**OTHER, "torch": "2.12.0"}
    found = make(old, passed(DECODE), known=[other_torch, SOFTWARE])
    assert found.baselines[baselines.case(KEY)].environment == SOFTWARE
    assert found.assumed == 1
    for known in ([], [other_torch], [{**SOFTWARE, "cuda": "12.8"}], [SOFTWARE, OTHER]):
        (reason,) = make(old, known=known).left
        assert reason == (
            "results do not say which driver and triton they ran with, and other baselines of nvidia-h200 with torch "
            f"2.11.0+cu130 do not agree on it ({f'{len(known)} kinds of software' if known else 'none'}): "
            "serve --again stores it"
        )
    assert make(passed(environment=OTHER), known=[SOFTWARE]).baselines[baselines.case(KEY)].environment == OTHER


@pytest.mark.parametrize(("date", "kept"), [("2026-12-01T10:00:01Z", True), ("2026-12-01T10:00:00+00:00", False)])
def test_a_newer_baseline_stays(date: str, kept: bool) -> None:
    made = make(passed()).baselines
    newer = {name: dataclasses.replace(baseline, date=date) for name, baseline in made.items()}
    found = make(passed(), **newer)
    assert bool(found.baselines) is not kept
    assert found.left == ({"their baselines are newer": [baselines.case(KEY)]} if kept else {})


def run(folder: Path, *more: str) -> int:
    arguments = ["--results", str(folder / "serving.jsonl"), "--baselines", str(folder / "baselines"), *more]
    return command.main(["baseline", "--device", DEVICE, *arguments])


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for record in (passed(), failed(DECODE), failed(DECODE._replace(tokens=128))):
        results.append(tmp_path / "serving.jsonl", record)
    path = tmp_path / "baselines" / DEVICE / "perf_tests" / "slidesparse" / "test_serving.json"
    for _ in range(2):
        assert run(tmp_path) == 0
        told = capsys.readouterr()
        assert told.out == f"{path}: 1 baseline\n"
        assert told.err == (
            "left out: test_serving[Qwen2.5-7B-int8-2_8-bf16-decode-64] and 1 more: out of memory: CUDA out of memory\n"
        )
        stored = BaselineStore(tmp_path / "baselines").load(DEVICE, baselines.MODULE)
        assert (stored.path, stored.damages) == (path, ())
        assert stored.cases == make(passed()).baselines


def directory(path: Path) -> None:
    path.mkdir()


def test_what_cannot_be_read_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "serving.jsonl"
    again = f"perfgate-slidesparse serve --results {store}"
    nothing = f"{store}: no results, so there is nothing to make baselines of\nhint: {again}\n"
    other = passed(KEY._replace(device="nvidia-a100"))
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: None, nothing),
        (lambda: store.write_text(""), nothing),
        (
            lambda: results.append(store, other),
            f"{store}: no results of nvidia-h200; it has those of nvidia-a100\nhint: give --device, or {again}\n",
        ),
        (
            lambda: store.write_text("no\n"),
            f"{store}:1: not a serving result: it is no JSON\n"
            "hint: take the file from where it was recorded, or remove the line\n",
        ),
        (
            lambda: store.write_bytes(b"\xff\n"),
            f"{store}: cannot be read: it is no UTF-8 text\nhint: give a file that serve wrote\n",
        ),
        (
            lambda: (store.unlink(), store.mkdir()),
            f"{store}: cannot be read: Is a directory\nhint: give a file that serve wrote\n",
        ),
    ]
    for prepare, said in cases:
        prepare()
        assert run(tmp_path) == 1
        assert capsys.readouterr().err == f"perfgate-slidesparse: {said}"
        assert not (tmp_path / "baselines").exists()


def test_nothing_to_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results.append(tmp_path / "serving.jsonl", failed())
    assert run(tmp_path) == 1
    assert capsys.readouterr().err == (
        "left out: test_serving[Qwen2.5-7B-int8-2_8-bf16-prefill-8192]: out of memory: CUDA out of memory\n"
        f"{tmp_path / 'serving.jsonl'}: no result of nvidia-h200 can be a baseline\n"
    )
    assert not (tmp_path / "baselines").exists()


def test_damaged_baselines_are_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results.append(tmp_path / "serving.jsonl", passed())
    path = BaselineStore(tmp_path / "baselines").path(DEVICE, baselines.MODULE)
    path.parent.mkdir(parents=True)
    path.write_text("{")
    assert run(tmp_path) == 1
    assert "1 new result is not stored: writing the file would lose what is in it." in capsys.readouterr().err
    assert path.read_text() == "{"


def test_stored_baselines_are_those_of_the_stored_results(
    tmp_path: Path, collected: Callable[..., frozenset[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """They would be written again, byte by byte, and every one belongs to a case."""
    stored = BaselineStore(ROOT / "baselines").path(DEVICE, baselines.MODULE)
    shutil.copytree(ROOT / "baselines" / DEVICE, tmp_path / "baselines" / DEVICE)
    again = BaselineStore(tmp_path / "baselines").path(DEVICE, baselines.MODULE)
    again.unlink()
    shutil.copy(STORED, tmp_path / "serving.jsonl")
    assert run(tmp_path) == 0
    assert again.read_bytes() == stored.read_bytes()
    assert capsys.readouterr().err == (
        "264 results without driver and triton: taken from the other baselines of nvidia-h200 with the same torch, "
        "which agree\n"
    )
    names = {case.split("::")[1] for case in collected("perf_tests/slidesparse/test_serving.py")}
    succeeded = {record.key for record in results.read(STORED) if record.ok}
    assert {*json.loads(stored.read_text())["cases"]} == {baselines.case(key) for key in succeeded} & names
    assert len(succeeded) > 0


@pytest.mark.parametrize(
    ("point", "slower"),
    [
        (("Qwen2.5-7B", "prefill"), 0.15),
        (("Qwen2.5-7B", "decode"), 0.18),
        (("Llama3.2-1B", "prefill"), 0.18),
        (("Llama3.2-1B", "decode"), 0.4),
    ],
)
def test_a_baseline_of_one_process_can_show_a_slow_down(point: Any, slower: float) -> None:
    """With processes that scatter as is declared, evenly spread; and it does not call the same rate slower."""
    noise, limit = (parse_limit(text, "tokens/s") for text in comparison.SPREAD[point])
    steps = [(2 * at - 11) / 11 * 3**0.5 * noise.relative for at in range(12)]
    stored = StoredMetric("prompt_rate", "tokens/s", "higher", (100.0,))

    def verdict(rate: float) -> Verdict:
        now = [
            Metric("prompt_rate", "tokens/s", rate * (1 + step), "higher", limit, Noise(noise.relative))
            for step in steps
        ]
        return settle(stored, now, last=True).verdict

    assert verdict(100.0 * (1 - slower)) is Verdict.REGRESSED
    assert verdict(100.0) is Verdict.UNCHANGED


def test_what_is_known_of_changes_in_results_without_a_commit() -> None:
    """They say nothing of one device for another, nor of later results."""
    old: dict[str, Any] = {"environment": {}, "commit": ""}
    key = KEY._replace(tokens=65536)
    before = passed(key, when="2026-11-22T00:34:02+00:00", **old)
    after = passed(key, when="2026-11-22T03:56:20+00:00", **old)
    assert repeats.repeats(before, after)
    searched = [dataclasses.replace(each, key=KEY) for each in (before, after)]
    assert not repeats.repeats(*searched)
    assert not repeats.repeats(before, dataclasses.replace(after, when="2026-11-22T07:00:00+00:00"))
    assert not repeats.repeats(
        *(dataclasses.replace(each, key=key._replace(device="b200")) for each in (before, after))
    )


def git(folder: Path, *arguments: str) -> str:
    named = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    return subprocess.run(["git", *named, *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout


def test_the_commit_of_the_code(tmp_path: Path) -> None:
    """Results that are appended are no change of it."""
    code, store = tmp_path / "code.py", tmp_path / "serving.jsonl"
    code.write_text("")
    store.write_text("")
    assert origin.commit_of(code, store) == ""
    git(tmp_path, "init", "-q")
    assert origin.commit_of(code, store) == ""
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "x")
    commit = git(tmp_path, "rev-parse", "--short=12", "HEAD").strip()
    store.write_text("more\n")
    assert origin.commit_of(code, store) == commit
    code.write_text("more\n")
    assert origin.commit_of(code, store) == f"{commit}+changes"


#: Takes this machine for an H200, and what plays an engine for vLLM's.
PRETENDED = """
import importlib.util, os, sys
from perfgate import hardware
from perfgate.model import Device, Hardware
from perf_workloads.slidesparse.serving.process import EngineProcess

find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: name == "vllm" or find_spec(name, *more)
devices = (Device("cuda", "NVIDIA H200", "nvidia-h200", 141 << 30, (9, 0)), Device("cpu", "CPU", "cpu-pretended-2t"))
hardware.detect = lambda: Hardware(devices, {"cuda": __SOFTWARE__, "cpu": {}})
EngineProcess.__init__.__defaults__ = ((sys.executable, __ENGINE__),)
"""
ENGINE = """
import json, os, sys
figures, facts = json.load(open(__FIGURES__))
for line in sys.stdin:
    request = json.loads(line)
    result = None
    if request["call"] == "load": model = os.path.basename(request["folder"])
    if request["call"] == "run":
        result = figures[f"{model}-{request['stage']}-{request['tokens']}"]
        if result is None: print("CUDA error: an illegal memory access was encountered", file=sys.stderr); os.abort()
        asked = request["passes"] if request["stage"] == "prefill" else request["new_tokens"]
        assert asked == result["passes"], "the stored run had other passes"
    if request["call"] == "facts": result = facts
    print(json.dumps({"result": result}), flush=True)
"""
CASES = tuple(
    Key(DEVICE, "Qwen2.5-7B", scheme, stage, tokens)
    for scheme in ("int8-2_4-bf16", "fp8-dense")
    for stage, tokens in (("prefill", 65536), ("decode", 128))
)


def compare(folder: Path, factor: float, dies_at: Key | None = None) -> dict[str, dict[str, Any]]:
    """Run cases on a pretended H200 whose engine has ``factor`` times the stored rates; give what became of each."""
    stored = {key: record for key, record in results.standing(results.read(STORED)).items() if key in CASES}
    figures = {
        f"{key.model}-{key.scheme}-{key.stage}-{key.tokens}": {
            **record.figures,
            **{
                f"{kind}_tokens_per_s": factor * record.figures[f"{kind}_tokens_per_s"] for kind in ("prompt", "output")
            },
            "pinned": None,
        }
        if key != dies_at
        else None
        for key, record in stored.items()
    }
    baseline = BaselineStore(ROOT / "baselines").load(DEVICE, baselines.MODULE).cases[baselines.case(CASES[0])]
    told = folder / "figures.json"
    told.write_text(json.dumps([figures, dict(baseline.notes)]))
    (folder / "engine.py").write_text(ENGINE.replace("__FIGURES__", repr(str(told))))
    script = PRETENDED.replace("__SOFTWARE__", repr(dict(baseline.environment)))
    (folder / "pretended.py").write_text(script.replace("__ENGINE__", repr(str(folder / "engine.py"))))
    paths = [str(folder), *(path for path in sys.path if path)]
    options = ["-p", "pretended", "-p", "no:cacheprovider", "--slow-budget=600", "-m", "slow", "--perf-processes=4"]
    written = folder / "run.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "--benchmark-compare", *options, f"--perf-json={written}"),
            *(f"{baselines.MODULE}.py::{baselines.case(key)}" for key in CASES),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert written.exists(), done.stdout + done.stderr
    return {case["id"].split("::")[1]: case for case in json.loads(written.read_text())["cases"]}


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "unchanged"), (0.75, "regressed"), (1.4, "improved")])
def test_cases_are_compared_with_stored_results(tmp_path: Path, factor: float, verdict: str) -> None:
    pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[suite]'")
    found = compare(tmp_path, factor)
    assert {name: case["verdict"] for name, case in found.items()} == {baselines.case(key): verdict for key in CASES}
    for key in CASES:
        (metric,) = found[baselines.case(key)]["metrics"]
        limit = float(comparison.SPREAD[key.model, key.stage][1].rstrip("%")) / 100
        assert metric["name"] == f"{comparison.judged(key.stage)}_rate"
        assert metric["limit"] == pytest.approx(limit, rel=0.1)


def test_how_an_engine_ended_is_the_outcome_of_its_case(tmp_path: Path) -> None:
    """With its cause; the points after it are run in another engine."""
    pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[suite]'")
    found = compare(tmp_path, 1.0, dies_at=CASES[0])
    dead = found.pop(baselines.case(CASES[0]))
    assert (dead["verdict"], dead["outcome"]) == ("outcome_changed", "illegal_access")
    assert "CUDA error: an illegal memory access was encountered" in dead["reason"]
    assert {case["verdict"] for case in found.values()} == {"unchanged"}
