"""Figures become text and limits become figures: nothing else in the package formats a number."""

from __future__ import annotations

import itertools
import math
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from perfgate import units
from perfgate.errors import SettingError
from perfgate.model import Limit, MetricVerdict, Verdict

UNITS = ["s", "B", "B/s", "FLOP/s", "Hz", "1", "count", "tokens/s"]
FORMS = (
    'hint: a limit is a share ("2%"), an amount with its unit ("0.3us", "1MiB"), the larger of both '
    '("2% or 0.25us"), or "0"'
)
finite = st.floats(allow_nan=False, allow_infinity=False)
usual = st.floats(min_value=1e-12, max_value=1e14)
changes = st.floats(min_value=-1, max_value=1e6)


def parsed(text: str) -> float:
    """Read a figure back, also one with a power of ten."""
    powered = re.fullmatch(r"(-?\d\.\d\d) x 10\^(-?\d+)(.*)", text)
    if powered is None:
        return units.parse_quantity(text)[0]
    word = powered[3].strip()
    factor = units.parse_quantity(f"1{word}")[0] if word else 1.0
    return float(f"{powered[1]}e{powered[2]}") * factor


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        # One tool's table printed 1.00 us for this function.
        (30e-6, "s", "30.0 us"),
        (1.7e-6, "s", "1.70 us"),
        (129.43e-6, "s", "129.4 us"),
        (999.94e-6, "s", "999.9 us"),
        (999.97e-6, "s", "1.00 ms"),
        (4.2e-10, "s", "0.420 ns"),
        (2.5, "s", "2.50 s"),
        (86400.0, "s", "86400 s"),
        (0.0, "s", "0 s"),
        (-0.0, "B", "0 B"),
        (512.0, "B", "512 B"),
        (512.5, "B", "512.5 B"),
        (1023.97 * 1024, "B", "1.00 MiB"),
        (1001.2 * 1024, "B", "1001 KiB"),
        (2**20, "B", "1.00 MiB"),
        (2.5 * 2**30, "B", "2.50 GiB"),
        (141 * 2**40, "B", "144384 GiB"),
        (4.16e12, "B/s", "4.16 TB/s"),
        (870e9, "B/s", "870.0 GB/s"),
        (12.3e12, "FLOP/s", "12.3 TFLOP/s"),
        (640e9, "FLOP/s", "640.0 GFLOP/s"),
        (1.98e9, "Hz", "1980 MHz"),
        (50.0, "Hz", "50.0 Hz"),
        (126.0, "count", "126"),
        (0.00312, "1", "0.00312"),
        (3.0, "1", "3"),
        (1.5e-9, "1", "1.50 x 10^-9"),
        (1234.5, "tokens/s", "1234 tokens/s"),
        (1e300, "s", "1.00 x 10^300 s"),
        (-31.2e-6, "s", "-31.2 us"),
        (math.nan, "s", "not a number"),
        (math.inf, "B", "infinite"),
        (-math.inf, "B", "minus infinite"),
        (None, "s", "-"),
    ],
)
def test_a_figure_is_written_in_the_scale_that_suits_it(value: float | None, unit: str, text: str) -> None:
    assert units.quantity(value, unit) == text


@given(finite, st.sampled_from(UNITS))
@example(999.95e-6, "s")
@example(1048575.9, "B")
@example(5e-324, "s")
@example(1.7976931348623157e308, "B/s")
def test_no_figure_has_an_exponent_or_too_many_digits(value: float, unit: str) -> None:
    text = units.quantity(value, unit)
    number = text.split(" ")[0]
    assert re.fullmatch(r"-?\d{1,15}(\.\d{1,6})?", number), text
    assert len(text) <= 30


@given(usual, st.sampled_from(UNITS))
@example(9.995e-6, "s")
@example(99.95, "tokens/s")
def test_a_figure_can_be_read_back_within_its_rounding(value: float, unit: str) -> None:
    assert parsed(units.quantity(value, unit)) == pytest.approx(value, rel=5.1e-3)


@given(st.lists(finite, min_size=2, max_size=5), st.sampled_from(UNITS))
@example([9.996e-6, 1.0004e-5], "s")
@example([999.96e-6, 1.0e-3], "s")
def test_the_order_of_figures_survives(values: list[float], unit: str) -> None:
    alone = [parsed(units.quantity(value, unit)) for value in sorted(values)]
    assert all(low <= high or low == pytest.approx(high, rel=1e-12) for low, high in itertools.pairwise(alone))
    shared = [parsed(text) for text in units.together(sorted(values), unit)]
    assert all(low <= high or low == pytest.approx(high, rel=1e-12) for low, high in itertools.pairwise(shared))


