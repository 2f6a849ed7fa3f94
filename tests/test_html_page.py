"""The page as a document: its first lines, its cards and plots, and that foreign text stays text."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html.parser
import re
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfgate.model import Better, CaseResult, Device, Hardware, MetricVerdict, Outcome, Reported, Run, Verdict, Work
from perfgate.report import html as pages
from perfgate.report import words
from perfgate.report.headline import headline
from perfgate.report.html import plots
from perfgate.report.html.markup import LONGEST, Safe, escaped, identifier, tag, visible
from perfgate.report.merge import cases, merged
from perfgate.report.order import leading, worst_first

VOID = {"meta", "link", "input", "col", "wbr", "img", "br"}
GPU = Device("cuda", "NVIDIA H200", "nvidia-h200", 2**37, (9, 0), None, 700.0)
CPU = Device("cpu", "A CPU", "cpu-a", 2**34, count=8)
TIME = MetricVerdict(
    "device_time", "s", 31.2e-6, Verdict.REGRESSED, "lower", 30e-6, 0.04, 0.031, 0.049, 0.02, True,
    "beyond the limit and the noise", 0.012, (31.1e-6, 31.2e-6, 31.4e-6), (29.9e-6, 30e-6, 30.1e-6, 30e-6, 30e-6),
)  # fmt: skip
MEMORY = MetricVerdict("memory", "B", 2.0**20, Verdict.UNCHANGED, "lower", 2.0**20, 0.0, 0.0, 0.0, 0.0)
SLOW = CaseResult(
    "perf/hbv/a.py::t[1]", "nvidia-h200", Verdict.REGRESSED, Outcome.PASSED, 12,
    "device_time: beyond the limit and the noise\nkernel rows: registers 40 -> 64", (TIME, MEMORY), Work(1e8, 2e8),
    4.16e12, {"clock": "device"}, {"sm_clock_mhz": [1755, 1980]}, True, {"rows": "num_warps=4"},
    (Reported("load_time", "s", 1.5),), {"torch": "2.13.0"}, {"torch": "2.11.0"}, {"rows": "num_warps=8"}, "0a1b2c3",
    "2026-01-30T12:00:00Z", ("kernel rows: registers 40 -> 64",),
)  # fmt: skip


@dataclass
class Element:
    """An element as a parser sees it."""

    name: str
    attributes: dict[str, str | None]
    children: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text inside."""
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def all(self, name: str = "", class_: str = "") -> list[Element]:
        """Give elements inside by name and class, in their order."""
        found = []
        for child in self.children:
            if isinstance(child, Element):
                if name in ("", child.name) and (not class_ or class_ in (child.attributes.get("class") or "").split()):
                    found.append(child)
                found += child.all(name, class_)
        return found

    def one(self, name: str = "", class_: str = "") -> Element:
        """Give the first of them."""
        return self.all(name, class_)[0]


