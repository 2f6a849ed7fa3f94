"""Does the report say everything it has to, by its schema, and do Markdown and HTML say what the JSON says?"""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from perfgate.errors import SettingError
from perfgate.report import conform

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from perf_workloads.bitnet import BitnetSetup, Sampling, report  # noqa: E402
from perf_workloads.bitnet.document import document, schema  # noqa: E402
from perf_workloads.bitnet.experiment import run  # noqa: E402
from perf_workloads.bitnet.html import to_html  # noqa: E402
from perf_workloads.bitnet.markdown import to_markdown  # noqa: E402
from perf_workloads.bitnet.roofline import Machine  # noqa: E402
from perf_workloads.bitnet.tables import tables  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
NEW_TOKENS = 6
#: Measuring the ceilings takes longer than the tiny model.
MACHINE = Machine(10e9, {"fp32": 100e9, "bf16": 50e9, "int8": 400e9})


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Use one thread, and ceilings that are known."""
    monkeypatch.setattr("perf_workloads.bitnet.roofline.measure", lambda device: MACHINE)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def written():
    """Run the tiny model once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("perf_workloads.bitnet.roofline.measure", lambda device: MACHINE)
        shown: list[str] = []
        seen = run(BitnetSetup("tiny"), new_tokens=NEW_TOKENS, prompt="a|b <i>", progress=shown.append)
    return document(seen), shown, seen


@pytest.fixture
def whole(written) -> dict[str, Any]:
    return copy.deepcopy(written[0])


def test_it_conforms_to_its_schema(whole):
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.validate(whole, schema())
    assert list(conform.faults(whole, schema())) == []


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda whole: whole.pop("advice"), "advice is missing"),
        (lambda whole: whole["layers"][0].pop("warm_s"), "layers[0]: warm_s is missing"),
        (lambda whole: whole["stages"].pop(), "stages: a list of 5 has the wrong length"),
        (lambda whole: whole["tokens"][1].update(time_s="1 ms"), 'tokens[1].time_s: "1 ms" is not a number'),
        (lambda whole: whole["totals"].update(peak_rss=-1), "totals.peak_rss: -1 is less than 0"),
        (lambda whole: whole.update(more=1), '"more" is not a known field'),
    ],
)
def test_the_schema_finds_what_is_missing_or_wrong(whole, spoil, fault):
    spoil(whole)
    assert list(conform.faults(whole, schema())) == [fault]


def test_stages_follow_each_other_and_share_the_whole(whole):
    stages = whole["stages"]
    names = ["tokenizer_load", "model_load", "tokenize", "prefill", "decode", "detokenize"]
    assert [stage["name"] for stage in stages] == names
    assert sum(stage["share"] for stage in stages) == pytest.approx(1)
    ends = [0.0, *(stage["start_s"] + stage["time_s"] for stage in stages)]
    assert all(stage["start_s"] >= end for stage, end in zip(stages, ends, strict=False))
    mhz = whole["system"]["current_mhz"]
    if mhz is not None:
        assert stages[3]["normalised_s"] == pytest.approx(stages[3]["time_s"] * mhz / 3000)


def test_tokens_fill_prefill_and_decode(whole):
    tokens, stages = whole["tokens"], {stage["name"]: stage for stage in whole["stages"]}
    assert [token["index"] for token in tokens] == list(range(1, NEW_TOKENS + 1))
    decode = [token["time_s"] for token in tokens[1:]]
    waited_s = sum(token["waited_s"] for token in tokens[1:])
    # A busy machine may keep the thread waiting where a stage ends.
    worked_s = stages["decode"]["time_s"] - stages["decode"]["waited_s"]
    assert sum(decode) - waited_s == pytest.approx(worked_s, rel=0.2)
    assert tokens[0]["time_s"] <= stages["prefill"]["time_s"]
    assert all(0 <= each["waited_s"] <= each["time_s"] for each in (*tokens, *stages.values()))
    assert whole["totals"]["time_per_token_without_wait_s"] == pytest.approx((sum(decode) - waited_s) / len(decode))
    assert whole["token_times"]["max_s"] == max(decode)
    assert whole["token_times"]["mean_s"] == pytest.approx(sum(decode) / len(decode))
    totals = whole["totals"]
    assert (totals["tokens"], totals["forward_passes"]) == (NEW_TOKENS, NEW_TOKENS)
    assert totals["time_to_first_token_s"] == tokens[0]["time_s"]
    assert totals["time_per_token_s"] == pytest.approx(sum(decode) / (NEW_TOKENS - 1))
    assert totals["tokens_per_s"] == pytest.approx(NEW_TOKENS / (tokens[0]["time_s"] + sum(decode)))
    assert whole["text"] == "".join(token["text"] for token in tokens)