@given(st.lists(st.floats(min_value=-1e14, max_value=1e14), min_size=1, max_size=5), st.sampled_from(UNITS))
def test_figures_together_share_one_unit(values: list[float], unit: str) -> None:
    words = {re.sub(r"^-?[\d.]+( x 10\^-?\d+)?", "", text) for text in units.together(values, unit)}
    assert len(words) == 1


@given(finite.filter(bool), st.sampled_from(UNITS), st.floats(min_value=-1e14, max_value=1e14))
def test_what_is_not_zero_never_reads_as_zero(value: float, unit: str, other: float) -> None:
    text = units.together([value, other], unit)[0]
    assert any(digit in text.split(" ")[0] for digit in "123456789"), text


@pytest.mark.parametrize(
    ("values", "unit", "texts"),
    [
        ([31.2e-6, 30e-6, None], "s", ["31.2 us", "30.0 us", "-"]),
        ([999e-6, 1.5e-3], "s", ["0.999 ms", "1.50 ms"]),
        ([1.001e-6, 1.004e-6], "s", ["1.001 us", "1.004 us"]),
        ([175.31e-6, 175.33e-6], "s", ["175.31 us", "175.33 us"]),
        ([1 + 1e-9, 1.0], "s", ["1.0000 s", "1.0000 s"]),
        ([30e-6, 3e-9], "s", ["30.0 us", "0.00300 us"]),
        ([2**30, 2**30 + 2**21], "B", ["1024 MiB", "1026 MiB"]),
        ([2**30, 2**30 + 512], "B", ["1073741824 B", "1073742336 B"]),
        ([0, 8 * 2**20], "B", ["0 MiB", "8.00 MiB"]),
        ([math.nan, 2e-3], "s", ["not a number", "2.00 ms"]),
        ([], "s", []),
    ],
)
def test_figures_together_show_that_they_differ(values: list[float | None], unit: str, texts: list[str]) -> None:
    assert units.together(values, unit) == texts


def test_signs_are_written_on_demand() -> None:
    assert units.together([0.5, -0.25, 0.0], "1", signed=True) == ["+0.500", "-0.250", "0"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (0.031, "+3.1 %"),
        (-0.031, "-3.1 %"),
        (0.0, "0.0 %"),
        (-0.0, "0.0 %"),
        (-1e-12, "0.0 %"),
        (0.0004, "+0.04 %"),
        (512 / 2**30, "+0.00005 %"),
        (0.0009501, "+0.1 %"),
        (0.9994, "+99.9 %"),
        (0.9996, "+100 %"),
        (31.0, "+3100 %"),
        (1e308, "+1.00 x 10^310 %"),
        (math.nan, "not a number"),
        (math.inf, "infinite"),
        (None, "-"),
    ],
)
def test_a_change_is_a_signed_percentage(change: float | None, text: str) -> None:
    assert units.percent(change) == text


@given(changes)
def test_a_change_never_reads_as_minus_zero_and_can_be_read_back(change: float) -> None:
    text = units.percent(change)
    number = float(text.removesuffix(" %"))
    assert "e" not in text
    assert text[0] == ("-" if number < 0 else "+" if number > 0 else "0")
    assert number / 100 == pytest.approx(change, rel=0.5, abs=6e-9)
    assert abs(number - change * 100) <= max(0.05, abs(change) * 0.5) + 1e-9


@given(changes, changes)
@example(0.00095, 0.000951)
def test_the_order_of_changes_survives(one: float, other: float) -> None:
    low, high = (float(units.percent(change).removesuffix(" %")) for change in sorted((one, other)))
    assert low <= high


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (0.02, "2 %"),
        (0.025, "2.5 %"),
        (0.0, "0 %"),
        (0.93, "93 %"),
        (0.9341, "93.4 %"),
        (1.5, "150 %"),
        (0.00926, "0.926 %"),
        (1e-9, "1.00 x 10^-7 %"),
        (1e20, "1.00 x 10^22 %"),
        (math.inf, "infinite"),
        (None, "-"),
    ],
)
def test_a_share_has_no_sign_and_no_empty_digits(part: float | None, text: str) -> None:
    assert units.share(part) == text


def test_the_figures_of_a_metric_share_its_unit() -> None:
    metric = MetricVerdict(
        "device_time", "s", 31.2e-6, Verdict.REGRESSED, baseline=30e-6, change=0.04, low=0.031, high=0.049, limit=0.02,
        detectable=0.01234,
    )  # fmt: skip
    assert units.figures(metric) == units.Figures("31.2 us", "30.0 us", "+4.0 %", "[+3.1 %, +4.9 %]", "2 %", "1.2 %")


def test_changes_from_a_baseline_of_zero_are_in_the_metric_s_unit() -> None:
    metric = MetricVerdict(
        "memory", "B", 8 * 2**20, Verdict.REGRESSED, baseline=0.0, change=8 * 2**20, low=8 * 2**20, high=8 * 2**20,
        limit=2**19, detectable=0.0, relative=False,
    )  # fmt: skip
    assert units.figures(metric) == units.Figures(
        "8.00 MiB", "0 MiB", "+8.00 MiB", "[+8.00 MiB, +8.00 MiB]", "0.500 MiB", "0 MiB"
    )


