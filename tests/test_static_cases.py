"""How does compiled code become cases of pytest? Everything but the compiler, whose answers come from a script."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

CONFTEST = '''
import json, pathlib
from perfgate.static import cases
from perfgate.static.answers import Answer
from perfgate.static.figures import Code, Figures, Form

here = pathlib.Path(__file__).parent
NO_FORM = {"kernel": "", "arguments": {}, "options": {}}

class Script:
    """Answers from script.json: by launch and target, else by launch."""

    def __init__(self):
        self.script = json.loads((here / "script.json").read_text())

    def launches(self, place):
        if place != "my.kernels":
            return Answer("failed", f"ModuleNotFoundError: No module named {place!r}", "Traceback: ...")
        if self.script.get("missing"):
            return Answer("no_compiler", self.script["missing"])
        tuned = self.script.get("tuned", {})
        declared = [name for name in self.script["launches"] if name not in tuned]
        return Answer("compiled", code=dict.fromkeys(declared, ""), tuned=tuned)

    def submit(self, questions):
        (here / "submitted").write_text(json.dumps([f"{each.launch}-{each.target}" for each in questions]))

    def ask(self, question):
        scripted = self.script["launches"][question.launch]
        scripted = scripted.get(question.target, scripted)
        environment = {"triton": self.script.get("triton", "3.9.0")}
        if "status" in scripted:
            return Answer(**scripted, environment=environment)
        kernels = []
        for kernel in scripted["kernels"]:
            usual = {"registers": 40, "spills": 0, "stack": 0, "instructions": 300, "tensor_core": 0,
                     "local_memory": 0, "barriers": 1, "code_size": 4800}
            code = Code(**{**usual, **{name: kernel[name] for name in kernel if name in usual}},
                        loads={16: 5, 8: 0, 4: 0, 2: 0}, stores={16: 0, 8: 10, 4: 0, 2: 0})
            narrow = tuple(kernel.get("narrow_offsets", ()))
            kernels.append(Figures(kernel.get("name", "k"), question.target, 4, kernel.get("shared", 0),
                                   kernel.get("occupancy", 0.625), narrow, code, Form(**kernel.get("form", NO_FORM))))
        return Answer("compiled", "", "", tuple(kernels), scripted.get("launched", len(kernels)), environment,
                      passed_over=tuple(scripted.get("passed_over", ())),
                      too_large=tuple(scripted.get("too_large", ())), operators=scripted.get("operators", ""),
                      operator_calls=scripted.get("operator_calls", 0), allocated=scripted.get("allocated", 0))

cases.shared = Script
'''
TEST = """
import pytest

@pytest.mark.static("my.kernels", targets=("sm80", "gfx942"){more})
def test_k(compiled):
    {body}
"""


class Compilers:
    """A project whose compiler answers from a script."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = pytester.path
        self.script: dict[str, Any] = {"launches": {"a": {"kernels": [{}]}}}
        pytester.makeconftest(CONFTEST)
        pytester.makeini("[pytest]\naddopts = -p benchmark -p perfgate -p no:cacheprovider\n")
        self.test()

    def test(self, body: str = "pass", more: str = "") -> None:
        """Write the test."""
        self.pytester.makepyfile(test_code=TEST.format(body=body, more=more))

    def run(self, *arguments: str) -> pytest.RunResult:
        """Run pytest in a process of its own."""
        (self.path / "script.json").write_text(json.dumps(self.script))
        return self.pytester.runpytest_subprocess(*arguments)

    def compare(self, *arguments: str) -> dict[str, Mapping[str, Any]]:
        """Compare; give each case by its name."""
        self.run("--benchmark-compare", "--perf-json=run.json", *arguments)
        cases = json.loads((self.path / "run.json").read_text())["cases"]
        return {case["id"].partition("::")[2]: case for case in cases}