def test_every_linear_layer_is_there_with_cold_calls_apart(whole):
    layers = whole["layers"]
    assert len(layers) == whole["model"]["linear_layers"] == 15
    for layer in layers:
        # Cold are the prompt's pass, and for one token the first: only the head sees one position in both.
        cold = 1 if layer["name"] == "lm_head" else 2
        assert (layer["calls"], layer["cold_calls"]) == (NEW_TOKENS, cold)
        assert layer["warm_calls"] == NEW_TOKENS - 2 + (layer["name"] == "lm_head")
        assert 0 < layer["cold_s"] < layer["total_s"]
        assert layer["input_shape"][:2] == [1, 1]
        assert layer["parameters"] == layer["input_shape"][2] * layer["output_shape"][2]
    assert sum(layer["share"] for layer in layers) == pytest.approx(1)
    assert sum(group["share"] for group in whole["groups"]) == pytest.approx(1)
    assert sum(group["total_s"] for group in whole["groups"]) == pytest.approx(whole["totals"]["linear_s"])
    assert whole["totals"]["linear_s"] < sum(stage["time_s"] for stage in whole["stages"][3:5])


def test_what_multiplied_is_told_by_layer_and_kind(whole):
    assert {(layer["ternary"], layer["product"]) for layer in whole["layers"]} == {
        (True, "torch._int_mm"),
        (False, "bf16 linear"),
    }
    whole["groups"][0]["product"] = "fp32 linear | torch._int_mm"
    rows = [line for line in _section(to_markdown(whole), "Linear layers by module") if line.startswith("|")]
    assert rows[0].endswith(" product |")
    # A bar would end the cell.
    assert rows[2].endswith("fp32 linear \\| torch._int_mm |")
    assert all(row.endswith((" torch._int_mm |", " bf16 linear |")) for row in rows[3:])


def test_a_kind_of_layer_names_all_that_multiplied_in_it(written):
    seen = written[2]
    mixed = document(replace(seen, products={**seen.products, "model.layers.1.mlp.up_proj": "fp32 linear"}))
    products = {group["name"]: group["product"] for group in mixed["groups"]}
    assert products["mlp.up_proj"] == "fp32 linear | torch._int_mm"
    assert products["mlp.down_proj"] == "torch._int_mm"


def test_rooflines_come_from_bytes_and_the_measured_ceilings(whole):
    up = next(layer for layer in whole["layers"] if layer["name"] == "model.layers.0.mlp.up_proj")
    # Codes, one fp32 scale, activations in bf16.
    moved = 160 * 512 + 4 + 2 * (160 + 512)
    assert (up["roofline_s"], up["bound"]) == (pytest.approx(moved / 10e9), "memory")
    assert up["roofline_share"] == pytest.approx(up["roofline_s"] / up["warm_s"])
    ranked = [layer["roofline_s"] for layer in whole["advice"]["layers"]]
    assert len(ranked) == 15
    assert ranked == sorted(ranked, reverse=True)


def test_memory_is_sampled_within_the_stages(whole):
    totals, timeline = whole["totals"], whole["timeline"]
    load = whole["stages"][1]
    inside = [s for s in timeline if load["start_s"] < s["time_s"] < load["start_s"] + load["time_s"]]
    # One every 50 ms, and the machine may be busy.
    assert len(inside) >= min(1, int(load["time_s"] / 0.2))
    # The kernel counts pages for each thread apart and adds them up now and then.
    assert max(sample["rss"] for sample in timeline) <= totals["peak_rss"] + (1 << 20)


def test_what_was_going_on_was_told(written):
    shown = written[1]
    assert shown[0] == "building model.layers.0.self_attn.q_proj"
    assert shown[14] == "prefill of 7 tokens"
    last = [f"token {NEW_TOKENS} of {NEW_TOKENS}", "prefill again", "measuring bandwidth and rates"]
    assert [text for text in last if text in shown] == last


