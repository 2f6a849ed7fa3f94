"""Are engines started, ended and blamed rightly, and is only run what is missing? A process plays the engine."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from perf_workloads.slidesparse import command
from perf_workloads.slidesparse.serving import campaign, origin, results
from perf_workloads.slidesparse.serving.campaign import Bench, Job, Settings
from perf_workloads.slidesparse.serving.origin import Origin
from perf_workloads.slidesparse.serving.process import EngineFailed, EngineProcess
from perf_workloads.slidesparse.serving.results import Key, Record
from perf_workloads.slidesparse.serving.workloads import Point
from perfgate.model import Device, Hardware, Outcome

KEY = Key("h200", "Qwen2.5-7B", "int8-2_8", "prefill", 8192)
DECODE = KEY._replace(stage="decode", tokens=64)


def passed(key: Key = KEY, rate: float = 100.0, when: str = "2026-01-01") -> Record:
    figures = {"prompt_tokens_per_s": rate, "output_tokens_per_s": rate / 2, "elapsed_s": 1.0}
    return Record(key, when, Outcome.PASSED, "", figures, {"engine": "vllm 1"})


def failed(key: Key = KEY, outcome: Outcome = Outcome.OUT_OF_MEMORY, when: str = "2026-01-02") -> Record:
    return Record(key, when, outcome, "CUDA out of memory")


POINTS = (Point("prefill", 1024), Point("decode", 64), Point("prefill", 512))


def names(todo: Sequence[Job]) -> list[tuple[str, str, list[int]]]:
    return [(job.model, job.scheme, [point.tokens for point in job.points]) for job in todo]


def test_only_what_did_not_succeed_is_run() -> None:
    base = Key("h200", "m", "s", "prefill", 512)
    records = [passed(base), failed(base._replace(tokens=1024)), passed(base._replace(device="a100", tokens=1024))]
    pick = lambda **how: names(campaign.jobs("h200", ["m"], iter(["s", "t"]), POINTS, records, **how))  # noqa: E731
    assert pick() == [("m", "s", [64, 1024]), ("m", "t", [64, 512, 1024])]
    assert pick(again=True) == [("m", "s", [64, 512, 1024]), ("m", "t", [64, 512, 1024])]


def test_what_failed_is_run_again_as_it_was() -> None:
    """Of any model, scheme and M; settings that are given stand over those that are stored."""
    base = Key("h200", "m", "s", "prefill", 512)
    asked = Settings(most_tokens=2**18, eager=True, options=(("dtype", "half"), ("kv", {"a": [1]})))
    as_asked = [
        replace(failed(key), facts=asked.asked())
        for key in (base._replace(tokens=2048), base._replace(tokens=96), base._replace(scheme="t"))
    ]
    old = replace(failed(base._replace(scheme="u", tokens=7)), facts={"options": '{"seed": 1}'})
    others = [passed(base), failed(base), failed(base._replace(tokens=1024)), failed(base._replace(device="a100"))]
    records = [*others, *as_asked, old]
    given = Settings(run_timeout_s=5)
    found = campaign.failed_jobs("h200", records, given)
    assert names(found) == [("m", "s", [1024]), ("m", "s", [96, 2048]), ("m", "t", [512]), ("m", "u", [7])]
    assert [job.settings for job in found] == [
        given,
        *[replace(asked, run_timeout_s=5)] * 2,
        replace(given, options=(("seed", 1),)),
    ]
    assert [point.tokens for point in found[0].room] == [512, 1024, 2048, 96]
    of_t = lambda key: key.scheme == "t"  # noqa: E731
    (job,) = campaign.failed_jobs("h200", records, Settings(most_tokens=64), of_t, {"most_tokens"})
    assert job.settings == replace(asked, most_tokens=64)
    (job,) = campaign.failed_jobs("h200", records, Settings(), of_t, {"eager"})
    assert job.settings == replace(asked, eager=False), "a default that is given stands, too"


def test_passes_within_a_number_of_tokens() -> None:
    settings = Settings(most_tokens=2**19)
    assert [settings.passes_of(Point("prefill", tokens)) for tokens in (512, 4096, 8192, 65536)] == [128, 128, 64, 8]
    assert Settings(most_tokens=1).passes_of(Point("prefill", 512)) == 4
    assert Settings().passes_of(Point("prefill", 65536)) == 128


FAKE = """
import json, os, signal, sys, time
answers = os.fdopen(os.dup(1), "w")
print("started", file=sys.stderr, flush=True)
for line in sys.stdin:
    request = json.loads(line)
    call, tokens = request["call"], request.get("tokens")
    reply = {"result": None}
    if call == "run":
        if tokens == 1: time.sleep(60)
        if tokens == 2: os.kill(os.getpid(), signal.SIGKILL)
        if tokens == 3: print("CUDA error: an illegal memory access was encountered", file=sys.stderr); os.abort()
        if tokens == 4: print("something else", file=sys.stderr); os.abort()
        if tokens == 5: os.write(1, b'{"resu'); os._exit(3)
        if tokens == 6: reply = {"outcome": "failed", "cause": "ValueError: no"}
        elif tokens == 7: reply = {"outcome": "out_of_memory", "cause": "CUDA out\\n of memory. " + "x" * 400}
        else: reply = {"result": {"pinned": "not so" if tokens == 8 else None, "elapsed_s": 1.0,
               "prompt_tokens_per_s": 2.0, "output_tokens_per_s": 1.0}}
    if call == "load" and not os.path.isdir(request["folder"]): reply = {"outcome": "failed", "cause": "no model"}
    if call == "load" and "refuse" in request["folder"]: reply = {"outcome": "failed", "cause": "no such model"}
    if call == "facts": reply = {"result": {"engine": "fake"}}
    print(json.dumps(reply), file=answers, flush=True)
