"""Are lasting changes found, and nothing else? Judged on labelled series; what is asserted leaves room for chance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfgate.history import changes
from perfgate.history.changes import Change, change_points
from perfgate.history.trends import drift, noisier

NIGHTS = 200
LEVEL, NOISE = 100.0, 1.0
#: How far a date may be off, by the size of the step in noises.
NEAR = {1: 12, 2: 4, 3: 2, 5: 1}


def labelled(kind: str, seed: int, nights: int = NIGHTS, at: int = NIGHTS // 2) -> tuple[np.ndarray, list[int]]:
    """Make a series of a kind, and where its level changed."""
    random = np.random.default_rng([seed, *kind.encode()])
    values = random.normal(LEVEL, NOISE, nights)
    if kind.startswith("step "):
        values[at:] += float(kind.removeprefix("step ")) * NOISE
        return values, [at]
    if kind == "two steps":
        values[at:] += 4 * NOISE
        values[at + 40 :] -= 4 * NOISE
        return values, [at, at + 40]
    if kind == "drift":
        values += np.linspace(0, 10 * NOISE, nights)
    elif kind == "spikes":
        # Single ones: two within a few nights are no spike any more.
        values[random.permutation(np.arange(4, nights, 15))[:6]] += random.uniform(5, 30, 6) * NOISE
    elif kind == "variance":
        values[at:] = LEVEL + (values[at:] - LEVEL) * 3
    elif kind == "modes":
        values += (random.random(nights) < 0.3) * 6 * NOISE
    else:
        assert kind == "quiet"
    return values, []


def places(values) -> list[int]:
    return [change.index for change in change_points(values)]


@pytest.mark.parametrize(("kind", "most"), [("quiet", 2), ("spikes", 3), ("drift", 4), ("variance", 4), ("modes", 2)])
def test_what_is_no_change_is_seldom_taken_for_one(kind, most):
    alarms = [seed for seed in range(40) if places(labelled(kind, seed)[0])]
    assert len(alarms) <= most, alarms


@pytest.mark.parametrize(("kind", "least"), [("step 1", 6), ("step 2", 34), ("step 3", 38), ("step 5", 38)])
def test_a_step_is_found_and_dated(kind, least):
    near = NEAR[int(kind[-1])]
    right = 0
    for seed in range(40):
        values, [at] = labelled(kind, seed)
        found = places(values)
        right += len(found) == 1 and abs(found[0] - at) <= near
    assert right >= least


def test_a_step_and_the_way_back_are_two_changes():
    right = 0
    for seed in range(30):
        values, labels = labelled("two steps", seed)
        found = places(values)
        right += len(found) == 2 and all(abs(one - two) <= 2 for one, two in zip(found, labels, strict=True))
    assert right >= 28


@pytest.mark.parametrize(
    ("size", "nights", "least"), [(3, 3, 0.92), (3, 4, 0.94), (4, 3, 0.99), (5, 3, 0.99), (30, 3, 1)]
)
def test_a_step_is_known_two_nights_after_it_happened(size, nights, least):
    """Of steps three times the noise 95 % are: 569 of 600; of the 300 here, 279."""
    found = 0
    for seed in range(300):
        values, _ = labelled(f"step {size}", seed, 80 + nights, 80)
        found += any(abs(place - 80) <= 2 for place in places(values))
    assert found >= least * 300


@pytest.mark.parametrize(("size", "most"), [(3, 3), (5, 1)])
def test_the_nights_that_may_have_been_the_first_hold_it(size, most):
    """Whenever a step is found: also where it has two nights as yet, and the one before them was slow by chance."""
    found, right, lengths = 0, 0, []
    for seed in range(60):
        values, _ = labelled(f"step {size}", seed, 90, 80)
        for nights in (2, 3, 4, 6, 10):
            for each in change_points(values[: 80 + nights]):
                if each.index >= 75:
                    assert each.earliest <= each.index <= each.latest
                    found += 1
                    right += each.earliest <= 80 <= each.latest
                    lengths += [each.latest - each.earliest + 1] if nights >= 3 else []
    assert found >= 230
    assert right >= 0.98 * found
    assert np.median(lengths) <= most


def test_a_date_stays_with_each_night_that_follows():
    """It is where two levels explain the nights best, however many nights a rule would rather have."""
    for nights in (3, 4, 5, 6, 8):
        dates = [places(labelled("step 6", seed, 80 + nights, 80)[0]) for seed in range(30)]
        assert sum(found == [80] for found in dates) >= 28


def test_a_spike_beside_slow_nights_is_no_change():
    """Cut to three times the noise, it would make a level of two nights that were slow by chance."""
    alarms = 0
    for seed in range(60):
        values = np.random.default_rng([seed, 9]).normal(LEVEL, NOISE, 90)
        values[80] += 10 * NOISE
        alarms += any(place >= 72 for nights in (81, 82, 83, 85) for place in places(values[:nights]))
    assert alarms <= 1


def test_nights_that_resemble_their_neighbours_count_as_fewer():
    """A machine that is slower for a few nights, and faster for others, has not changed."""
    alarms = {}
    for name in ("as they are", "as if independent"):
        with pytest.MonkeyPatch.context() as patch:
            if name == "as if independent":
                patch.setattr(changes, "_resemblance", lambda level: 0.0)
            alarms[name] = 0
            for seed in range(60):
                random = np.random.default_rng(seed)
                noise = random.normal(0, NOISE, 90)
                for night in range(1, 90):
                    noise[night] = 0.6 * noise[night - 1] + 0.8 * noise[night]
                alarms[name] += bool(places(LEVEL + noise))
    assert alarms["as they are"] <= 0.6 * alarms["as if independent"]
    assert alarms["as if independent"] >= 10


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-9, 9), min_size=5, max_size=40),
    st.lists(st.floats(-9, 9), min_size=3, max_size=20),
    st.floats(0, 0.9),
)
def test_a_step_in_standard_errors_is_that_of_generalised_least_squares(left, right, alike):
    nights = np.arange(len(left) + len(right))
    weight = np.linalg.inv(alike ** np.abs(np.subtract.outer(nights, nights)))
    levels = np.stack([np.ones(len(nights)), nights >= len(left)], axis=1)
    variance = np.linalg.inv(levels.T @ weight @ levels)
    step = (variance @ levels.T @ weight @ np.array([*left, *right]))[1]
    found = changes._errors(np.array(left), np.array(right), alike)
    assert found == pytest.approx(step / math.sqrt(variance[1, 1]), rel=1e-6, abs=1e-6)


def test_a_step_is_known_among_nights_that_resemble_their_neighbours():
    """Judged by the mean of its three nights alone, 73 of these would be."""
    found = 0
    for seed in range(100):
        random = np.random.default_rng([seed, 80, 7])
        noise = random.normal(0, NOISE, 133)
        for night in range(1, 133):
            noise[night] = 0.5 * noise[night - 1] + math.sqrt(0.75) * noise[night]
        values = LEVEL + noise[50:]
        values[80:] += 3 * NOISE
        found += any(abs(place - 80) <= 2 for place in places(values))
    assert found >= 79


def test_night_by_night_there_are_few_false_alarms():
    alarms = nights = 0
    for seed in range(5):
        values, _ = labelled("quiet", seed, 140)
        known: list[int] = []
        for end in range(40, 140):
            found = places(values[:end])
            nights += 1
            alarms += any(all(abs(place - old) > 5 for old in known) for place in found)
            known += found
    assert nights == 500
    assert alarms <= 3


@pytest.mark.parametrize("after", [0, 1, 2, 3, 10])
@pytest.mark.parametrize("size", [4, 10, 1000])
def test_a_single_spike_is_no_change_however_large(size, after):
    for seed in range(6):
        values, _ = labelled("quiet", 1000 + seed, 61 + after)
        assert places(values) == []
        values[60] += size * NOISE
        assert places(values) == []


def test_figures_that_repeat_exactly_change_with_the_third_night():
    values = [4096.0] * 20
    assert change_points(values) == []
    assert change_points([*values, 8192.0, 8192.0]) == []
    [change] = change_points([*values, 8192.0, 8192.0, 8192.0])
    assert (change.index, change.before, change.after, change.share) == (20, 4096.0, 8192.0, 1.0)


def test_a_change_smaller_than_the_least_is_none():
    assert change_points([1e6] * 20 + [1e6 + 900.0] * 20) == []
    assert [change.index for change in change_points([1e6] * 20 + [1e6 + 1100.0] * 20)] == [20]
    assert change_points([1e6] * 20 + [1e6 + 1100.0] * 20, least=0.01) == []


def test_a_figure_that_was_nothing_has_no_share():
    [change] = change_points([0.0] * 10 + [5.0] * 5)
    assert (change.index, change.before, change.after) == (10, 0.0, 5.0)
    assert change.share is None


@pytest.mark.parametrize("nights", range(9))
def test_few_nights_say_nothing(nights):
    assert change_points([1.0, 1.1, 0.9, 1.0, 1.05, 0.95, 1.0, 1.02, 0.98][:nights]) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e12, 1e12), max_size=40))
def test_any_figures_give_changes_in_the_order_of_time(values):
    found = change_points(values)
    assert [change.index for change in found] == sorted({change.index for change in found})
    assert all(5 <= change.index <= len(values) - 3 for change in found)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.sampled_from([1e-9, 1e-3, 7.0, 1e9]))
def test_the_unit_of_a_figure_changes_nothing(seed, factor):
    values, _ = labelled("step 5", seed, 60, 30)
    assert places(values * factor) == places(values)


def test_a_slow_drift_beyond_the_limit_is_one_and_a_step_is_none():
    slow, _ = labelled("drift", 1)
    found = drift(slow, change_points(slow), allowed=5.0)
    assert found is not None
    assert found.index == 0
    assert 8.0 < found.after - found.before < 12.0
    assert found.allowed == 5.0
    assert drift(slow, [], allowed=15.0) is None
    step, [at] = labelled("step 8", 1)
    assert drift(step, change_points(step), allowed=5.0) is None
    # Not even where the rules for steps were not asked.
    assert drift(step, [], allowed=5.0) is None
    assert at in places(step)


def test_small_steps_that_add_up_beyond_the_limit_are_a_drift():
    values = np.concatenate([np.full(30, LEVEL + 2 * step) for step in range(4)])
    values += np.random.default_rng(1).normal(0, 0.2, len(values))
    changes = change_points(values)
    assert [change.index for change in changes] == [30, 60, 90]
    found = drift(values, changes, allowed=3.0)
    assert found is not None
    assert found.after - found.before == pytest.approx(6.0, abs=0.3)


def test_a_drift_after_a_large_step_begins_there():
    values = np.concatenate([np.full(40, 50.0), np.linspace(100.0, 120.0, 60)])
    values += np.random.default_rng(2).normal(0, 0.5, 100)
    found = drift(values, [Change(40, 50.0, 100.0, 0.5, 40, 40)], allowed=None)
    assert found is not None
    assert (found.index, found.allowed) == (40, pytest.approx(5.0, rel=0.02))
    assert drift(values[:60], [Change(40, 50.0, 100.0, 0.5, 40, 40)], allowed=None) is None


def test_a_drift_begins_where_it_may_have_begun():
    """Not with the first night of all: most commits before it are innocent."""
    noise = np.random.default_rng(4).normal(0, 0.3, 200)
    found = drift(LEVEL + np.maximum(np.arange(200) - 150, 0) * 0.2 + noise, [], allowed=5.0)
    assert found is not None
    assert 135 <= found.index <= 150
    whole = drift(LEVEL + np.arange(200) * 0.05 + noise, [], allowed=5.0)
    assert whole is not None
    assert whole.index <= 3


def test_a_drift_is_worth_telling_again_when_it_has_grown_by_another_limit():
    values = LEVEL + np.arange(140) * 0.1 + np.random.default_rng(5).normal(0, 0.2, 140)
    told = [None if (found := drift(values[:end], [], allowed=4.0)) is None else found.told for end in range(21, 141)]
    levels = list(dict.fromkeys(told))
    assert levels == [None, pytest.approx(104.3, abs=0.4), pytest.approx(108.3, abs=0.5), pytest.approx(112.3, abs=0.6)]
    back = np.concatenate([values[:60], np.full(20, LEVEL)])
    assert drift(back, [], allowed=4.0) is None


@pytest.mark.parametrize("kind", ["quiet", "spikes", "modes", "drift"])
def test_what_did_not_become_noisier_is_not_said_to(kind):
    alarms = [seed for seed in range(40) if noisier(labelled(kind, seed)[0], []) is not None]
    assert alarms == []


def test_a_case_that_became_noisier_is_found():
    found = 0
    for seed in range(40):
        values, _ = labelled("variance", seed, 104, 90)
        spread = noisier(values, change_points(values))
        found += spread is not None
        if spread is not None:
            assert spread.index == 90
            assert spread.after > 2 * spread.before
    # Three times the noise in 14 nights.
    assert found >= 24
    values, _ = labelled("variance", 0, 104, 90)
    values[90:] = LEVEL + (values[90:] - LEVEL) * 2
    assert noisier(values, []) is not None
    assert noisier(values[:30], []) is None


def test_a_figure_that_repeated_exactly_and_no_longer_does_became_noisier():
    values = [100.0] * 60 + [100.0 + 5 * math.sin(night) for night in range(14)]
    found = noisier(values, [])
    assert found is not None
    assert found.before == 0.0