class Parser(html.parser.HTMLParser):
    """Builds the tree, and takes no end tag that does not belong there."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        element = Element(tag, dict(attrs))
        self._open[-1].children.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().name == tag

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    def done(self) -> Element:
        assert self._open == [self.root]
        return self.root


def parsed(text: str) -> Element:
    parser = Parser()
    parser.feed(text)
    parser.close()
    return parser.done()


def run(*results: CaseResult, **more: Any) -> Run:
    plain: dict[str, Any] = {
        "hardware": Hardware((GPU, CPU)), "results": results, "software": {"torch": "2.13.0", "pytest": "9.2.0"},
        "started": "2026-01-31T12:00:00Z", "duration_s": 12.5, "commit": "1c2d3e4",
        "command": "pytest perf --benchmark-compare",
    }  # fmt: skip
    return Run(**{**plain, **more})


def page(*runs: Run, **more: Any) -> Element:
    return parsed(pages.render(runs, **more))


def like(verdict: Verdict, name: str = "a.py::t", **more: Any) -> CaseResult:
    metric = MetricVerdict("device_time", "s", 30e-6, verdict, baseline=30e-6, change=0.0, limit=0.02)
    return CaseResult(name, "nvidia-h200", verdict, Outcome.PASSED, metrics=(metric,), **more)


def facts(element: Element) -> dict[str, str]:
    return {div.one("dt").text: " | ".join(item.text for item in div.one("dd").all("li")) or div.one("dd").text
            for div in element.one("dl").all("div")}  # fmt: skip


def test_the_first_lines_answer() -> None:
    document = page(run(SLOW, like(Verdict.UNCHANGED), like(Verdict.NEW, "a.py::u")))
    head = document.one("header", "answer")
    assert head.one("h1").text == document.one("title").text == "1 regressed of 3 on NVIDIA H200"
    assert head.one("ul").text == "1 regressed1 new1 unchanged"
    assert facts(head) == {
        "machine": "NVIDIA H200, 128.0 GiB, 700 W (nvidia-h200)8 threads of A CPU, 16.0 GiB (cpu-a)",
        "software": "pytest 9.2.0, torch 2.13.0",
        "commit": "1c2d3e4",
        "started": "2026-01-31T12:00:00Z",
        "duration": "12.5 s",
        "command": "pytest perf --benchmark-compare",
    }


@pytest.mark.parametrize(
    ("results", "told"),
    [
        ((), "no performance case ran"),
        ((like(Verdict.UNCHANGED),), "nothing changed in 1 case on NVIDIA H200"),
        ((like(Verdict.IMPROVED), like(Verdict.UNCHANGED)), "nothing regressed, 1 improved of 2 on NVIDIA H200"),
        ((like(Verdict.UNCHANGED), like(Verdict.NEW)), "nothing regressed, 1 new of 2 on NVIDIA H200"),
        # Where nothing was compared, nothing can be said of regressions.
        ((like(Verdict.NEW), like(Verdict.STALE)), "nothing compared, 1 stale, 1 new of 2 on NVIDIA H200"),
        ((like(Verdict.NEW, failed=True), like(Verdict.STALE)), "1 new of 2 on NVIDIA H200"),
        ((dataclasses.replace(like(Verdict.SKIPPED), outcome=Outcome.SKIPPED),), "all 1 case skipped on NVIDIA H200"),
        ((dataclasses.replace(like(Verdict.SKIPPED), outcome=Outcome.FAILED),), "1 not judged of 1 on NVIDIA H200"),
        ((like(Verdict.CORRUPT), like(Verdict.OUTCOME_CHANGED), SLOW),
         "1 corrupt, 1 outcome changed, 1 regressed of 3 on NVIDIA H200"),
        ((dataclasses.replace(SLOW, key="cpu-a"), SLOW), "2 regressed of 2 on NVIDIA H200 and A CPU"),
        ((dataclasses.replace(SLOW, key="static-sm90"), dataclasses.replace(SLOW, key="static-sm80"), SLOW),
         "3 regressed of 3 on NVIDIA H200 and 2 compile targets"),
    ],
)  # fmt: skip
def test_the_answer(results: tuple[CaseResult, ...], told: str) -> None:
    assert headline([run(*results)], results) == told


def test_problems_of_no_case_are_part_of_the_answer() -> None:
    damaged = run(like(Verdict.UNCHANGED), problems=("b/x.json: it is damaged", "b/y.json: it is damaged"))
    assert page(damaged).one("h1").text == "nothing changed in 1 case on NVIDIA H200; 2 problems"


def test_a_run_that_only_recorded_says_so() -> None:
    recorded = run(like(Verdict.NEW), compared=False, recorded=("a.py::t",), files=("b/a.json",))
    assert page(recorded).one("h1").text == "recorded 1 case into b/a.json"


def test_why_a_launch_was_chosen_is_no_change_of_it() -> None:
    before, now = {"rows": "num_warps=8 (default)"}, {"rows": "num_warps=8 (default: not searched)"}
    card = page(run(replace(SLOW, baseline_notes=before, notes=now))).one("article")
    assert facts(card)["launched as"] == "rows: num_warps=8 (default: not searched)"


def test_a_card_holds_all_that_is_known() -> None:
    card = page(run(SLOW)).one("article")
    assert card.one("header").text == (
        "regressedperf/hbv/a.py::t[1]nvidia-h200 · 12 processes · 3.21 TB/s, 77 % of copy, 6.41 TFLOP/s"
    )
    assert [p.text for p in card.all("p", "reason")] == ["device_time: beyond the limit and the noise"]
    rows = [[cell.text for cell in row.children if isinstance(cell, Element)] for row in card.one("tbody").all("tr")]
    assert [row[:7] for row in rows] == [
        ["device_time", "30.0 us", "31.2 us", "+4.0 %", "[+3.1 %, +4.9 %]", "2 %", "regressed"],
        ["memory", "1.00 MiB", "1.00 MiB", "0.0 %", "[0.0 %, 0.0 %]", "0 %", "unchanged"],
    ]
    assert [svg.attributes["aria-label"] for svg in card.all("svg")] == [
        "change +4.0 % in [+3.1 %, +4.9 %], limit 2 %",
        "baseline 29.9 us to 30.1 us in 5 processes; now 31.1 us to 31.4 us in 3 processes",
    ]
    assert facts(card) == {
        "software": "torch 2.11.0 → 2.13.0",
        "baseline": "0a1b2c3 2026-01-30T12:00:00Z",
        "compiled kernels": "kernel rows: registers 40 -> 64",
        "launched as": "rows: num_warps=8 → num_warps=4",
        "conditions": "sm clock 1755 MHz to 1980 MHz",
        "copy bandwidth": "4.16 TB/s",
        "reported": "load_time 1.50 s",
        "method": "clock device",
    }
    assert [code.text for code in card.all("code", "copy")] == [
        "pytest --benchmark-compare 'perf/hbv/a.py::t[1]'",
        "pytest --perf-update=all 'perf/hbv/a.py::t[1]'",
    ]


def test_a_card_of_a_run_against_a_commit() -> None:
    document = page(run(SLOW, base="main", base_commit="9f8e7d6", remarks=("the tree has changes",)))
    assert [code.text for code in document.one("article").all("code", "copy")] == [
        "pytest --perf-ab=main 'perf/hbv/a.py::t[1]'",
    ]
    told = facts(document.one("header", "answer"))
    assert (told["compared with"], told["remarks"]) == ("main (9f8e7d6)", "the tree has changes")


@pytest.mark.parametrize("verdict", list(Verdict))
def test_only_what_is_not_unchanged_has_a_card(verdict: Verdict) -> None:
    cards = page(run(like(verdict))).all("article")
    assert len(cards) == (verdict not in (Verdict.UNCHANGED, Verdict.SKIPPED))
    assert all(card.one("span", "badge").text == verdict.value.replace("_", " ") for card in cards)


def test_what_did_not_finish_has_no_figures() -> None:
    broke = dataclasses.replace(SLOW, verdict=Verdict.OUTCOME_CHANGED, outcome=Outcome.OUT_OF_MEMORY)
    card = page(run(broke)).one("article")
    assert [cell.text for cell in card.one("tbody").one("tr").all("td")] == ["30.0 us", "-", "-", "-", "-", "-"]
    assert card.all("svg") == []


def test_the_worst_comes_first() -> None:
    little, much = (
        dataclasses.replace(
            like(Verdict.REGRESSED, f"a.py::{change}"), metrics=(dataclasses.replace(TIME, change=change),)
        )
        for change in (0.03, 0.3)
    )
    given = [like(Verdict.UNCHANGED), little, like(Verdict.NEW), like(Verdict.OUTCOME_CHANGED), much]
    assert [result.case for result in worst_first(given)] == [
        "a.py::t",
        "a.py::0.3",
        "a.py::0.03",
        "a.py::t",
        "a.py::t",
    ]
    assert worst_first(given)[0].verdict is Verdict.OUTCOME_CHANGED
    # The metric that gave the verdict speaks, else the time.
    bigger = dataclasses.replace(MEMORY, verdict=Verdict.REGRESSED, change=0.5, limit=0.1)
    assert leading(dataclasses.replace(SLOW, metrics=(TIME, bigger))) == bigger
    assert leading(dataclasses.replace(SLOW, verdict=Verdict.UNCHANGED, metrics=(MEMORY, TIME))) == TIME


def test_the_table_holds_every_metric_of_every_case() -> None:
    document = page(run(SLOW, like(Verdict.UNCHANGED, "b.py::t")))
    bodies = [body for table in document.all("table", "cases") for body in table.all("tbody")]
    rows = [
        [[cell.text for cell in row.all() if cell.name in ("td", "th")] for row in body.all("tr")] for body in bodies
    ]
    assert rows == [
        [
            ["regressed", "perf/hbv/a.py::t[1]", "device_time", "30.0 us", "31.2 us", "+4.0 %", "2 %", "3.21 TB/s",
             "77 %", "12"],
            ["memory", "1.00 MiB", "1.00 MiB", "0.0 %", "0 %", "-", "-"],
        ],
        [["unchanged", "b.py::t", "device_time", "30.0 us", "30.0 us", "0.0 %", "2 %", "-", "-", "-"]],
    ]  # fmt: skip


def test_many_metrics_take_three_rows_and_the_others_one() -> None:
    metrics = tuple(dataclasses.replace(MEMORY, name=f"m{number}") for number in range(9))
    worse = dataclasses.replace(MEMORY, name="worse", verdict=Verdict.REGRESSED, change=0.5)
    (body,) = page(run(dataclasses.replace(SLOW, metrics=(*metrics, worse)))).one("table", "cases").all("tbody")
    rows = body.all("tr")
    assert [row.one("bdi").text for row in rows[1:3]] == ["m0", "m1"]
    assert "worse" in rows[0].text
    told = ", ".join(f"m{number} 1.00 MiB" for number in range(2, 9))
    assert (rows[3].one("summary").text, rows[3].text) == ("7 more", f"7 more{told}")
    assert [cell.attributes["rowspan"] for cell in rows[0].all() if "rowspan" in cell.attributes] == ["4"] * 3


def test_rooflines() -> None:
    figures = page(run(SLOW, like(Verdict.UNCHANGED, "b.py::t"))).one("div", "plots").all("figure")
    assert [figure.one("figcaption").text for figure in figures] == [
        "nvidia-h200: bytes of a call and their share of copy bandwidth",
        "nvidia-h200: operations a byte and operations a second; the line is the copy bandwidth",
    ]
    assert [[dot.text for dot in figure.all("circle")] for figure in figures] == [
        ["perf/hbv/a.py::t[1]: 95.4 MiB, 3.21 TB/s, 77 % of copy, 6.41 TFLOP/s"],
        ["perf/hbv/a.py::t[1]: 2 FLOP/B, 3.21 TB/s, 77 % of copy, 6.41 TFLOP/s"],
    ]
    assert figures[0].one("a").attributes["href"] == "#case-0"
    # Without work there is nothing to draw.
    assert page(run(like(Verdict.UNCHANGED))).all("div", "plots") == []


@dataclass
class Past:
    """A history."""

    dates: list[str]
    commits: list[str]
    values: list[float]
    changes: list[int]


def test_a_history_is_drawn_where_there_is_one() -> None:
    past = Past(["2026-01-01", "2026-01-02", "2026-01-03"], ["a1", "b2", "c3"], [30e-6, 30.1e-6, 31.2e-6], [2])
    asked: list[tuple[str, str, str]] = []

    def history(case: str, key: str, metric: str) -> Past | None:
        asked.append((case, key, metric))
        return past if case == SLOW.case else None

    document = page(run(SLOW, like(Verdict.NEW)), history=history)
    assert asked == [(SLOW.case, "nvidia-h200", "device_time"), ("a.py::t", "nvidia-h200", "device_time")]
    (figure,) = document.all("figure", "history")
    assert figure.one("figcaption").text == "history of device_time"
    assert figure.one("svg").attributes["aria-label"] == (
        "30.0 us to 31.2 us, 2026-01-01 to 2026-01-03; changed at 31.2 us, c3, 2026-01-03"
    )


def test_values_are_drawn_where_they_stand() -> None:
    drawing = plots.values(
        dataclasses.replace(
            TIME, value=20.0, baseline=10.0, change=1.0, values=(20.0,), baseline_values=(10.0,), limit=0.5
        )
    )
    assert drawing is not None
    dots = parsed(drawing).all("path")[1:]
    assert [(dot.attributes["class"], dot.attributes["d"]) for dot in dots] == [
        ("dots before", "M6.0 9h0"),
        ("dots now", "M214.0 23h0"),
    ]
    bound = parsed(drawing).one("line", "bound")
    assert bound.attributes["x1"] == "110"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 0.0, -1.0, 1e308, 5e-324])
def test_any_figure_can_be_drawn(value: float) -> None:
    odd = dataclasses.replace(
        TIME, value=value, baseline=value, change=value, low=-value, high=value, limit=abs(value), detectable=value,
        values=(value, 1.0), baseline_values=(value,),
    )  # fmt: skip
    result = dataclasses.replace(SLOW, metrics=(odd,), work=Work(abs(value), abs(value)), copy_bandwidth=abs(value))
    text = pages.render([run(result, duration_s=value)])
    parsed(text)
    assert not re.search(r'(x|y|x1|x2|y1|y2|cx|cy|r|width|height)="(nan|inf|-inf|-)"', text)


def test_two_runs_make_one_page_by_hardware() -> None:
    before = run(SLOW, like(Verdict.REGRESSED), started="2026-01-30")
    elsewhere = dataclasses.replace(SLOW, key="cpu-a")
    later = run(dataclasses.replace(SLOW, verdict=Verdict.IMPROVED, failed=False), elsewhere, hardware=Hardware((CPU,)))
    assert [(each.key, each.case, each.verdict.value) for each in cases([before, later])] == [
        ("nvidia-h200", "a.py::t", "regressed"),
        ("nvidia-h200", "perf/hbv/a.py::t[1]", "improved"),
        ("cpu-a", "perf/hbv/a.py::t[1]", "regressed"),
    ]
    document = page(before, later)
    assert document.one("h1").text == "2 regressed of 3 on NVIDIA H200 and A CPU"
    assert [key.text for key in document.all("h3", "key")] == ["nvidia-h200", "cpu-a"]
    assert len(document.one("header", "answer").all("dl")) == 2
    both = merged([before, later])
    assert (both.started, both.duration_s, both.commit) == ("2026-01-30", 25.0, "1c2d3e4")
    assert both.hardware.devices == (GPU, CPU)
    assert merged([before]) is before


def test_the_policy_names_what_is_on_the_page() -> None:
    document = page(run(SLOW))
    policy = next(
        meta.attributes["content"] for meta in document.all("meta")
        if meta.attributes.get("http-equiv") == "Content-Security-Policy"
    )  # fmt: skip
    assert policy is not None

    def digest(name: str) -> str:
        return base64.b64encode(hashlib.sha256(document.one(name).text.encode()).digest()).decode()

    assert policy == (
        f"default-src 'none'; script-src 'sha256-{digest('script')}'; style-src 'sha256-{digest('style')}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    # A style in an attribute would not be applied, and a handler not called.
    everything = document.all()
    assert not [
        name for element in everything for name in element.attributes if name == "style" or name.startswith("on")
    ]


def saved(link: Element) -> bytes:
    """Give what a browser saves for a link."""
    kind, _, content = (link.attributes["href"] or "").partition(",")
    # Nothing that a browser would show, or run.
    assert kind == "data:application/octet-stream;base64"
    return base64.b64decode(content, validate=True)


def test_markup_is_no_value_of_an_attribute() -> None:
    assert tag("p", title=tag("b", class_="z")) == '<p title="&lt;b class=&quot;z&quot;&gt;&lt;/b&gt;"></p>'


def test_attached_files_are_on_the_page_whole() -> None:
    long = "<script>alert(1)</script> é\n" * 1000
    unchanged = dataclasses.replace(
        SLOW, case="a.py::t", verdict=Verdict.UNCHANGED, failed=False, attached={"a.html": long, "b.json": "{}"}
    )
    document = page(run(SLOW, unchanged))
    assert [link.attributes["href"] for link in document.one("nav").all("a")][-1] == "#attached"
    (files,) = document.all("dl", "files")
    assert files.one("dt").text == "a.py::t nvidia-h200"
    assert [(link.text, link.attributes["download"]) for link in files.all("a")] == [
        ("a.html", "a.html"),
        ("b.json", "b.json"),
    ]
    assert [saved(link) for link in files.all("a")] == [long.encode(), b"{}"]
    assert "Attached files" not in pages.render([run(SLOW)])


foreign = st.text(max_size=30) | st.sampled_from(
    [
        "</script><script>",
        "<!--",
        "]]>",
        "&lt;",
        "'\"`=",
        "\u202e\u2066",
        "\x00\x1b[2J",
        "\ud800",
        "{{a}}",
        "javascript:a",
    ]
)


@settings(max_examples=40, deadline=None)
@given(foreign, foreign)
def test_foreign_text_stays_text(one: str, two: str) -> None:
    metric = dataclasses.replace(TIME, name=one, unit=two, reason=two)
    result = dataclasses.replace(
        SLOW, case=one, key=two, reason=one + two, metrics=(metric,), method={one: two}, conditions={one: [two]},
        notes={one: two}, baseline_notes={one: one}, environment={one: two}, baseline_environment={one: one},
        kernel_differences=(two,), reported=(Reported(two, one, 1.0),), baseline_commit=one, baseline_date=two,
        attached={one: two},
    )  # fmt: skip
    told = run(
        result, software={one: two}, commit=one, started=two, command=one, problems=(one,), unused=(two,), base=two,
        base_commit=one, remarks=(one,), hardware=Hardware((dataclasses.replace(GPU, name=one, mig=two, key=two),)),
    )  # fmt: skip
    document = parsed(pages.render([told]))
    assert {element.name for element in document.all()} <= {
        "html", "head", "meta", "link", "title", "style", "script", "body", "header", "h1", "h2", "h3", "ul", "li",
        "strong", "span", "dl", "div", "dt", "dd", "code", "section", "nav", "a", "main", "article", "p", "bdi", "wbr",
        "table", "caption", "colgroup", "col", "thead", "tbody", "tr", "th", "td", "svg", "line", "path", "rect",
        "circle",
        "details", "summary", "form", "label", "input", "fieldset", "legend", "output", "small", "figure", "figcaption",
        "text",
    }  # fmt: skip
    assert document.one("article").one("h3").text == visible(one)
    assert document.one("section", "problems").one("li").text == visible(one)
    (link,) = document.one("dl", "files").all("a")
    assert (link.text, link.attributes["download"]) == (visible(one), visible(one))
    assert saved(link) == two.encode("utf-8", "replace")


@given(st.text())
def test_what_is_shown_can_be_seen(text: str) -> None:
    shown = visible(text)
    assert not re.search(
        r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ud800-\udfff]", shown
    )
    assert len(shown) <= LONGEST * 10 + 30
    assert parsed(tag("p", text, title=text)).one("p").text == shown


def test_a_long_text_is_cut() -> None:
    assert visible("x" * (LONGEST + 1)) == "x" * LONGEST + "… (4001 characters)"
    assert visible("x" * LONGEST) == "x" * LONGEST
    assert visible("a\u202eb\x07\U000e0001") == "a\\u202eb\\u0007\\U000e0001"
    assert escaped(Safe("<p>")) == "<p>"
    assert escaped("<p>") == "&lt;p&gt;"


CYCLES = dataclasses.replace(
    TIME, name="wall_time", value=29.25e-6, baseline=30e-6, change=0.17, low=0.16, high=0.18, limit=0.1,
    values=(29.25e-6,) * 3, baseline_values=(30e-6,) * 5,
)  # fmt: skip


def test_a_change_that_is_not_that_of_the_values_is_marked_in_the_card_and_in_the_table() -> None:
    page = pages.render([run(dataclasses.replace(SLOW, metrics=(CYCLES, MEMORY)))])
    mark = '+17.0 % <small title="in cycles of the machine, which ran at about 120 %">in cycles</small></td>'
    assert page.count(mark) == 2
    assert 'aria-label="change +17.0 % in cycles in [+16.0 %, +18.0 %], limit 10 %"' in page
    assert "in cycles" not in pages.render([run(SLOW)])


@pytest.mark.parametrize(("better", "change", "boundary"), [("lower", 0.17, 27.5e-6), ("higher", -0.25, 35.1e-6)])
def test_the_limit_is_drawn_where_the_machine_of_now_reaches_it(better: Better, change: float, boundary: float) -> None:
    metric = dataclasses.replace(CYCLES, better=better, change=change)
    ends = sorted((29.25e-6, 30e-6, boundary))
    place = 6 + 208 * (boundary - ends[0]) / (ends[2] - ends[0])
    drawing = plots.values(metric)
    assert drawing is not None
    found = re.search(r'<line x1="([0-9.]+)" y1="1" x2="[0-9.]+" y2="31" class="bound">', drawing)
    assert found is not None
    assert float(found[1]) == pytest.approx(place, abs=0.01)


@pytest.mark.parametrize(
    ("case", "file", "name"),
    [
        ("a.py::test_x[::error file=x::pwn]", "a.py::", "test_x[::error file=x::pwn]"),
        ("a[b]/a.py::TestIt::test_x[a::b]", "a[b]/a.py::TestIt::", "test_x[a::b]"),
        ("no id", "", "no id"),
    ],
)
def test_an_id_is_quiet_up_to_the_name_of_its_test(case: str, file: str, name: str) -> None:
    assert words.split(case) == (file, name)
    quiet = f'<span class="quiet">{file}</span>' if file else ""
    assert identifier(case).replace("<wbr>", "") == f"<bdi>{quiet}{name}</bdi>"