"""


@pytest.fixture
def start(tmp_path: Path) -> Callable[[Path], EngineProcess]:
    script = tmp_path / "fake.py"
    script.write_text(textwrap.dedent(FAKE))
    return lambda log: EngineProcess(log, (sys.executable, str(script)))


def outcome_of(start: Callable[[Path], EngineProcess], log: Path, tokens: int) -> tuple[Outcome, str, bool]:
    with start(log) as process:
        process.ask("load", 30, folder=str(log.parent))
        with pytest.raises(EngineFailed) as caught:
            process.ask("run", 1 if tokens == 1 else 30, tokens=tokens)
        if caught.value.alive:
            assert process.ask("facts", 30) == {"engine": "fake"}
    return caught.value.outcome, caught.value.cause, caught.value.alive


@pytest.mark.parametrize(
    ("tokens", "outcome", "cause", "alive"),
    [
        (1, Outcome.TIMED_OUT, "run took longer than 1 s", False),
        (2, Outcome.OUT_OF_MEMORY, "the process was killed (SIGKILL), as for memory", False),
        (3, Outcome.ILLEGAL_ACCESS, "CUDA error: an illegal memory access was encountered", False),
        (4, Outcome.CRASHED, "the process ended with signal SIGABRT: something else", False),
        (5, Outcome.CRASHED, "the process ended with status 3: started", False),
        (6, Outcome.FAILED, "ValueError: no", True),
        (7, Outcome.OUT_OF_MEMORY, "CUDA out of memory. " + "x" * 277 + "...", False),
    ],
)
def test_how_an_engine_ends_is_an_outcome(
    start: Callable[[Path], EngineProcess], tmp_path: Path, tokens: int, outcome: Outcome, cause: str, alive: bool
) -> None:
    assert outcome_of(start, tmp_path / "log", tokens) == (outcome, cause, alive)


def test_the_last_process_is_not_blamed_for_the_one_before(
    start: Callable[[Path], EngineProcess], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    assert outcome_of(start, log, 3)[0] is Outcome.ILLEGAL_ACCESS
    assert outcome_of(start, log, 4)[0] is Outcome.CRASHED


def run_all(
    start: Callable[[Path], EngineProcess], folder: Path, tokens: Sequence[int], model: str = "tiny-llama"
) -> tuple[bool, list[str], list[Record], str]:
    points = tuple(Point("decode", each) for each in tokens)
    said: list[str] = []
    store = folder / "results.jsonl"
    ok = campaign.run(
        [Job(model, "bf16", points, points)], "cpu", store, Settings(run_timeout_s=60), said.append, start, folder
    )
    return ok, said, results.read(store), (folder / f"{model}-bf16.log").read_text()


def test_one_engine_runs_all_points(start: Callable[[Path], EngineProcess], tmp_path: Path) -> None:
    ok, said, records, log = run_all(start, tmp_path, [10, 20, 30])
    assert ok
    assert log == "started\n"
    assert said == [
        "tiny-llama bf16: 3 points",
        *(f"  decode M={tokens}: 1 output tokens/s in 1.0 s" for tokens in (10, 20, 30)),
    ]
    assert [(record.key.tokens, record.outcome, record.facts) for record in records] == [
        (tokens, Outcome.PASSED, {"engine": "fake"}) for tokens in (10, 20, 30)
    ]


def test_logs_in_a_folder_that_is_named_from_here(
    start: Callable[[Path], EngineProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process runs there, where such a name is another folder's."""
    (tmp_path / "logs").mkdir()
    monkeypatch.chdir(tmp_path)
    ok, _, records, log = run_all(start, Path("logs"), [10])
    assert ok, records[0].cause
    assert log == "started\n"


