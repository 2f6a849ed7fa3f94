"""Are the counts of a profile exact, and are its table and trace torch's own?"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import warnings

import pytest

from perfgate.errors import SettingError
from perfgate.profile import capture

torch = pytest.importorskip("torch")


@pytest.fixture
def mlp():
    """A network of two layers, and its input."""
    layers = (torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
    return torch.nn.Sequential(*layers), torch.randn(5, 8)


def test_operators_are_counted_exactly(mlp):
    model, x = mlp
    forward = capture(lambda: model(x))
    assert [forward.calls(name) for name in ("aten::addmm", "aten::relu", "aten::mm")] == [2, 1, 0]
    both = capture(lambda: model(x).sum().backward())
    # Backward: the gradients of both weights and of the hidden layer; the input needs none.
    assert [both.calls(name) for name in ("aten::addmm", "AddmmBackward0", "aten::mm")] == [2, 2, 3]
    assert (both.launches, both.kernels, both.copies, both.runtime, both.device_s) == (0, {}, {}, {}, 0.0)


def test_every_figure_is_torchs_own(mlp):
    model, x = mlp
    profile = capture(lambda: model(x).sum().backward())
    averages = profile._profiler.key_averages()
    own = {row.key: row for row in averages if row.key != "[memory]"}
    assert {operator.name for operator in profile.operators} == set(own)
    for operator in profile.operators:
        row = own[operator.name]
        assert operator.calls == row.count
        assert operator.self_cpu_s == pytest.approx(row.self_cpu_time_total / 1e6)
        assert operator.cpu_s == pytest.approx(row.cpu_time_total / 1e6)
        assert (operator.self_device_s, operator.device_s) == (0, 0)
        assert (operator.self_cpu_bytes, operator.self_device_bytes) == (row.self_cpu_memory_usage, 0)
    assert any(operator.self_cpu_bytes > 0 for operator in profile.operators), "memory was not recorded"
    assert profile.cpu_s == pytest.approx(averages.self_cpu_time_total / 1e6)
    times = [operator.self_cpu_s for operator in profile.operators]
    assert times == sorted(times, reverse=True)


def test_the_table_is_torchs_own(mlp):
    model, x = mlp
    profile = capture(lambda: model(x))
    averages = profile._profiler.key_averages()
    assert profile.table() == averages.table(sort_by="self_cpu_time_total", row_limit=15)
    assert profile.table(1).count("aten::") == 1


def test_no_deprecated_name_is_asked_for(mlp):
    model, x = mlp
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        capture(lambda: model(x).sum().backward()).table()


@pytest.mark.parametrize("name", ["trace.json", "trace.json.gz"])
def test_the_trace_is_a_chrome_trace(mlp, tmp_path, name):
    model, x = mlp
    profile = capture(lambda: model(x))
    profile.write_trace(tmp_path / name)
    data = (tmp_path / name).read_bytes()
    events = json.loads(gzip.decompress(data) if name.endswith(".gz") else data)["traceEvents"]
    assert sum(event.get("name") == "aten::addmm" and event["ph"] == "X" for event in events) == 2
    assert all("ts" in event and "dur" in event for event in events if event["ph"] == "X")


def test_marked_parts_of_the_call_are_spans_and_no_operators(mlp):
    model, x = mlp

    def step():
        for _ in range(2):
            with torch.profiler.record_function("forward"):
                loss = model(x).sum()
        with torch.profiler.record_function("backward"):
            loss.backward()

    profile = capture(step)
    assert [(span.name, span.calls, span.device_s) for span in profile.spans] == [("forward", 2, 0), ("backward", 1, 0)]
    assert all(span.cpu_s > 0 for span in profile.spans)
    assert profile.calls("forward") == 0


@pytest.mark.parametrize(("warmed_up", "calls"), [(False, [False, True]), (True, [True])])
def test_one_call_comes_before_the_profiled_one(warmed_up, calls):
    seen = []
    capture(lambda: seen.append(torch.autograd._profiler_enabled()), warmed_up=warmed_up)
    assert seen == calls


def test_a_second_profiler_is_refused_and_the_first_goes_on():
    with torch.profiler.profile() as outer:
        with pytest.raises(SettingError) as refused:
            capture(lambda: None)
        torch.ones(3)
    assert str(refused.value) == (
        "perfgate.profile.capture: torch's profiler is running already\n"
        "A second one ends the first, and neither profile is complete.\n"
        "hint: capture outside of it"
    )
    assert "aten::ones" in [row.key for row in outer.key_averages()]


def test_what_the_call_raises_comes_out_and_the_profiler_is_off():
    with pytest.raises(ZeroDivisionError):
        capture(lambda: 1 / 0, warmed_up=True)
    assert not torch.autograd._profiler_enabled()


def test_the_package_does_not_import_torch():
    code = "import sys, perfgate.plugin, perfgate.profile, perfgate.profile.run; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
