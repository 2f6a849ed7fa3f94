"""Do stored results of serving become the baselines of their cases, and only those that measured the same thing?"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from perf_workloads.slidesparse import command
from perf_workloads.slidesparse.serving import baselines, campaign, comparison, origin, results
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
FACTS = {"engine": "vllm 1", "torch": "2.11.0+cu130", "graph_mode": "FULL", "epilogue": "bf16"}


def passed(key: Key = KEY, rate: float = 100.0, when: str = "2026-12-01T10:00:00+00:00", **changes: Any) -> Record:
    figures = {
        "passes": campaign.CASES.passes_of(key.point) if key.stage == "prefill" else campaign.CASES.new_tokens,
        "prompt_tokens_per_s": rate,
        "output_tokens_per_s": rate / 2,
        "elapsed_s": 1.0,
        "weight_bytes": 8.0,
    }
    record = Record(key, when, Outcome.PASSED, "", figures, FACTS, SOFTWARE, "0123456789ab")
    return dataclasses.replace(record, **changes)


def failed(key: Key = KEY) -> Record:
    return Record(key, "2026-12-02T10:00:00+00:00", Outcome.OUT_OF_MEMORY, "CUDA out of memory")


def make(*records: Record, **stored: Baseline) -> baselines.Found:
    return baselines.make(records, stored)


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


def test_what_stands_is_the_one_sample() -> None:
    assert values(make(passed(rate=100.0), failed(), passed(rate=101.0), failed())) == (101.0,)


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
        (
            passed(environment={}),
            "its driver, CUDA, torch, triton and Python are not stored, so that another one could not make the "
            "baseline STALE: serve --again stores them",
        ),
    ],
)
def test_what_cannot_be_a_baseline_is_left_out(record: Record, reason: str) -> None:
    found = make(record)
    assert (found.baselines, found.left) == ({}, {reason: [baselines.case(record.key)]})


def test_every_point_of_a_case_has_the_passes_that_the_case_runs() -> None:
    """As ``serve --most-tokens`` is told to, so that rates are of equally long runs."""
    hint = make(passed(figures={})).left
    (reason,) = hint
    options = command._parser().parse_args(["serve", "--results", "x", *reason.split("--again ")[1].split()])
    assert campaign.Settings(**command._given(options)) == campaign.CASES


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


def differing(stored: Mapping[str, Baseline], made: Mapping[str, Baseline]) -> set[str]:
    """Name the cases whose baseline is not the one of the stored results, nor newer, as one that pytest recorded is."""
    return {
        name
        for name, baseline in made.items()
        if name not in stored or (stored[name] != baseline and not baselines._newer(stored[name].date, baseline.date))
    }


@pytest.fixture(scope="module")
def remade(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Baseline]:
    """Give the baselines of the stored results, made in an empty folder."""
    folder = tmp_path_factory.mktemp("remade")
    shutil.copy(STORED, folder / "serving.jsonl")
    assert run(folder) == 0
    return BaselineStore(folder / "baselines").load(DEVICE, baselines.MODULE).cases


def test_stored_baselines_are_those_of_the_stored_results(
    remade: Mapping[str, Baseline], collected: Callable[..., frozenset[str]]
) -> None:
    stored = BaselineStore(ROOT / "baselines").load(DEVICE, baselines.MODULE)
    assert stored.damages == ()
    assert differing(stored.cases, remade) == set()
    names = {case.split("::")[1] for case in collected("perf_tests/slidesparse/test_serving.py")}
    assert stored.cases.keys() <= names
    # What has no result that can be a baseline was recorded by pytest, after the last one that cannot.
    ran = {baselines.case(key): record for key, record in results.standing(results.read(STORED)).items() if record.ok}
    assert all(
        baselines._newer(stored.cases[name].date, ran[name].when)
        for name in (stored.cases.keys() - remade.keys()) & ran.keys()
    )


def test_a_changed_baseline_is_told_and_one_recorded_later_is_not(remade: Mapping[str, Baseline]) -> None:
    name, baseline = next(iter(remade.items()))
    (metric,) = baseline.metrics
    changed = dataclasses.replace(baseline, metrics=(dataclasses.replace(metric, values=(metric.values[0] * 1.001,)),))
    assert differing(remade, remade) == set()
    assert differing({**remade, name: changed}, remade) == {name}
    assert differing({**remade, name: dataclasses.replace(baseline, environment=SOFTWARE)}, remade) == {name}
    assert differing({each: remade[each] for each in remade if each != name}, remade) == {name}
    assert differing({**remade, name: dataclasses.replace(changed, date="2999-01-01T00:00:00Z")}, remade) == set()


def test_software_of_the_stored_results() -> None:
    """Was written afterwards for those of the first two days, which do not know their commit: it fits their torch."""
    first = [record for record in results.read(STORED) if record.when < "2026-11-22T08"]
    (software,) = {tuple(record.environment.items()) for record in first}
    assert dict(software) == {
        "driver": "580.159.04",
        "cuda": "13.0",
        "torch": "2.11.0",
        "triton": "3.6.0",
        "python": "3.12.3",
    }
    assert {(record.commit, record.fact("torch")) for record in first} == {("", "2.11.0+cu130")}


def verdicts(point: Any, factor: float, runs: int) -> list[Verdict]:
    """Judge rates that are ``factor`` times those of a baseline of one process, with all processes drawn."""
    noise, limit = (parse_limit(text, "tokens/s") for text in comparison.SPREAD[point])
    drawn = random.Random(1)

    def verdict() -> Verdict:
        before, *now = (rate * math.exp(drawn.gauss(0, noise.relative)) for rate in (100, *[100 * factor] * 12))
        return settle(
            StoredMetric("rate", "tokens/s", "higher", (before,)),
            [Metric("rate", "tokens/s", rate, "higher", limit, Noise(noise.relative)) for rate in now],
            last=True,
        ).verdict

    return [verdict() for _ in range(runs)]


#: By point, how much slower, and how often that is told; the README has these shares.
TOLD_SHARES = (
    (("Qwen2.5-7B", "prefill"), 0.15, 0.93),
    (("Qwen2.5-7B", "prefill"), 0.18, 0.99),
    (("Qwen2.5-7B", "decode"), 0.18, 0.91),
    (("Qwen2.5-7B", "decode"), 0.20, 0.97),
    (("Llama3.2-1B", "prefill"), 0.18, 0.91),
    (("Llama3.2-1B", "prefill"), 0.20, 0.97),
    (("Llama3.2-1B", "decode"), 0.40, 0.95),
    (("Llama3.2-1B", "decode"), 0.45, 0.99),
)


@pytest.mark.parametrize(("point", "slower", "share"), TOLD_SHARES)
def test_how_often_a_slow_down_is_told(point: Any, slower: float, share: float) -> None:
    assert verdicts(point, 1 - slower, 2000).count(Verdict.REGRESSED) / 2000 == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize("point", dict.fromkeys(point for point, _, _ in TOLD_SHARES))
def test_no_slow_down_is_told_where_there_is_none(point: Any) -> None:
    assert Verdict.REGRESSED not in verdicts(point, 1, 1000)


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
    new = tmp_path / "new.py"
    new.write_text("")
    assert origin.commit_of(code, store) == f"{commit}+changes"
    new.unlink()
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
#: By case, how many times its stored rate the engine has; None where the engine dies.
FACTORS = {
    Key(DEVICE, "Qwen2.5-7B", scheme, stage, tokens): factor
    for scheme, factors in {
        "int8-2_4-bf16": (None, 1.0),
        "fp8-dense": (1.0, 1.0),
        "int8-2_8-bf16": (0.75, 0.75),
        "int8-dense": (1.4, 1.4),
    }.items()
    for (stage, tokens), factor in zip((("prefill", 65536), ("decode", 128)), factors, strict=True)
}
VERDICTS = {None: "outcome_changed", 1.0: "unchanged", 0.75: "regressed", 1.4: "improved"}


def compare(folder: Path) -> dict[Key, dict[str, Any]]:
    """Run the cases on a pretended H200; give what became of each."""
    stored = {key: passed(key) for key in FACTORS}
    for record in stored.values():
        results.append(folder / "serving.jsonl", record)
    assert run(folder) == 0
    figures = {
        f"{key.model}-{key.scheme}-{key.stage}-{key.tokens}": {
            **stored[key].figures,
            **{
                f"{kind}_tokens_per_s": factor * stored[key].figures[f"{kind}_tokens_per_s"]
                for kind in ("prompt", "output")
            },
            "pinned": None,
        }
        if factor is not None
        else None
        for key, factor in FACTORS.items()
    }
    told = folder / "figures.json"
    told.write_text(json.dumps([figures, FACTS]))
    (folder / "engine.py").write_text(ENGINE.replace("__FIGURES__", repr(str(told))))
    script = PRETENDED.replace("__SOFTWARE__", repr(SOFTWARE))
    (folder / "pretended.py").write_text(script.replace("__ENGINE__", repr(str(folder / "engine.py"))))
    paths = [str(folder), *(path for path in sys.path if path)]
    options = ["-p", "pretended", "-p", "no:cacheprovider", "--slow-budget=600", "-m", "slow", "--perf-processes=4"]
    written = folder / "run.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "--benchmark-compare", *options, f"--perf-json={written}"),
            f"--perf-baselines={folder / 'baselines'}",
            *(f"{baselines.MODULE}.py::{baselines.case(key)}" for key in FACTORS),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert written.exists(), done.stdout + done.stderr
    found = {case["id"].split("::")[1]: case for case in json.loads(written.read_text())["cases"]}
    return {key: found.pop(baselines.case(key)) for key in FACTORS}


def test_cases_are_compared_with_stored_results(tmp_path: Path) -> None:
    """How an engine ended is the outcome of its case; the points after it are run in another engine."""
    pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[suite]'")
    found = compare(tmp_path)
    assert {key: case["verdict"] for key, case in found.items()} == {
        key: VERDICTS[factor] for key, factor in FACTORS.items()
    }
    for key, case in found.items():
        if FACTORS[key] is None:
            assert case["outcome"] == "illegal_access"
            assert "CUDA error: an illegal memory access was encountered" in case["reason"]
            continue
        (metric,) = case["metrics"]
        limit = float(comparison.SPREAD[key.model, key.stage][1].rstrip("%")) / 100
        assert metric["name"] == f"{comparison.judged(key.stage)}_rate"
        assert metric["limit"] == pytest.approx(limit, rel=0.1)