def test_a_point_that_kills_its_engine_loses_no_other(start: Callable[[Path], EngineProcess], tmp_path: Path) -> None:
    ok, said, records, log = run_all(start, tmp_path, [10, 3, 6, 8, 20])
    assert not ok
    assert log.count("started") == 3
    assert [(record.key.tokens, record.outcome) for record in records] == [
        (10, Outcome.PASSED),
        (3, Outcome.ILLEGAL_ACCESS),
        (6, Outcome.FAILED),
        (8, Outcome.FAILED),
        (20, Outcome.PASSED),
    ]
    assert said[2] == "  decode M=3: illegal access: CUDA error: an illegal memory access was encountered"
    assert said[4] == "  decode M=8: failed: not so"


def test_an_engine_that_does_not_start_is_not_started_again(
    start: Callable[[Path], EngineProcess], tmp_path: Path
) -> None:
    folder = tmp_path / "refuse"
    folder.mkdir()
    ok, _, records, log = run_all(start, folder, [10, 20])
    assert not ok
    assert log.count("started") == 1
    assert [record.cause for record in records] == ["the engine did not start: no such model"] * 2


def test_a_bench_ends_its_process(start: Callable[[Path], EngineProcess], tmp_path: Path) -> None:
    bench = Bench(tmp_path, "cpu", "tiny-llama", "bf16", POINTS, Settings(), start)
    assert bench.run(Point("decode", 10)).ok
    bench.end()
    assert bench.run(Point("decode", 20)).ok
    bench.end()
    assert (tmp_path / "tiny-llama-bf16.log").read_text().count("started") == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--prefill", "1500"], "prefill M=1500: M must be at most 1024, or a multiple of it"),
        (["--decode", "0"], "decode M=0: M must be at least 1"),
        (["--new-tokens", "1"], "decode M=64: a sequence must decode at least 2 tokens"),
        (["--passes", "0"], "--passes=0: must be at least 1"),
        (["--timeout", "0"], "--timeout=0: must be more than 0"),
    ],
)
def test_what_cannot_be_run_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert command.main(["serve", "--results", str(tmp_path / "results.jsonl"), *arguments]) == 4
    assert capsys.readouterr().err == f"perfgate-slidesparse: {said}\nhint: perfgate-slidesparse serve --help\n"
    assert list(tmp_path.iterdir()) == []


def test_options_of_the_engine_are_stored(start: Callable[[Path], EngineProcess], tmp_path: Path) -> None:
    settings = Settings(options=(("gpu_memory_utilization", 0.8),))
    bench = Bench(tmp_path, "cpu", "tiny-llama", "bf16", POINTS, settings, start)
    assert bench.run(Point("decode", 10)).facts == {"engine": "fake", "options": '{"gpu_memory_utilization": 0.8}'}
    bench.end()


def test_failures_are_stored_with_what_was_asked_for(start: Callable[[Path], EngineProcess], tmp_path: Path) -> None:
    """And each job is run with its own settings, where it has some."""
    points, store, asked = (Point("decode", 6), Point("decode", 8)), tmp_path / "results.jsonl", Settings(eager=True)
    todo = [Job("tiny-llama", "bf16", points, points, each) for each in (asked, None)]
    campaign.run(todo, "cpu", store, Settings(), [].append, start)
    assert [record.facts for record in results.read(store)] == [
        {"asked": '{"eager": true}'},
        {"engine": "fake", "asked": '{"eager": true}'},
        {},
        {"engine": "fake"},
    ]