class Checker(HTMLParser):
    """Collects tags that are open, and what a file asks others for."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.asked: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.asked += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Nothing stays open."""

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_html_is_whole_and_needs_no_other_file(whole):
    checker = Checker()
    text = to_html(whole)
    checker.feed(text)
    assert checker.open == []
    assert checker.asked == []
    assert "url(" not in text
    assert "http" not in text
    seen = "".join(checker.text)
    for table in tables(whole):
        assert table.title in seen
        assert all(cell in seen for row in table.rows for cell in row)


def test_markdown_has_every_table(whole):
    text = to_markdown(whole)
    assert text.startswith("# BitNet tiny, 2 layers, int8 weights\n\n## System\n")
    for table in tables(whole):
        assert f"## {table.title}\n" in text
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.endswith(" |")
    assert "7 tokens, 'a\\|b <i>'" in text
    widths = {len(re.split(r"(?<!\\)\|", line)) for line in _section(text, "Totals") if line.startswith("|")}
    assert widths == {4}


def _section(text: str, title: str) -> list[str]:
    return text.split(f"## {title}\n")[1].split("\n## ")[0].splitlines()


def test_printed_figures_are_those_of_the_json(whole):
    whole["stages"][3].update(time_s=1.2345, waited_s=0.5, normalised_s=1.02875, share=0.25, rss_change=-3_400_000)
    whole["layers"][0].update(total_s=5.0, cold_s=4.5, warm_s=0.0123, roofline_s=0.0004, share=0.5, normalised_s=None)
    whole["totals"].update(time_per_token_s=0.01234, peak_rss=2_500_000_000, device_peak=7_000_000)
    whole.update(prefill_again_s=0.75, prefill_again_waited_s=0.25)
    text = to_markdown(whole)
    assert "the prompt's pass took 734.50 ms, and 500.00 ms when it was repeated" in text
    assert "| prefill | 1234.50 | 500.00 | 1028.75 | 25.0 % | -3.4 |" in text
    top = _section(text, "Top 20 linear layers by total time")
    assert top[5].startswith(
        "| model.layers.0.self_attn.q_proj | 6 | 5000.00 | unknown | 50.0 % | 4500.00 | 12.30 | 0.4000 |"
    )
    assert "| time a token, decode | 12.34 ms |" in text
    assert "| peak RSS | 2500.0 MB, the kernel's high-water mark of the run |" in text
    assert "| peak on the device | 7.0 MB allocated |" in text


def test_late_calls_of_a_gpu_are_counted_and_told(written):
    seen = written[2]
    first, *others = seen.layers
    warm = [index for index, call in enumerate(first.calls) if call in first.warm]
    # A first call is late wherever it compiles, and no warm one.
    late = {0, *warm[:3]}
    calls = [replace(call, late=index in late) for index, call in enumerate(first.calls)]
    on_gpu = document(replace(seen, device_peak=1, layers=(replace(first, calls=calls), *others)))
    number = sum(len(layer.warm) for layer in seen.layers)
    assert (on_gpu["conditions"]["late_warm_calls"], on_gpu["conditions"]["warm_calls"]) == (3, number)
    assert list(conform.faults(on_gpu, schema())) == []
    told = f"| times of layers | the GPU's; 3 of {number} warm calls hold a wait for their launches."
    assert told in to_markdown(on_gpu)
    assert "late_warm_calls" not in written[0]["conditions"]
    assert "| times of layers | the thread's, without waiting for a core that others had |" in to_markdown(written[0])


def test_the_advice_says_what_software_could_save(whole):
    for group in whole["advice"]["groups"]:
        group.update(roofline_s=0.001, warm_s=0.004)
    text = "Warm calls take 32.00 ms; 75.0 % of that better software can save without another device."
    assert text in to_markdown(whole)
    for group in whole["advice"]["groups"]:
        group.update(warm_s=0.0005)
    assert "Warm calls take 4.00 ms: the ceilings were measured while the machine was busier." in to_markdown(whole)


def test_a_long_timeline_is_thinned_out_and_stays_whole_in_the_json(whole):
    whole["timeline"] = [{**whole["timeline"][0], "time_s": float(number)} for number in range(1001)]
    lines = [line for line in _section(to_markdown(whole), "Memory over time") if line.startswith("|")]
    assert len(lines) == 2 + 167
    assert [lines[2].split(" | ")[0], lines[3].split(" | ")[0]] == ["| 0.00", "| 6.00"]
    assert "1001 samples by a thread, of which every 6. is shown" in to_markdown(whole)


