"""The page in a real browser: what it fetches, how fast it opens, and whether anything of a test's runs in it."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import os
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perfgate.model import CaseResult, Device, Hardware, MetricVerdict, Outcome, Run, Verdict, Work
from perfgate.report import html
from perfgate.report.html.markup import visible

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((path for name in NAMES if (path := shutil.which(name))), None)

#: However busy the machine is, a browser that has said nothing for so long will not.
PATIENCE_S = 300
#: Milliseconds in which a browser counts to 100 million where the two seconds hold: on a quiet Xeon of 2.5 GHz.
COUNTING_MS = 620

pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium: apt-get install chromium")

HOSTILE = (
    "a.py::t[<script>window.hacked=1;document.title='hacked'</script>]",
    'a.py::t[</style></script><img src=x onerror="window.hacked=2">]',
    "a.py::t[\"' onmouseover=window.hacked=3 autofocus onfocus=window.hacked=4 x='\"]",
    "a.py::t[</title><svg onload=window.hacked=5><!--]",
    "a.py::t[javascript:window.hacked=6]",
    "a.py::t[\u202egpj.exe\u202c\u2066\u200b]",
    "a.py::t[\x00\x07\x1b[31m\x7f\x85\ud800]",
    "a.py::t[" + "x" * 20000 + "]",
    "a.py::t[&lt;script&gt;&#60;b&#62;{{7*7}}${7*7}]",
)


def case(name: str, verdict: Verdict, value: float, key: str = "nvidia-h200", reason: str = "") -> CaseResult:
    time = MetricVerdict(
        "device_time", "s", value, verdict, "lower", 30e-6, value / 30e-6 - 1, value / 30e-6 - 1.01,
        value / 30e-6 - 0.99, 0.02, True, reason, 0.012,
        (value, value * 1.001, value * 0.999), (30e-6, 30.1e-6, 29.9e-6),
    )  # fmt: skip
    memory = MetricVerdict("memory", "B", 2.0**20, Verdict.UNCHANGED, "lower", 2.0**20, 0.0, 0.0, 0.0, 0.0)
    return CaseResult(
        name, key, verdict, Outcome.PASSED, 3, reason, (time, memory), Work(1e8, 2e8), 4.16e12, {"clock": "device"},
        {"sm_clock_mhz": [1755, 1980]}, verdict is Verdict.REGRESSED, {"rows": reason}, (), {"torch": "2.13.0"},
        {"torch": "2.13.0"}, {"rows": reason}, "0a1b2c3", "2026-01-30", (reason,) if reason else (),
    )  # fmt: skip


def run(*cases: CaseResult) -> Run:
    gpu = Device("cuda", "NVIDIA H200", "nvidia-h200", 2**37, (9, 0))
    cpu = Device("cpu", "A CPU", "cpu-a", 2**36, count=8)
    return Run(Hardware((gpu, cpu)), cases, {"torch": "2.13.0"}, "2026-01-31T12:00:00Z", 12.5, "1c2d3e4")


SMALL = run(
    case("p/a.py::slow", Verdict.REGRESSED, 33e-6),
    case("p/a.py::slower", Verdict.REGRESSED, 40e-6),
    case("p/a.py::fast", Verdict.IMPROVED, 20e-6),
    case("p/b.py::same", Verdict.UNCHANGED, 30e-6),
    case("q/c.py::same", Verdict.UNCHANGED, 30.1e-6, "cpu-a"),
)


class Page:
    """A browser with one page, spoken to by the DevTools protocol through pipes; no port is opened."""

    def __init__(self, folder: Path) -> None:
        assert BROWSER is not None
        from_browser, to_us = os.pipe()
        from_us, to_browser = os.pipe()

        def pipes() -> None:
            # The browser reads descriptor 3 and writes 4.
            kept = os.dup(from_us), os.dup(to_us)
            os.dup2(kept[0], 3)
            os.dup2(kept[1], 4)

        self._process = subprocess.Popen(
            [
                BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                "--disable-background-networking", f"--user-data-dir={folder}", "--remote-debugging-pipe",
                "about:blank",
            ],
            preexec_fn=pipes, close_fds=False, start_new_session=True, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(from_us)
        os.close(to_us)
        self._read, self._write = from_browser, to_browser
        self._rest, self._number = b"", 0
        self.events: list[dict[str, Any]] = []
        self._session = ""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        self.send("Page.setLifecycleEventsEnabled", enabled=True)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and give its answer."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert select.select([self._read], [], [], PATIENCE_S)[0], "the browser does not answer"
            data = os.read(self._read, 2**16)
            assert data, "the browser has ended"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        if "method" in message:
            self.events.append(message)
        return message

    def open(self, file: Path) -> None:
        """Open a page and wait until it is there."""
        self.events.clear()
        # The page before may still be telling that it has loaded.
        loaded = {"name": "load", "loaderId": self.send("Page.navigate", url=file.as_uri())["loaderId"]}
        while not any(loaded.items() <= event["params"].items() for event in self.events):
            self._next()

    def wait(self, method: str, **parameters: Any) -> None:
        """Wait for an event since the page was opened."""
        while not any(
            event["method"] == method and parameters.items() <= event["params"].items() for event in self.events
        ):
            self._next()

    def ask(self, script: str) -> Any:
        """Give the value of an expression in the page."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def size(self, width: int, height: int) -> None:
        """Set the size of the window."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def media(self, kind: str = "", scheme: str = "light") -> None:
        """Set what the page is shown on."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", media=kind, features=features)

    def picture(self) -> bytes:
        """Give what is seen, as PNG."""
        return base64.b64decode(self.send("Page.captureScreenshot")["data"])

    def close(self) -> None:
        """End the browser and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._read)
        os.close(self._write)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    page = Page(tmp_path_factory.mktemp("profile"))
    yield page
    page.close()


@pytest.fixture
def page(browser: Page) -> Page:
    browser.send("Emulation.setScriptExecutionDisabled", value=False)
    browser.size(1360, 900)
    browser.media()
    return browser


def write(folder: Path, *runs: Run, **more: Any) -> Path:
    path = folder / "report.html"
    path.write_text(html.render(runs, **more), encoding="utf-8", errors="replace")
    return path


def shown(page: Page) -> list[str]:
    """Give the ids of the rows that are seen, in their order."""
    rows = page.ask(
        "[...document.querySelectorAll('#cases tbody')].filter(body => !body.hidden)"
        ".map(body => body.querySelector('th').textContent)"
    )
    return [row.removesuffix("nvidia-h200").removesuffix("cpu-a").rpartition("/")[2] for row in rows]


def test_it_fetches_nothing_and_breaks_no_rule_of_its_own(page: Page, tmp_path: Path) -> None:
    file = write(tmp_path, SMALL)
    page.open(file)
    asked = [
        event["params"]["request"]["url"] for event in page.events if event["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
    assert [event for event in page.events if event["method"] in ("Log.entryAdded", "Runtime.consoleAPICalled")] == []
    assert page.ask("document.title") == "2 regressed of 5 on NVIDIA H200 and A CPU"
    assert page.ask("document.querySelector('h1').innerText") == "2 regressed of 5 on NVIDIA H200 and A CPU"
    assert page.picture().startswith(b"\x89PNG")


def test_light_and_dark(page: Page, tmp_path: Path) -> None:
    page.open(write(tmp_path, SMALL))

    def lightness(what: str) -> int:
        color = page.ask(f"getComputedStyle(document.body).{what}")
        return sum(map(int, color.removeprefix("rgb(").removesuffix(")").split(",")))

    assert lightness("backgroundColor") > 600 > 300 > lightness("color")
    page.media(scheme="dark")
    assert lightness("backgroundColor") < 150 < 450 < lightness("color")
    page.media("print", "dark")
    assert lightness("backgroundColor") > 600


def test_an_attached_file_is_saved_and_not_shown(page: Page, tmp_path: Path) -> None:
    text = "<script>window.hacked = 9; document.title = 'hacked'</script> \u00e9\n" * 1000
    attached = dataclasses.replace(case("p/a.py::same", Verdict.UNCHANGED, 30e-6), attached={"report.html": text})
    page.open(write(tmp_path, run(attached)))
    title, saved = page.ask("document.title"), tmp_path / "saved"
    page.send("Page.setDownloadBehavior", behavior="allow", downloadPath=str(saved))
    page.ask("document.querySelector('.files a').click()")
    page.wait("Page.downloadProgress", state="completed")
    assert [path.name for path in saved.iterdir()] == ["report.html"]
    assert (saved / "report.html").read_text(encoding="utf-8") == text
    assert page.ask("document.title") == title
    assert page.ask("typeof window.hacked") == "undefined"


def test_nothing_of_a_test_runs(page: Page, tmp_path: Path) -> None:
    hostile = run(*(case(name, Verdict.REGRESSED, 33e-6, reason=name) for name in HOSTILE))
    hostile = dataclasses.replace(
        hostile, commit=HOSTILE[0], problems=HOSTILE, unused=HOSTILE, command=HOSTILE[1], remarks=HOSTILE,
        software={name[-40:]: name for name in HOSTILE}, base=HOSTILE[2], started=HOSTILE[3],
    )  # fmt: skip
    page.open(write(tmp_path, hostile))
    assert page.ask("typeof window.hacked") == "undefined"
    assert page.ask("document.title") == (
        f"{len(HOSTILE)} regressed of {len(HOSTILE)} on NVIDIA H200; {len(HOSTILE)} problems"
    )
    kinds = page.ask("[...new Set([...document.querySelectorAll('*')].map(e => e.localName))]")
    assert not {"img", "iframe", "object", "embed", "base", "b"} & set(kinds)
    assert page.ask("document.querySelectorAll('script, style').length") == 2
    assert (
        page.ask("document.querySelectorAll('[onerror], [onload], [onfocus], [onmouseover], [autofocus]').length") == 0
    )
    assert page.ask("[...document.querySelectorAll('a')].every(a => a.getAttribute('href').startsWith('#'))")
    told = page.ask("[...document.querySelectorAll('.card h3')].map(h => h.textContent)")
    assert sorted(told) == sorted(visible(name) for name in HOSTILE)
    # What a browser does when somebody plays with it.
    page.ask(
        "document.querySelectorAll('.sort, .copied, a, circle').forEach(e => e.dispatchEvent(new MouseEvent('click')))"
    )
    assert page.ask("typeof window.hacked") == "undefined"
    # A script that did get in would not be allowed to run, and no style either.
    page.ask("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hacked=7\">')")
    page.ask("document.body.append(Object.assign(document.createElement('script'), {text: 'window.hacked=8'}))")
    page.ask("new Promise(done => setTimeout(done, 100))")
    assert page.ask("typeof window.hacked") == "undefined"
    assert page.ask("document.documentElement.scrollWidth <= innerWidth")


def test_the_worst_comes_first_and_a_click_sorts(page: Page, tmp_path: Path) -> None:
    page.open(write(tmp_path, SMALL))
    worst_first = ["a.py::slower", "a.py::slow", "a.py::fast", "c.py::same", "b.py::same"]
    assert shown(page) == worst_first
    assert page.ask("[...document.querySelectorAll('.card h3')].map(h => h.textContent)") == [
        "p/a.py::slower", "p/a.py::slow", "p/a.py::fast",
    ]  # fmt: skip
    now = "[...document.querySelectorAll('#cases thead .sort')].find(b => b.textContent == 'now')"
    page.ask(f"{now}.click()")
    assert shown(page) == ["a.py::fast", "b.py::same", "c.py::same", "a.py::slow", "a.py::slower"]
    assert page.ask(f"{now}.parentElement.getAttribute('aria-sort')") == "ascending"
    # From the keyboard.
    page.ask(f"{now}.focus()")
    for kind in ("keyDown", "keyUp"):
        page.send("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")
    assert shown(page) == ["a.py::slower", "a.py::slow", "c.py::same", "b.py::same", "a.py::fast"]
    assert page.ask(f"{now}.parentElement.getAttribute('aria-sort')") == "descending"
    page.ask(f"{now}.click()")
    assert shown(page) == worst_first
    assert page.ask("document.querySelectorAll('[aria-sort]').length") == 0


def test_filters_hide_rows_and_move_no_column(page: Page, tmp_path: Path) -> None:
    page.open(write(tmp_path, SMALL))

    def places() -> Any:
        # Beside the controls above: cards that come into sight take their real height only when a frame is drawn.
        above = "document.querySelector('.controls').getBoundingClientRect().bottom"
        place = f"h => [h.getBoundingClientRect().x, h.getBoundingClientRect().y - {above}]"
        return page.ask(f"[...document.querySelectorAll('#cases thead th')].map({place})")

    def change(script: str) -> list[str]:
        page.ask(f"{script}; document.querySelector('.controls').dispatchEvent(new Event('input', {{bubbles: true}}))")
        return shown(page)

    before = places()
    assert change("document.getElementById('filter').value = 'A.PY sLow'") == ["a.py::slower", "a.py::slow"]
    assert page.ask("document.getElementById('shown').textContent") == "2 of 5 shown"
    assert places() == before
    assert change("document.getElementById('filter').value = 'nothing is called that'") == []
    assert change("document.getElementById('filter').value = ''") == shown(page) != []
    assert change("document.querySelector('[value=unchanged]').checked = false") == [
        "a.py::slower", "a.py::slow", "a.py::fast",
    ]  # fmt: skip
    change("document.querySelector('[value=unchanged]').checked = true")
    assert change("document.getElementById('key').value = 'cpu-a'") == ["c.py::same"]
    assert places() == before


def test_without_scripts_all_of_it_is_there(page: Page, tmp_path: Path) -> None:
    page.send("Emulation.setScriptExecutionDisabled", value=True)
    page.open(write(tmp_path, SMALL))
    assert page.ask("document.querySelectorAll('.sort, .copied').length") == 0
    assert page.ask("getComputedStyle(document.querySelector('.controls')).display") == "none"
    assert len(shown(page)) == 5
    assert page.ask("document.querySelectorAll('.card svg').length") == 6
    assert "pytest --benchmark-compare p/a.py::slow" in page.ask("document.querySelector('main').innerText")


@pytest.mark.parametrize("width", [360, 700, 1285, 1360, 2400])
def test_no_width_makes_the_page_wider_than_the_window(page: Page, tmp_path: Path, width: int) -> None:
    page.size(width, 900)
    page.open(write(tmp_path, SMALL))
    assert page.ask("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("width", [360, 700, 900, 1000, 1100, 1150, 1155, 1200, 1280, 1285, 1360])
def test_nothing_in_a_card_is_moved_sideways_or_stands_over_its_neighbour(
    page: Page, tmp_path: Path, width: int
) -> None:
    slow = case("p/a.py::slow", Verdict.REGRESSED, 158.6e-6)
    memory = MetricVerdict(
        "memory", "B", 2.0**20, Verdict.UNCHANGED, "lower", 0.0, 2.0**20, -0.336 * 2**20, 0.336 * 2**20, 2.0**20, False,
        values=(2.0**20,) * 8, baseline_values=(0.0,) * 5,
    )  # fmt: skip
    cycles = dataclasses.replace(slow.metrics[0], change=0.754, low=0.733, high=1.331, limit=0.1)
    page.size(width, 900)
    page.open(write(tmp_path, run(dataclasses.replace(slow, metrics=(cycles, memory)))))
    assert page.ask("document.querySelectorAll('.card small').length") == 1
    parts = "[...document.querySelectorAll('.card, .card div, .card td, .card tbody th')]"
    wide = "part => part.scrollWidth > part.clientWidth && getComputedStyle(part).display != 'inline'"
    assert page.ask(f"{parts}.filter({wide}).map(part => part.outerHTML)") == []
    right = "document.querySelector('.card').getBoundingClientRect().right"
    ends = "[...document.querySelectorAll('.card svg')].map(svg => svg.getBoundingClientRect().right"
    assert page.ask(f"{ends} < {right})") == [True] * 4


@pytest.mark.parametrize("width", [360, 700, 1285, 1360, 2400])
def test_the_head_of_the_table_hides_no_row(page: Page, tmp_path: Path, width: int) -> None:
    page.size(width, 900)
    page.open(write(tmp_path, SMALL))
    page.ask("document.documentElement.style.scrollBehavior = 'auto'")
    head = "document.querySelector('#cases thead').getBoundingClientRect().bottom"
    first = "document.querySelector('#cases tbody').getBoundingClientRect().top"
    # In one question: cards that come into sight take their real height only when a frame is drawn, and move the table.
    scroll = "document.getElementById('all').scrollIntoView()"
    assert page.ask(f"{scroll}; {first} - {head}") == pytest.approx(0, abs=1)


@pytest.mark.parametrize("width", [360, 700, 900, 1100, 1285, 1360])
def test_the_name_of_a_metric_is_not_broken(page: Page, tmp_path: Path, width: int) -> None:
    page.size(width, 900)
    page.open(write(tmp_path, SMALL))
    name = "document.querySelector('.metrics tbody bdi')"
    assert page.ask(f"{name}.textContent") == "device_time"
    assert page.ask(f"{name}.getClientRects().length") == 1


def test_printed_it_is_a_table_without_controls(page: Page, tmp_path: Path) -> None:
    page.open(write(tmp_path, SMALL))
    page.media("print")
    hidden = ".controls, nav, .copied"
    assert page.ask(f"[...document.querySelectorAll('{hidden}')].every(e => getComputedStyle(e).display == 'none')")
    assert page.ask("getComputedStyle(document.querySelector('#cases thead')).display") == "table-header-group"
    paper = base64.b64decode(page.send("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)["data"])
    assert paper.startswith(b"%PDF")


@pytest.mark.parametrize(
    "verdicts",
    [[Verdict.REGRESSED, Verdict.IMPROVED, Verdict.NEW, *[Verdict.UNCHANGED] * 17], [Verdict.REGRESSED]],
    ids=["some", "all"],
)
def test_a_thousand_cases_open_in_two_seconds(page: Page, tmp_path: Path, verdicts: list[Verdict]) -> None:
    """Also where every one of them has a card."""
    cases = [case(f"p/test_{i % 9}.py::t[{i}]", verdicts[i % len(verdicts)], 30e-6 + i * 1e-9) for i in range(1000)]
    file = write(tmp_path, run(*cases))
    seen = "new Promise(d => requestAnimationFrame(() => requestAnimationFrame(() => d(performance.now()))))"
    count = "let sum = 0; for (let i = 0; i < 1e8; i++) sum = (sum + i) | 0"
    counting = f"(() => {{ const start = performance.now(); {count}; return performance.now() - start }})()"
    taken_ms = []
    # The machine may be slower, or busy with something else: it is the page that is judged.
    for _ in range(5):
        page.open(file)
        taken_ms.append(page.ask(seen))
        if taken_ms[-1] >= 2000:
            taken_ms[-1] *= min(1.0, COUNTING_MS / page.ask(counting))
        if taken_ms[-1] < 2000:
            break
    assert page.ask("document.querySelectorAll('#cases tbody').length") == 1000
    assert min(taken_ms) < 2000