def test_a_metric_without_a_baseline_shows_its_value_only() -> None:
    metric = MetricVerdict("wall_time", "s", 0.25, Verdict.NEW)
    assert units.figures(metric) == units.Figures("250.0 ms", "-", "-", "-", "-", "-")


def test_things_are_counted_in_words() -> None:
    assert [units.count(1, "process", "processes"), units.count(4, "process", "processes")] == [
        "1 process",
        "4 processes",
    ]
    assert [units.count(0, "case"), units.count(1, "case")] == ["0 cases", "1 case"]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("sm_clock_mhz", [1755, 1980], "sm clock 1755 MHz to 1980 MHz"),
        ("sm_clock_mhz", [1980, 1980], "sm clock 1980 MHz"),
        ("throttle_reasons", ["power cap", "thermal (hardware)"], "throttle reasons power cap, thermal (hardware)"),
        ("throttle_reasons", [], "throttle reasons none"),
        ("temperature_c", 61, "temperature 61 C"),
        ("power_w", 702, "power 702 W"),
        ("other_processes", 2, "other processes 2"),
        ("memory_reserved_bytes", 2**21, "memory reserved 2.00 MiB"),
        ("load", 1.75, "load 1.75"),
        ("pinned", True, "pinned yes"),
        ("s", 3, "s 3"),
        ("governor", "performance", "governor performance"),
        ("temperature_c", None, "temperature -"),
    ],
)
def test_conditions_are_written_with_the_unit_in_their_name(name: str, value: object, text: str) -> None:
    assert units.condition(name, value) == text


@pytest.mark.parametrize(
    ("text", "unit", "limit"),
    [
        ("2%", None, Limit(0.02)),
        (" 2.5 % ", None, Limit(0.025)),
        ("0", None, Limit()),
        ("0%", None, Limit()),
        ("0.3us", None, Limit(0.0, 3e-7)),
        ("0.3 µs", None, Limit(0.0, 3e-7)),
        ("1MiB", None, Limit(0.0, 2.0**20)),
        ("512 B", "B", Limit(0.0, 512.0)),
        ("2% or 0.25us", None, Limit(0.02, 2.5e-7)),
        ("0.25us or 2%", "s", Limit(0.02, 2.5e-7)),
        ("1% or 2%", None, Limit(0.02)),
        ("1e-3 s", "s", Limit(0.0, 1e-3)),
        ("10 GB/s", "B/s", Limit(0.0, 1e10)),
        ("0.05", "1", Limit(0.0, 0.05)),
        ("3", "count", Limit(0.0, 3.0)),
        ("5 tokens/s", "tokens/s", Limit(0.0, 5.0)),
        ("0.5ms", "ms", Limit(0.0, 0.5)),
    ],
)
def test_a_limit_is_a_share_an_amount_or_both(text: str, unit: str | None, limit: Limit) -> None:
    read = units.parse_limit(text, unit)
    assert read.relative == pytest.approx(limit.relative)
    assert read.absolute == pytest.approx(limit.absolute)


@pytest.mark.parametrize(
    ("text", "unit", "why"),
    [
        ("", None, "it is not a share or an amount"),
        ("fast", None, "it is not a share or an amount"),
        ("nan%", None, "it is not a share or an amount"),
        ("1e999us", None, "it is not a share or an amount"),
        ("2% or", None, "% or is not a unit of time, memory or throughput"),
        ("-2%", None, "a limit cannot be negative"),
        ("2", None, "2 has no unit"),
        ("2% or 3", "s", "3 has no unit"),
        ("5 furlongs", None, "furlongs is not a unit of time, memory or throughput"),
        ("1MiB", "s", "1MiB is not an amount of s"),
        ("0.3us", "1", "0.3us is not a plain number"),
        ("1 us 2", None, "us 2 is not a unit of time, memory or throughput"),
    ],
)
def test_a_limit_that_cannot_be_read_is_refused(text: str, unit: str | None, why: str) -> None:
    with pytest.raises(SettingError) as raised:
        units.parse_limit(text, unit)
    assert str(raised.value) == f"limit {text!r} cannot be used: {why}\n{FORMS}"


@given(st.floats(min_value=1e-12, max_value=1e14), st.sampled_from(["s", "B", "B/s", "FLOP/s", "Hz"]))
def test_what_is_written_can_be_a_limit(amount: float, unit: str) -> None:
    text = units.quantity(amount, unit)
    if "x" not in text:
        assert units.parse_limit(text, unit).absolute == pytest.approx(amount, rel=5.1e-3)