def test_files_are_written_and_read_the_same(whole, tmp_path):
    paths = report.write(whole, tmp_path / "new")
    assert [path.name for path in paths] == ["bitnet.json", "bitnet.md", "bitnet.html"]
    assert json.loads(paths[0].read_text(encoding="utf-8")) == whole


def test_sampling_is_in_the_report():
    seen = run(BitnetSetup("tiny", layers=1), new_tokens=4, sampling=Sampling(0.8, 3))
    again = run(BitnetSetup("tiny", layers=1), new_tokens=4, sampling=Sampling(0.8, 3))
    assert document(seen)["sampling"] == {"temperature": 0.8, "seed": 3}
    assert [token.id for token in seen.tokens] == [token.id for token in again.tokens]
    assert "| sampling | temperature 0.8, seed 3 |" in to_markdown(document(seen))


def test_a_generation_under_a_profiler_is_refused(tmp_path):
    """Its times would be up to 1.85 times too long; what an earlier run wrote stays."""
    kept = tmp_path / "bitnet.json"
    kept.write_text("an earlier report", encoding="utf-8")
    with torch.profiler.profile(), pytest.raises(SettingError) as error:
        report.main(["--model", "tiny", "--layers", "1", "--new-tokens", "3", "--out", str(tmp_path)])
    assert error.value.what == "this call is to be measured while torch's profiler runs"
    assert [path.name for path in tmp_path.iterdir()] == ["bitnet.json"]
    assert kept.read_text(encoding="utf-8") == "an earlier report"


def test_a_run_that_fails_midway_leaves_an_earlier_report_alone(tmp_path, monkeypatch):
    kept = tmp_path / "bitnet.json"
    kept.write_text("an earlier report", encoding="utf-8")
    monkeypatch.setattr("perf_workloads.bitnet.report.to_html", lambda report: {}["missing"])
    with pytest.raises(KeyError):
        report.main(["--model", "tiny", "--layers", "1", "--new-tokens", "3", "--out", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["bitnet.json"]
    assert kept.read_text(encoding="utf-8") == "an earlier report"


def test_too_few_tokens_or_no_prompt_is_an_error():
    with pytest.raises(ValueError) as error:
        run(BitnetSetup("tiny"), new_tokens=2)
    assert str(error.value) == "new_tokens is 2: with fewer than 3 no call of a layer is warm"
    with pytest.raises(ValueError) as error:
        run(BitnetSetup("tiny", layers=1), new_tokens=3, prompt="")
    assert str(error.value) == "the prompt has no tokens"


def test_the_command_line(tmp_path, capsys):
    arguments = ["--model", "tiny", "--layers", "1", "--new-tokens", "3", "--method", "fp32", "--threads", "1"]
    assert report.main([*arguments, "--out", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[:3] == [str(tmp_path / name) for name in ("bitnet.json", "bitnet.md", "bitnet.html")]
    assert re.fullmatch(r"[0-9.]+ ms a token, [0-9.]+ tokens/s", lines[3])
    assert re.match(r" +[0-9.]+ s  building model.layers.0.self_attn.q_proj\n", err)
    made = json.loads((tmp_path / "bitnet.json").read_text())
    assert (made["model"]["method"], made["model"]["shape"]["num_hidden_layers"]) == ("fp32", 1)


def test_what_the_command_line_refuses(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        report.main(["--model", "tiny", "--new-tokens", "1", "--out", str(tmp_path)])
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "python -m perf_workloads.bitnet.report: error: new_tokens is 1: with fewer than 3 no call of a layer is warm"
    )


def test_importing_the_package_imports_neither_torch_nor_transformers():
    code = "import sys, perf_workloads.bitnet; print(sorted({'torch', 'transformers', 'triton'} & {*sys.modules}))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_loading_a_model_for_one_token_shows_where_it_is(imported, pytestconfig, monkeypatch):
    # The conftest of the cases declares it, which is not in use here.
    pytestconfig.addinivalue_line("markers", "slow: a long experiment")
    cases, told = imported("perf_tests/bitnet/test_report.py"), []

    def load(setup, progress):
        progress("building a layer")
        raise RuntimeError("no further")

    monkeypatch.setattr("perf_workloads.bitnet.load", load)
    with pytest.raises(RuntimeError, match=r"^no further$"):
        cases.one_token(SimpleNamespace(progress=told.append), None, BitnetSetup())
    assert told == ["building a layer"]