def test_software_and_commit_are_stored(start: Callable[[Path], EngineProcess], tmp_path: Path) -> None:
    """Of failures too; results of which nobody knows them have no room for them."""
    points, store = (Point("decode", 10), Point("decode", 6)), tmp_path / "results.jsonl"
    job, say = Job("tiny-llama", "bf16", points, points), [].append
    campaign.run([job], "cpu", store, Settings(), say, start, origin=Origin({"driver": "1"}, "0123"))
    campaign.run([job], "cpu", store, Settings(), say, start)
    records = results.read(store)
    assert [(record.ok, record.environment, record.commit) for record in records] == [
        *((ok, {"driver": "1"}, "0123") for ok in (True, False)),
        *((ok, {}, "") for ok in (True, False)),
    ]
    assert ["environment" in line or "commit" in line for line in store.read_text().splitlines()] == [True] * 2 + [
        False
    ] * 2


def test_what_runs_here_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As baselines of this machine have it."""
    software = {"cuda": {"driver": "1", "torch": "2"}, "cpu": {"torch": "3"}}
    devices = [Device("cuda", "some GPU", "some-gpu"), Device("cpu", "some CPU", "some-cpu")]
    for found, kind in ((devices, "cuda"), (devices[1:], "cpu")):
        monkeypatch.setattr("perfgate.hardware.detect", lambda found=found: Hardware(tuple(found), software))
        assert origin.here(tmp_path / "results.jsonl").environment == software[kind]


def test_an_option_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(["serve", "--results", "file", "--option", "dtype=half"])
    assert caught.value.code == 4
    assert capsys.readouterr().err == (
        "perfgate-slidesparse serve: argument --option: 'dtype=half' is not NAME=JSON, e.g. "
        "gpu_memory_utilization=0.8\nhint: perfgate-slidesparse serve --help\n"
    )


def test_nothing_to_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["serve", "--results", str(tmp_path / "results.jsonl"), "--failed"]) == 0
    assert capsys.readouterr().out == (
        "nothing to run: these points succeeded, or did not fail; --again runs them once more\n"
    )


def test_the_reports_command_runs_every_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store, ran = tmp_path / "results.jsonl", []
    schemes = {"vllm-int8": 512, "int8-2_4": 8192, "fp8-2_8": 64, "bf16": 96, "gone": 512}
    for scheme, tokens in schemes.items():
        results.append(store, failed(Key("cpu", "tiny-llama", scheme, "decode", tokens)))
    assert command.main(["report", "--results", str(store), "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    assert all(f"- tiny-llama {scheme} decode M={tokens}: " in text for scheme, tokens in schemes.items())
    rerun = re.findall(r"^Run them again: `perfgate-slidesparse (.*)`$", text, re.M)[0].split()

    monkeypatch.setattr(campaign, "this_device", lambda: "cpu")
    monkeypatch.setattr(campaign, "run", lambda todo, *_, **__: ran.append(names(todo)) or True)
    assert command.main(rerun) == 0
    assert command.main([*rerun, "--schemes", "bf16", "fp8-2_8"]) == 0
    assert command.main([*rerun, "--decode", "64", "512"]) == 0
    del schemes["gone"]
    assert ran == [
        [("tiny-llama", scheme, [tokens]) for scheme, tokens in schemes.items() if scheme in chosen]
        for chosen in (schemes, ("fp8-2_8", "bf16"), ("vllm-int8", "fp8-2_8"))
    ]


def test_what_is_given_with_failed_stands_over_what_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Defaults, too, where they are typed."""
    store, ran = tmp_path / "results.jsonl", []
    asked = Settings(passes=3, new_tokens=4, eager=True, options=(("seed", 1),))
    point = failed(Key("cpu", "tiny-llama", "bf16", "decode", 96))
    results.append(store, replace(point, facts=asked.asked()))
    monkeypatch.setattr(campaign, "this_device", lambda: "cpu")
    monkeypatch.setattr(campaign, "run", lambda todo, *_, **__: ran.extend(job.settings for job in todo) or True)
    again = ["serve", "--results", str(store), "--failed"]
    assert command.main(again) == 0
    assert command.main([*again, "--no-eager", "--passes", str(Settings.passes), "--option", "seed=2"]) == 0
    assert ran == [asked, replace(asked, eager=False, passes=Settings.passes, options=(("seed", 2),))]