@pytest.fixture
def compilers(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, forked: None) -> Compilers:
    """A project with a scripted compiler."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return Compilers(pytester)


def test_a_case_for_each_launch_and_target(compilers: Compilers) -> None:
    compilers.script["launches"]["b"] = {"kernels": [{}]}
    result = compilers.run("-v")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(
        [f"*::test_k[[]{name}] PASSED*" for name in ("a-sm80", "a-gfx942", "b-sm80", "b-gfx942")]
    )
    assert json.loads((compilers.path / "submitted").read_text()) == ["b-gfx942"]


def test_a_tuned_configuration_is_a_case_of_its_own_target_alone(compilers: Compilers) -> None:
    compilers.script["launches"] |= {
        "int8-128-tuned-nvidia-a100-sxm4-80gb": {"kernels": [{}]},
        "int8-128-tuned-nvidia-h200": {"kernels": [{}]},
    }
    # The marker of the test does not ask for sm90.
    compilers.script["tuned"] = {
        "int8-128-tuned-nvidia-a100-sxm4-80gb": "sm80",
        "int8-128-tuned-nvidia-h200": "sm90",
    }
    result = compilers.run("-v", "--perf-update=new")
    result.assert_outcomes(passed=3)
    names = ("a-sm80", "a-gfx942", "int8-128-tuned-nvidia-a100-sxm4-80gb-sm80")
    result.stdout.fnmatch_lines([f"*::test_k[[]{name}] PASSED*" for name in names])
    stored = json.loads((compilers.path / "baselines/static-sm80/test_code.json").read_text())
    assert set(stored["cases"]) == {f"test_k[{name}]" for name in (names[0], names[2])}


def test_markers_select_targets_and_ask_for_no_gpu(compilers: Compilers) -> None:
    compilers.run("-m", "sm80").assert_outcomes(passed=1, deselected=1)
    compilers.run("-m", "rocm and static").assert_outcomes(passed=1, deselected=1)
    compilers.run("-m", "gfx942 and static", "--strict-markers").assert_outcomes(passed=1, deselected=1)
    compilers.run("-m", "gfx90a").assert_outcomes(deselected=2)


def test_the_test_may_assert_on_figures(compilers: Compilers) -> None:
    compilers.test("assert compiled.kernel.code.registers == 40 and compiled.target == 'sm80', compiled.launch")
    compilers.run().assert_outcomes(passed=1, failed=1)


def test_record_then_compare(compilers: Compilers) -> None:
    result = compilers.run("--perf-update=all")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["recorded 2 cases into 2 files in baselines"])
    stored = json.loads((compilers.path / "baselines/static-sm80/test_code.json").read_text())
    case = stored["cases"]["test_k[a-sm80]"]
    assert case["method"] == {"clock": "compiler", "figures": "5", "version": "1"}
    assert case["metrics"]["registers"] == {"unit": "1", "better": "lower", "values": [40]}
    assert case["metrics"]["occupancy"] == {"unit": "%", "better": "higher", "values": [62.5]}
    assert stored["environments"] == {case["recorded"]["environment"]: {"triton": "3.9.0"}}

    cases = compilers.compare()
    assert {name: (case["verdict"], case["key"], case["processes"]) for name, case in cases.items()} == {
        "test_k[a-sm80]": ("unchanged", "static-sm80", 1),
        "test_k[a-gfx942]": ("unchanged", "static-gfx942", 1),
    }


def test_a_regression_is_told_in_words(compilers: Compilers) -> None:
    compilers.run("--perf-update=all")
    compilers.script["launches"]["a"] = {"sm80": {"kernels": [{"registers": 64, "occupancy": 0.375}]}, "kernels": [{}]}
    result = compilers.run("--benchmark-compare")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "performance regressed: registers 40 -> 64 (+60.0 %, [[]+60.0 %, +60.0 %], limit 10 %, 1 process)",
            "  occupancy 62.5 % -> 37.5 % (-40.0 %, [[]-40.0 %, -40.0 %], limit 0 %): regressed",
            "  registers 40 -> 64, occupancy 62.5 % -> 37.5 % on sm80",
            "  hardware: static-sm80",
            "hint: if the change is intended, record it: pytest --perf-update=all 'test_code.py::test_k[[]a-sm80]'",
        ]
    )
    case = compilers.compare()["test_k[a-sm80]"]
    assert case["reason"] == "registers 40 -> 64, occupancy 62.5 % -> 37.5 % on sm80"


def _form(kernel: str = "k", **options: str) -> dict[str, Any]:
    arguments = {"x_ptr": options.pop("x_ptr", "*bf16:16"), "WIDTH": options.pop("WIDTH", "=64")}
    return {"kernel": f"rows.kernel.{kernel}", "arguments": arguments, "options": options}


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"num_stages": "3"}, ""),
        ({"num_stages": "1"}, "launched otherwise: num_stages 3 -> 1"),
        (
            {"num_stages": "3", "x_ptr": "*bf16", "WIDTH": "i32:16"},
            "launched otherwise: x_ptr aligned to 16 bytes -> not aligned to 16 bytes, "
            "WIDTH constant 64 -> i32, a multiple of 16",
        ),
        ({"num_stages": "3", "x_ptr": "*fp32:16"}, "launched otherwise: x_ptr *bf16, aligned to 16 bytes -> *fp32, "),
    ],
)
@pytest.mark.parametrize("registers", [30, 64])
def test_a_launch_that_became_another_is_told_beside_its_figures(
    compilers: Compilers, form: dict[str, str], told: str, registers: int
) -> None:
    compilers.script["launches"]["a"] = {"kernels": [{"form": _form(num_stages="3")}]}
    compilers.run("--perf-update=all")
    compilers.script["launches"]["a"] = {"kernels": [{"registers": registers, "form": _form(**form)}]}
    case = compilers.compare()["test_k[a-sm80]"]
    assert case["verdict"] == ("regressed" if registers == 64 else "improved")
    first, *others = case["reason"].splitlines()
    assert first == f"registers 40 -> {registers} on sm80"
    assert len(others) == bool(told)
    assert "".join(others).startswith(told)


def test_of_several_kernels_the_one_that_is_launched_otherwise_is_named(compilers: Compilers) -> None:
    def launches(stages: str, registers: int) -> dict[str, Any]:
        kernels = [{"name": "k", "form": _form("k", num_stages="3"), "registers": registers}]
        return {"kernels": [*kernels, {"name": "m", "form": _form("m", num_stages=stages)}]}

    compilers.script["launches"]["a"] = launches("3", 40)
    compilers.run("--perf-update=all")
    compilers.script["launches"]["a"] = launches("2", 64)
    case = compilers.compare()["test_k[a-sm80]"]
    assert case["reason"] == "k: registers 40 -> 64 on sm80\nlaunched otherwise: m: num_stages 3 -> 2"


def test_a_kernel_that_took_the_place_of_another_is_named(compilers: Compilers) -> None:
    # A launcher may catch what a kernel raises that does not compile, and launch another.
    compilers.script["launches"]["a"] = {"kernels": [{"name": "fast", "form": _form("fast")}]}
    compilers.run("--perf-update=all")
    compilers.script["launches"]["a"] = {"kernels": [{"name": "plain", "form": _form("plain"), "registers": 64}]}
    assert compilers.compare()["test_k[a-sm80]"]["reason"].splitlines() == [
        "registers 40 -> 64 on sm80",
        "no longer launched: fast",
        "not launched before: plain",
    ]


def test_baselines_that_do_not_know_the_launch_tell_nothing_of_it(compilers: Compilers) -> None:
    compilers.run("--perf-update=all")
    compilers.script["launches"]["a"] = {"kernels": [{"registers": 64, "form": _form(num_stages="3")}]}
    assert compilers.compare()["test_k[a-sm80]"]["reason"] == "registers 40 -> 64 on sm80"


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ({"registers": 44}, None),
        ({"registers": 45}, "registers 40 -> 45"),
        ({"occupancy": 0.5625}, "occupancy 62.5 % -> 56.2 %"),
        ({"spills": 1}, "spilled registers 0 -> 1"),
        ({"stack": 8}, "stack 0 B -> 8 B"),
        ({"local_memory": 2}, "local-memory accesses 0 -> 2"),
        ({"instructions": 315}, None),
        ({"instructions": 316}, "instructions 300 -> 316"),
        ({"code_size": 5056}, "code size 4.69 KiB -> 4.94 KiB"),
        ({"barriers": 2}, "barriers 1 -> 2"),
        ({"narrow_offsets": ["%1 = arith.muli"]}, "32-bit offsets 0 -> 1"),
        ({"shared": 49152}, "shared memory 0 KiB -> 48.0 KiB"),
        ({"loads": {16: 6}}, None),
        ({"loads": {16: 7}}, "bytes of global loads 80 B -> 112 B"),
        ({"loads": {16: 8}}, "global loads 5 -> 8, bytes of global loads 80 B -> 128 B"),
        (
            {"loads": {16: 4, 4: 3}},
            "mean width of global loads 16 B -> 14.1 B, loads of at most 8 bytes 0 -> 3, "
            "loads of at most 4 bytes 0 -> 3",
        ),
    ],
)
def test_usual_limits(now: dict[str, Any], told: str | None) -> None:
    from perfgate.model import Baseline, Measurement, Metric, Outcome, StoredMetric
    from perfgate.static import words
    from perfgate.static.figures import Code, Figures
    from perfgate.static.metrics import metrics_of
    from perfgate.verdict.case import judge

    def measured(**changes: Any) -> tuple[Metric, ...]:
        outside = {name: changes.pop(name) for name in ("occupancy", "narrow_offsets", "shared") if name in changes}
        usual = {"registers": 40, "spills": 0, "stack": 0, "instructions": 300, "tensor_core": 8}
        usual |= {"local_memory": 0, "barriers": 1, "code_size": 4800, "loads": {16: 5}, "stores": {16: 5}}
        code = Code(**{**usual, **changes})
        fields = {"occupancy": 0.625, "narrow_offsets": (), "shared": 0, **outside}
        narrow = tuple(fields["narrow_offsets"])
        return metrics_of([Figures("k", "sm90", 4, fields["shared"], fields["occupancy"], narrow, code)], {}, {})

    stored = tuple(StoredMetric(each.name, each.unit, each.better, (each.value,)) for each in measured())
    baseline = Baseline("c", Outcome.PASSED, stored, {}, {}, "", "")
    measurement = Measurement("c", "static-sm90", metrics=measured(**now), repeats=True)
    result = words.explained(judge(baseline, [measurement], last=True), baseline, measurement)
    assert (result.verdict.value, result.reason) == (("regressed", f"{told} on sm90") if told else ("unchanged", ""))


@pytest.mark.parametrize("side", ["load", "store"])
@pytest.mark.parametrize(
    ("before", "now", "worse"),
    [
        ({4: 32}, {16: 8}, []),
        ({2: 16, 4: 8}, {8: 8}, []),
        ({16: 4, 4: 16}, {16: 8}, []),
        ({2: 32}, {4: 16}, []),
        ({16: 8}, {4: 32}, ["{}_width", "{}s", "{}s_at_most_8", "{}s_at_most_4"]),
        ({16: 8}, {8: 16}, ["{}_width", "{}s", "{}s_at_most_8"]),
        ({4: 32}, {2: 64}, ["{}_width", "{}s", "{}s_at_most_8", "{}s_at_most_4", "{}s_narrower"]),
        ({16: 8}, {16: 11}, ["{}s", "{}_bytes"]),
        # Half as many accesses of four times the width.
        ({4: 32}, {16: 16}, ["{}_bytes"]),
        ({4: 8}, {16: 4}, ["{}_bytes"]),
        ({8: 4}, {16: 4}, ["{}_bytes"]),
        ({1: 32}, {2: 32}, ["{}_bytes"]),
        ({2: 32}, {1: 64}, ["{}_width", "{}s", "{}s_at_most_8", "{}s_at_most_4", "{}s_narrower"]),
        ({2: 32}, {1: 32}, ["{}_width"]),
        ({16: 8}, {32: 4}, []),
        ({32: 4}, {16: 8}, ["{}_width", "{}s"]),
        ({16: 4}, {12: 4}, ["{}_width"]),
    ],
)
def test_accesses_may_become_wider_but_not_narrower_nor_more(
    before: dict[int, int], now: dict[int, int], worse: list[str], side: str
) -> None:
    from perfgate.static.figures import Code, Figures
    from perfgate.static.metrics import metrics_of

    def measured(accesses: dict[int, int]) -> dict[str, Any]:
        widths: dict[str, Any] = {"loads": {}, "stores": {}, f"{side}s": accesses}
        code = Code(40, 0, 0, 300, **widths, tensor_core=0, local_memory=0, barriers=0, code_size=4800)
        return {each.name: each for each in metrics_of([Figures("k", "sm90", 4, 0, 0.5, (), code)], {}, {})}

    old, new = measured(before), measured(now)
    found = []
    for name, metric in new.items():
        change = metric.value - old[name].value
        if (change if metric.better == "lower" else -change) > metric.limit.of(old[name].value):
            found.append(name)
    assert found == [name.format(side) for name in worse]


def test_scalar_registers_are_a_figure_of_amd() -> None:
    from perfgate.static.figures import Code, Figures
    from perfgate.static.metrics import metrics_of

    code = Code(40, 0, 0, 300, {}, {}, 0, 0, 0, 4800, scalars=22)
    found = {
        target: {each.name: each for each in metrics_of([Figures("k", target, 4, 0, 0.5, (), code)], {}, {})}
        for target in ("sm90", "gfx942")
    }
    assert set(found["gfx942"]) - set(found["sm90"]) == {"scalars"}
    metric = found["gfx942"]["scalars"]
    assert (metric.unit, metric.value, metric.better) == ("1", 22.0, "lower")
    # CDNA gives a wave 16 at a time.
    assert metric.limit.of(22.0) == 16.0


def test_limits_of_the_marker(compilers: Compilers) -> None:
    compilers.test(more=', limits={"registers": "60%", "occupancy": "50%"}')
    compilers.run("--perf-update=all")
    compilers.script["launches"]["a"] = {"kernels": [{"registers": 64, "occupancy": 0.375}]}
    assert {case["verdict"] for case in compilers.compare().values()} == {"unchanged"}


def test_figures_of_several_kernels(compilers: Compilers) -> None:
    compilers.script["launches"]["a"] = {"kernels": [{"name": "first"}, {"name": "second"}]}
    compilers.run("--perf-update=all")
    compilers.script["launches"]["a"] = {
        "kernels": [{"name": "first", "registers": 32}, {"name": "second", "registers": 64}],
        "launched": 3,
    }
    case = compilers.compare()["test_k[a-sm80]"]
    assert case["verdict"] == "regressed"
    assert case["reason"] == ("kernel launches 2 -> 3; second: registers 40 -> 64; first: registers 40 -> 32 on sm80")


def test_another_compiler_is_stale_and_no_alarm(compilers: Compilers) -> None:
    compilers.run("--perf-update=all")
    compilers.script |= {"triton": "3.10.0"}
    compilers.script["launches"]["a"] = {
        "sm80": {"status": "compile_error", "reason": "k: CompilationError: no"},
        "kernels": [{"registers": 64}],
    }
    cases = compilers.compare()
    assert {name: case["verdict"] for name, case in cases.items()} == dict.fromkeys(cases, "stale")
    assert cases["test_k[a-gfx942]"]["reason"] == "triton 3.9.0 -> 3.10.0"
    assert cases["test_k[a-sm80]"]["reason"] == (
        "passed -> compile error: k: CompilationError: no (triton 3.9.0 -> 3.10.0)"
    )


def test_a_refused_target_is_a_stored_outcome(compilers: Compilers) -> None:
    compilers.script["launches"]["a"] = {"status": "unsupported", "reason": "f: needs compute capability 8.9"}
    result = compilers.run("-rs")
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(["SKIPPED*unsupported on sm80: f: needs compute capability 8.9"])
    compilers.run("--perf-update=all").assert_outcomes(skipped=2)
    case = compilers.compare()["test_k[a-sm80]"]
    assert (case["verdict"], case["reason"]) == ("unchanged", "still unsupported: f: needs compute capability 8.9")

    compilers.script["launches"]["a"] = {"status": "compile_error", "reason": "k: CompilationError: no fp8"}
    case = compilers.compare()["test_k[a-sm80]"]
    assert (case["verdict"], case["reason"]) == (
        "outcome_changed",
        "unsupported -> compile error: k: CompilationError: no fp8",
    )


def test_a_target_that_is_refused_from_now_on_fails(compilers: Compilers) -> None:
    compilers.run("--perf-update=all")
    compilers.script["launches"]["a"] = {"status": "unsupported", "reason": "f: no"}
    result = compilers.run("--benchmark-compare")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["outcome changed: now unsupported", "  passed -> unsupported: f: no"])


def test_code_that_does_not_compile_fails_and_is_not_recorded(compilers: Compilers) -> None:
    compilers.script["launches"]["a"] = {
        "status": "compile_error",
        "reason": "k: CompilationError: no",
        "detail": "at 3:1",
    }
    result = compilers.run("--perf-update=all")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["a on sm80, gfx942 does not compile: k: CompilationError: no", "at 3:1"])
    assert not (compilers.path / "baselines").exists()


def test_an_error_is_told_once_with_all_its_targets(compilers: Compilers) -> None:
    broken = {"status": "failed", "reason": "IndexError: no", "detail": "at 3:1"}
    compilers.script["launches"] = {"a": broken, "b": {"sm80": broken, "gfx942": {**broken, "detail": "at 4:1"}}}
    result = compilers.run()
    result.assert_outcomes(failed=4)
    lines = result.outlines[result.outlines.index("a on sm80, gfx942: IndexError: no") :]
    assert [line for line in lines[: lines.index("at 4:1") + 1] if not line.startswith("_")] == [
        *("a on sm80, gfx942: IndexError: no", "at 3:1"),
        *("a on gfx942: IndexError: no", "The whole error is told of test_code.py::test_k[a-sm80]."),
        *("b on sm80: IndexError: no", "at 3:1"),
        *("b on gfx942: IndexError: no", "at 4:1"),
    ]


def test_a_kernel_that_a_launch_passes_over_is_told(compilers: Compilers) -> None:
    compilers.script["launches"]["a"] = {
        "sm80": {"kernels": [{}], "passed_over": ["fast: PTXASError: no"]},
        "kernels": [{}],
    }
    result = compilers.run()
    result.assert_outcomes(passed=2, warnings=1)
    result.stdout.fnmatch_lines(
        [
            "*PassedOver: a on sm80 goes on without what does not compile: fast: PTXASError: no",
            "*hint: launch it only where it is meant to run, so that one that breaks is told as a failure",
        ]
    )


def test_a_kernel_that_is_passed_over_from_now_on_fails(compilers: Compilers) -> None:
    compiles = {"kernels": [{"name": "fast"}]}
    passes_over = {"kernels": [{"name": "slow"}], "passed_over": ["fast: no"], "too_large": ["large: no room"]}
    compilers.script["launches"] = {"a": {"sm80": compiles, "gfx942": passes_over}}
    compilers.run("--perf-update=new").assert_outcomes(passed=2, warnings=1)
    stored = {
        target: json.loads((compilers.path / f"baselines/static-{target}/test_code.json").read_text())["cases"]
        for target in ("sm80", "gfx942")
    }
    assert "passed_over" not in stored["sm80"]["test_k[a-sm80]"]["metrics"]
    assert stored["gfx942"]["test_k[a-gfx942]"]["metrics"]["passed_over"]["values"] == [2]
    assert [case["verdict"] for case in compilers.compare().values()] == ["unchanged", "unchanged"]
    # Slower code takes the place of one that broke; the other one is mended.
    compilers.script["launches"]["a"] = {"sm80": passes_over, "gfx942": compiles}
    now = compilers.compare()
    assert (now["test_k[a-sm80]"]["verdict"], now["test_k[a-sm80]"]["failed"]) == ("regressed", True)
    assert now["test_k[a-sm80]"]["reason"].splitlines()[:2] == [
        "kernels passed over 0 -> 2 on sm80",
        "kernels passed over: fast: no; large: no room",
    ]
    assert now["test_k[a-gfx942]"]["verdict"] == "improved"


def test_what_torch_does_beside_the_kernels_is_under_the_gate(compilers: Compilers) -> None:
    def launcher(operators: list[str], allocated: int) -> None:
        work = {"operators": ", ".join(operators), "operator_calls": len(operators), "allocated": allocated}
        compilers.script["launches"]["a"] = {"kernels": [{}], **work}

    launcher([], 1 << 20)
    compilers.run("--perf-update=new")
    launcher(["aten::clone", "aten::zero_"], 2 << 20)
    case = compilers.compare()["test_k[a-sm80]"]
    assert (case["verdict"], case["failed"]) == ("regressed", True)
    assert case["reason"].splitlines() == [
        "torch operators 0 -> 2, memory of new tensors 1.00 MiB -> 2.00 MiB on sm80",
        "torch operators: aten::clone, aten::zero_",
    ]
    # A flag or two more are no regression, and the other way everything is welcome.
    launcher([], (1 << 20) + 4096)
    assert compilers.compare()["test_k[a-sm80]"]["verdict"] == "unchanged"
    launcher([], 1 << 19)
    assert compilers.compare()["test_k[a-sm80]"]["verdict"] == "improved"


def test_a_launch_that_refuses_all_targets_is_told(compilers: Compilers) -> None:
    refuses = {"status": "unsupported", "reason": "f: no"}
    compilers.script["launches"] = {"a": refuses, "b": {"sm80": refuses, "kernels": [{}]}}
    told = [
        "*NothingCompiled: a refuses all targets that its test asks for, so nothing of it is compiled: f: no",
        "*hint: give the test a target that it is for, or remove it from the launches of the test",
    ]
    result = compilers.run()
    result.assert_outcomes(passed=1, skipped=3, warnings=1)
    result.stdout.fnmatch_lines(told, consecutive=True)
    # What the others say is not known.
    compilers.run("-k", "sm80").assert_outcomes(skipped=2, deselected=2, warnings=0)


def test_a_target_that_the_compiler_does_not_know_is_skipped(compilers: Compilers) -> None:
    compilers.script["launches"]["a"] = {
        "gfx942": {"status": "no_target", "reason": "triton 3.0.0 does not compile for gfx942: no"},
        "kernels": [{}],
    }
    result = compilers.run("-rs", "--perf-update=all")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*triton 3.0.0 does not compile for gfx942: no"])


def test_without_a_compiler_cases_are_skipped_and_baselines_stay(compilers: Compilers) -> None:
    compilers.run("--perf-update=all")
    compilers.script["missing"] = "triton is not installed"
    result = compilers.run("-rs", "--benchmark-compare")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*triton is not installed: pip install torch triton"])
    assert [case["verdict"] for case in compilers.compare().values()] == ["skipped"]


def test_a_launch_that_is_gone_is_removed(compilers: Compilers) -> None:
    compilers.script["launches"]["b"] = {"kernels": [{}]}
    compilers.run("--perf-update=all")
    del compilers.script["launches"]["b"]
    verdicts = {name: (case["verdict"], case["key"]) for name, case in compilers.compare().items()}
    assert verdicts["test_k[b-sm80]"] == ("removed", "static-sm80")
    assert verdicts["test_k[b-gfx942]"] == ("removed", "static-gfx942")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "@pytest.mark.static(3)",
            [
                "test_code.py::test_k: static marker: static(3) names no launches",
                'hint: write @pytest.mark.static("my_kernels.specialisations", targets=("sm90",))',
            ],
        ),
        (
            '@pytest.mark.static("my.kernels", targets=("sm75",))',
            [
                "test_code.py::test_k: static marker: there is no target 'sm75'",
                "hint: targets are sm80, sm89, sm90, sm100, gfx90a, gfx942, gfx1100",
            ],
        ),
        (
            '@pytest.mark.static("my.kernels", targets="sm90")',
            ["test_code.py::test_k: static marker: targets='sm90' cannot be used"],
        ),
        (
            '@pytest.mark.static("my.kernels", limits={"regs": "1%"})',
            [
                "test_code.py::test_k: static marker: limits: there is no figure 'regs'",
                "hint: figures are registers, *",
            ],
        ),
        (
            '@pytest.mark.static("my.kernels", limits={"registers": "1us"})',
            ["test_code.py::test_k: static marker: registers: limit '1us' cannot be used: 1us is not a plain number"],
        ),
        (
            '@pytest.mark.static("my.kernels", limit=1)',
            [
                "test_code.py::test_k: static marker: unknown argument limit",
                "hint: it takes the place of the launches, targets and limits",
            ],
        ),
        (
            '@pytest.mark.static("other.kernels")',
            [
                "test_code.py::test_k: static marker: ModuleNotFoundError: No module named 'other.kernels'",
                "Traceback: ...",
            ],
        ),
    ],
)
def test_a_marker_that_cannot_be_used(compilers: Compilers, line: str, told: list[str]) -> None:
    compilers.pytester.makepyfile(test_code=f"import pytest\n{line}\ndef test_k(compiled): pass\n")
    result = compilers.run()
    assert result.ret == 2
    result.stdout.fnmatch_lines(told)


def test_a_test_that_does_not_take_compiled(compilers: Compilers) -> None:
    compilers.pytester.makepyfile(test_code='import pytest\n@pytest.mark.static("my.kernels")\ndef test_k(): pass\n')
    result = compilers.run()
    assert result.ret == 2
    result.stdout.fnmatch_lines(
        [
            "test_code.py::test_k: static marker: the test does not take compiled",
            "Nothing would be compiled, and nothing gated.",
            "hint: write def test_k(compiled)",
        ]
    )


def test_compiled_without_launches(compilers: Compilers) -> None:
    compilers.pytester.makepyfile(test_code="def test_k(compiled): pass\n")
    result = compilers.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*test_code.py::test_k: compiled needs a static marker that names launches"])


def test_a_static_marker_without_launches_is_as_before(compilers: Compilers) -> None:
    compilers.pytester.makepyfile(
        test_code="import pytest\n@pytest.mark.static\n@pytest.mark.sm90\ndef test_k(): pass\n"
    )
    compilers.run("--benchmark-compare").assert_outcomes(passed=1)


def test_workers_compile_without_a_gpu(compilers: Compilers) -> None:
    pytest.importorskip("xdist")
    compilers.pytester.makeini("[pytest]\naddopts = -p benchmark -p perfgate -p xdist -p no:cacheprovider\n")
    compilers.run("-n", "2", "--perf-update=all").assert_outcomes(passed=2)
    assert (compilers.path / "baselines/static-sm80/test_code.json").exists()
    compilers.run("-n", "2", "--benchmark-compare").assert_outcomes(passed=2)
