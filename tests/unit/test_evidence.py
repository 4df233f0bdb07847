"""The e-process: what it promises, and what it costs, by simulation with fixed seeds."""

import math

import numpy as np
import pytest

from headrace.processors.evidence import BATCHES, RATES, TERMS, at_least, batched, log_e, spread

LEVEL = math.log(1 / 0.05)


def powers(differences):
    """The sums of the first four powers of the differences, after each of them."""
    return np.cumsum(np.asarray(differences)[:, None] ** np.arange(1, 5), axis=0).tolist()


def first_above(differences):
    """At which of the differences the e-process, watched after every one, is first above 20; None if never."""
    for n, sums in enumerate(powers(differences), 1):
        if log_e(sums) >= LEVEL:
            return n
    return None


def equal(rng, n):
    """Differences of two models that are equally good."""
    return np.clip(rng.normal(0.0, 0.3, n), -1, 1)


def rare(rng, n):
    """Mostly no difference, now and then the largest there is."""
    return rng.choice([-1.0, 0.0, 1.0], p=[0.02, 0.96, 0.02], size=n)


def skewed(rng, n):
    """Often a little better, seldom much worse, equal on the whole: what fools a test that trusts a normal law."""
    return rng.choice([0.05, -0.95], p=[0.95, 0.05], size=n)


def drifting(rng, n):
    """The range of the differences grows from a tenth of the largest to all of it."""
    return rng.uniform(-1, 1, n) * np.linspace(0.1, 1.0, n)


def turns(rng, n):
    """Worse first, then as much better: never better on the whole."""
    return np.clip(rng.normal(0.0, 0.2, n) + np.where(np.arange(n) < n // 2, -0.05, 0.05), -1, 1)


@pytest.mark.parametrize("law", [equal, rare, skewed, drifting, turns])
def test_no_difference_is_seldom_taken_for_one(law):
    """Of 200 streams of 500 without a difference, watched after each example, at most 5 % ever cross."""
    rng = np.random.default_rng(5)
    crossed = sum(first_above(law(rng, 500)) is not None for _ in range(200))
    assert crossed <= 10


@pytest.mark.parametrize("d", np.linspace(-1, 1, 41))
def test_one_step_never_gains_more_than_the_bet(d):
    """No share gains more than 1 + r d by any difference: what makes the process a supermartingale."""
    for rate, (a, b, c, k) in zip(RATES, TERMS, strict=True):
        assert math.exp(a * d - b * d**2 + c * d**3 - k * d**4) <= 1.0 + rate * d + 1e-12


def test_a_difference_is_found_and_a_larger_one_sooner():
    """Median numbers of examples to evidence fall with the size of the difference."""
    rng = np.random.default_rng(6)
    found = [
        np.median([first_above(np.clip(rng.normal(mean, 0.2, 3_000), -1, 1)) or 3_000 for _ in range(15)])
        for mean in (0.02, 0.05, 0.1)
    ]
    assert 3_000 > found[0] > found[1] > found[2]


def test_the_lower_end_is_below_the_mean_and_comes_closer():
    """The confidence sequence covers a true mean of 0.1 at every tenth example, and narrows."""
    rng = np.random.default_rng(7)
    d = np.clip(rng.normal(0.1, 0.2, 2_000), -1, 1)
    sums = powers(d)
    ends = [at_least(n, sums[n - 1], LEVEL) for n in range(100, 2_001, 10)]
    assert max(ends) < 0.1
    assert ends[-1] > 0.07 > ends[0]


def test_the_lower_end_is_above_zero_exactly_when_the_test_rejects():
    """The confidence sequence and the test say the same."""
    rng = np.random.default_rng(8)
    sums = powers(np.clip(rng.normal(0.05, 0.2, 600), -1, 1))
    said = {(at_least(n, each, LEVEL) >= -1e-9, log_e(each) >= LEVEL) for n, each in enumerate(sums, 1)}
    assert said == {(False, False), (True, True)}


def test_batches_are_merged_and_lose_nothing():
    """However many come, a few dozen stay, and their sum is that of all."""
    batches, length = [], 50
    for n in range(1_000):
        length = batched(batches, length, float(n))
        assert len(batches) < BATCHES
    assert length > 50
    assert sum(batches) <= sum(range(1_000))
    assert sum(batches) >= sum(range(1_000 - BATCHES))


def spread_of(differences, length=50):
    """The spread of differences taken in batches of this length."""
    batches = []
    for part in np.asarray(differences).reshape(-1, 50):
        length = batched(batches, length, float(sum(part))) if length == 50 else length
    return spread(batches, length, len(differences), float(sum(differences)), float(sum(differences**2)))


def test_dependent_differences_count_less():
    """Independent differences have a spread near 1, those that keep their sign for 25 examples one of about 25."""
    rng = np.random.default_rng(9)
    free = rng.normal(0, 0.2, 1_500)
    held = np.repeat(rng.normal(0, 0.2, 60), 25)
    assert 1.0 <= spread_of(free) < 2.0
    assert 12.0 < spread_of(held) < 50.0


def test_too_few_batches_are_no_evidence():
    """With fewer than eight batches nobody knows how much they vary."""
    assert spread([1.0] * 7, 50, 350, 7.0, 3.0) == math.inf


@pytest.mark.parametrize("d", [0.05, 0.1, 0.4])
@pytest.mark.parametrize("first", [50, 67])
def test_differences_that_are_all_the_same_do_not_vary(d, first):
    """What rounding leaves of their variance makes nothing of batches of different sizes."""
    batches, length, ends = [], 50, range(first, 1_001, 50)
    sums = powers(np.full(1_000, d))
    for since, end in zip((0, *ends), ends, strict=False):
        length = batched(batches, length, sums[end - 1][0] - (sums[since - 1][0] if since else 0.0))
    assert spread(batches, length, 1_000, *sums[-1][:2]) == 1.0
