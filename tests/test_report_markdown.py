"""What a run looks like on GitHub: the answer first, the worst first, within limits, and nothing injected."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfgate.model import CaseResult, Device, Hardware, MetricVerdict, Outcome, Run, Verdict
from perfgate.report import markdown
from perfgate.report.escape import block, code, prose

CPU = Device("cpu", "Pretended CPU", "cpu-pretended-2t", 8 << 30, count=2)


def case(name: str, verdict: Verdict = Verdict.UNCHANGED, change: float = 0.0, **more: Any) -> CaseResult:
    metric = MetricVerdict(
        "wall_time", "s", 30e-6 * (1 + change), verdict, baseline=30e-6, change=change, low=change - 0.01,
        high=change + 0.01, limit=0.1,
    )  # fmt: skip
    given: dict[str, Any] = {"failed": verdict is Verdict.REGRESSED, "metrics": (metric,), "processes": 4}
    given |= {"outcome": Outcome.PASSED, **more}
    return CaseResult(name, CPU.key, verdict, **given)


def run_of(*results: CaseResult, **more: Any) -> Run:
    return Run(Hardware((CPU,)), results, {"python": "3.11"}, "2026-11-21T00:00:00+00:00", 1.5, **more)


BROKEN = CaseResult("t.py::broke", CPU.key, Verdict.SKIPPED, Outcome.FAILED, reason="ValueError: no")


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (run_of(case("a::b"), case("a::c")), "Performance gate passed: 2 unchanged on `cpu-pretended-2t`"),
        (
            run_of(case("a::b"), case("a::c", Verdict.REGRESSED, 0.3)),
            "Performance gate failed: 1 regressed, 1 unchanged on `cpu-pretended-2t`",
        ),
        (
            run_of(case("a::b"), case("a::c", Verdict.INCONCLUSIVE, 0.1)),
            "Performance gate passed: 1 inconclusive, 1 unchanged on `cpu-pretended-2t`",
        ),
        (
            run_of(case("a::c", Verdict.INCONCLUSIVE, 0.1, failed=True)),
            "Performance gate failed: 1 inconclusive on `cpu-pretended-2t`",
        ),
        (run_of(case("a::b"), BROKEN), "Performance gate failed: 1 unchanged, 1 not judged on `cpu-pretended-2t`"),
        (run_of(case("a::b", Verdict.NEW)), "Performance gate compared nothing: 1 new on `cpu-pretended-2t`"),
        (run_of(), "Performance gate: no performance case ran"),
        (
            run_of(case("a::b"), problems=("x", "y")),
            "Performance gate failed: 1 unchanged on `cpu-pretended-2t`; 2 problems",
        ),
        (
            run_of(case("a::b"), base="origin/main...", base_commit="0123456"),
            "Performance gate passed: 1 unchanged on `cpu-pretended-2t`, compared with `origin/main...`",
        ),
        (
            run_of(case("a::b"), compared=False, recorded=("a::b",), files=("baselines/x/a.json",)),
            "Performance: recorded 1 case into baselines/x/a&#46;json",
        ),
    ],
)
def test_the_first_line_is_the_answer(run: Run, expected: str) -> None:
    assert markdown.summary(run).splitlines()[0] == f"## {expected}"


def test_no_run_is_no_success() -> None:
    assert markdown.answer() == "Performance gate: no run"


def test_several_machines_have_one_answer_and_a_part_each() -> None:
    text = markdown.summary(run_of(case("a::b")), run_of(case("a::c", Verdict.REGRESSED, 0.3)))
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "## Performance gate failed: 1 unchanged on `cpu-pretended-2t`; 1 regressed on `cpu-pretended-2t`",
        "### Performance gate passed: 1 unchanged on `cpu-pretended-2t`",
        "### Performance gate failed: 1 regressed on `cpu-pretended-2t`",
    ]


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_rows_stand_worst_first_and_show_every_figure() -> None:
    text = markdown.summary(
        run_of(
            case("t.py::same"),
            case("t.py::better", Verdict.IMPROVED, -0.5),
            case("t.py::bad", Verdict.REGRESSED, 0.2),
            case("t.py::unsure", Verdict.INCONCLUSIVE, 0.1),
            case("t.py::worse", Verdict.REGRESSED, 0.5),
            BROKEN,
            case("t.py::gone", Verdict.OUTCOME_CHANGED, outcome=Outcome.OUT_OF_MEMORY, failed=True),
        )
    )
    assert [row[:2] for row in rows(text)] == [
        ["**outcome changed**", "`t.py::gone`"],
        ["**regressed**", "`t.py::worse`"],
        ["**regressed**", "`t.py::bad`"],
        ["**not judged**", "`t.py::broke`"],
        ["inconclusive", "`t.py::unsure`"],
        ["improved", "`t.py::better`"],
    ]
    assert rows(text)[0][2:] == ["", "-", "out of memory", "-", "-", "-", "4"]
    figures = ["`wall_time`", "30.0 us", "45.0 us", "+50.0 %", "[+49.0 %, +51.0 %]", "10 %", "4"]
    assert rows(text)[1][2:] == figures
    assert "unchanged  t.py::same: wall_time 30.0 us -&gt; 30.0 us (0.0 %" in text


def test_says_how_to_measure_again_and_how_to_accept() -> None:
    text = markdown.summary(run_of(case("t.py::test_a", Verdict.REGRESSED, 0.3)), folder="sub")
    assert "- measure the worst again: `pytest --benchmark-compare sub/t.py::test_a`\n" in text
    assert "- if the change is intended, record it: `pytest --perf-update=all sub/t.py::test_a`\n" in text


def test_two_sides_are_measured_again_as_two_sides() -> None:
    text = markdown.summary(run_of(case("t.py::test_a", Verdict.REGRESSED, 0.3), base="origin/main"))
    assert "- measure both sides again: `pytest --perf-ab=origin/main t.py::test_a`\n" in text
    assert "--benchmark-compare" not in text
    assert "--perf-update" not in text
    assert "| verdict | case | metric | base | now |" in text


def test_names_machine_and_software() -> None:
    text = markdown.summary(run_of(case("a::b"), commit="0123456789ab", command="pytest --benchmark-compare"))
    assert (
        "<details><summary>Machine and software</summary>\n\n<pre>\n"
        "cpu-pretended-2t: Pretended CPU, 8.00 GiB, 2 threads\n"
        "software: python 3.11\n"
        "command: pytest --benchmark-compare\n"
        "commit 0123456789ab, started 2026-11-21T00:00:00+00:00, took 1.50 s\n"
        "</pre>\n</details>\n"
    ) in text


class TestSize:
    def test_a_comment_is_never_larger_than_github_takes(self) -> None:
        many = [case(f"t.py::test_{number}[{'ü' * 400}]", Verdict.REGRESSED, 0.3) for number in range(1000)]
        text = markdown.comment(run_of(*many))
        assert len(text.encode()) <= markdown.COMMENT_BYTES < 65_536
        assert text.startswith(f"{markdown.MARKER}\n## Performance gate failed: 1000 regressed on")
        shown = len(rows(text))
        assert 0 < shown <= markdown.MOST_ROWS
        assert f"\n... and {1000 - shown} more cases\n" in text
        assert text.endswith("\n> Not all of it is here. The whole is in the JSON file or the page of this run.\n")

    @pytest.mark.parametrize("limit", [300, 500, 1000, 2000])
    def test_any_limit_is_kept(self, limit: int) -> None:
        run = run_of(case("t.py::a", Verdict.REGRESSED, 0.3), problems=("x" * 5000,))
        text = markdown.summary(run, limit=limit)
        assert len(text.encode()) <= limit
        assert text.startswith("## Performance gate failed")
        assert "Not all of it is here." in text

    def test_what_fits_is_not_said_to_be_cut(self) -> None:
        assert "Not all of it" not in markdown.summary(run_of(case("a::b")))


HOSTILE = [
    "t.py::test_a[<img src=x onerror=alert(1)>]",
    "t.py::test_a[`</code><script>alert(1)</script>]",
    "t.py::test_a[| --- | @octocat |]",
    "t.py::test_a[](https://evil.example)",
    "t.py::test_a\n## Performance gate passed\n",
    "t.py::test_a\r\n\r\n<!-- -->",
    "t.py::\\`a\\|b\\",
    "t.py::test_a[@octocat #1 ![x](y)]",
    "t.py::\u202eevil\u200b",
    "t.py::</details></pre>&lt;",
    "www.example.org http://example.org",
]


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        assert not attributes


def without_code(text: str) -> str:
    """Take out what GitHub shows as it stands: spans of code, and blocks between ``<pre>`` and ``</pre>``."""
    text = re.sub(r"<pre>\n.*?\n</pre>", "", text, flags=re.DOTALL)
    text = re.sub(r"<code>[^<]*</code>", "", text)
    return re.sub(r"`[^`\n]+`", "", text)


@pytest.mark.parametrize("name", HOSTILE)
def test_names_and_messages_inject_nothing(name: str) -> None:
    result = case(name, Verdict.REGRESSED, 0.3, reason=f"hint: {name}: git restore {name}\n{name}")
    corrupt = case(name, Verdict.CORRUPT, reason=f"{name}\nhint: {name}: git {name}", failed=True)
    metric = MetricVerdict(name, name, 3.0, Verdict.REGRESSED, baseline=2.0, change=0.5)
    device = Device("cpu", name, name, count=2)
    odd = CaseResult("t.py::odd", name, Verdict.REGRESSED, Outcome.PASSED, metrics=(metric,), failed=True)
    more = {"commit": name, "problems": (name,), "unused": (name,), "command": name, "base": name}
    run = Run(Hardware((device,)), (result, corrupt, odd), {name: name}, name, 1.0, **more)  # type: ignore[arg-type]
    for text in (markdown.comment(run), markdown.comment(Run(Hardware((device,)), run.results, {}, name, 1.0))):
        plain = without_code(text.removeprefix(markdown.MARKER))
        assert Tags(plain).seen <= {"details", "summary"}
        for sign in ("@", "://", "onerror=", "<script", "](", "www.", "<!--", "\u202e"):
            assert sign not in plain
        headings = [line for line in plain.splitlines() if line.startswith("#")]
        assert len(headings) == 1
        cells = {line.count("|") for line in plain.splitlines() if line.startswith("|")}
        assert cells == {10}


@given(st.text())
def test_text_stays_text(text: str) -> None:
    for written in (code(text), prose(text)):
        assert "\n" not in written
        assert "@" not in prose(text)
    assert re.fullmatch(r"(`[^`|\\\n]+`|<code>[0-9A-Za-z&#;]*</code>)?", code(text))
    assert re.fullmatch(r"[0-9A-Za-z ,;()/%&#-]*", prose(text))
    inside = block(text).removeprefix("<pre>\n").removesuffix("\n</pre>")
    assert "<" not in inside


IN_CYCLES = MetricVerdict("wall_time", "s", 2.13e-3, Verdict.IMPROVED, baseline=2.21e-3, change=-0.2, limit=0.1)


def test_a_change_that_is_not_that_of_the_values_is_marked_and_explained_once() -> None:
    results = (case(name, Verdict.IMPROVED, metrics=(IN_CYCLES,)) for name in ("a::b", "a::c"))
    text = markdown.summary(run_of(*results))
    told = "*In cycles*: the machine ran at another speed for each side, and the change is corrected for it."
    assert text.count("| -20.0 % in cycles |") == 2
    assert text.count(told) == text.count(f"|\n\n{told}\n") == 1


def test_a_row_that_has_no_place_is_not_explained() -> None:
    many = [case(f"a::{number}", Verdict.REGRESSED, 0.3) for number in range(markdown.MOST_ROWS)]
    text = markdown.summary(run_of(*many, case("a::last", Verdict.IMPROVED, metrics=(IN_CYCLES,))))
    assert "cycles" not in text
    assert "cycles" not in markdown.summary(run_of(case("a::b", Verdict.REGRESSED, 0.3)))


def test_a_case_without_a_row_says_it_in_its_line() -> None:
    text = markdown.summary(run_of(case("a::b", metrics=(IN_CYCLES,))))
    told = "wall_time 2.21 ms -&gt; 2.13 ms, -20.0 % in cycles of the machine, which ran at about 83 % (limit 10 %)"
    assert f"unchanged  a::b: {told}\n" in text
