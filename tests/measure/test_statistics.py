"""Medians, ratios, scaling exponents and crossovers of data whose true values are known."""

from collections.abc import Sequence

import numpy as np
import pytest

from harness.statistics import growth, intervals

LENGTHS = (256, 512, 1024, 2048, 4096)


def _times(
    rng: np.random.Generator, scale: float, power: float, noise: float = 0.0, lengths: Sequence[int] = LENGTHS
) -> dict[int, intervals.Estimate]:
    """Times of a power law with log-normal noise, 25 samples per length; the median of the noise is 1."""
    return {
        n: intervals.bootstrap_median(
            (scale * float(n) ** power * np.exp(noise * rng.standard_normal(25))).tolist(), rng
        )
        for n in lengths
    }


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_median_lies_inside_its_interval() -> None:
    result = intervals.bootstrap_median([5.0, 1.0, 2.0, 3.0, 4.0, 3.0, 100.0], _rng())
    assert result.value == 3.0
    assert result.low is not None
    assert result.high is not None
    assert 1.0 <= result.low < 3.0 < result.high <= 100.0
    assert result.samples == 7


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_an_interval_of_few_samples_covers_the_truth_at_its_nominal_level(count: int) -> None:
    rng = _rng(1)
    estimates = [intervals.bootstrap_median(np.exp(rng.normal(0.0, 0.03, count)), rng) for _ in range(1000)]
    assert all(e.low <= e.value <= e.high for e in estimates if e.low is not None and e.high is not None)
    assert 0.93 <= np.mean([e.low <= 1.0 <= e.high for e in estimates if e.low and e.high]) <= 0.97
    ratios = [intervals.ratio(one, other) for one, other in zip(estimates[::2], estimates[1::2], strict=True)]
    assert np.mean([e.low <= 1.0 <= e.high for e in ratios if e.low and e.high]) >= 0.93


def test_an_interval_of_few_samples_with_a_zero_has_finite_bounds() -> None:
    result = intervals.bootstrap_median([0.0, 1.0, 2.0], _rng())
    assert result.low is not None
    assert result.high is not None
    assert result.low < 0.0 < result.value < 2.0 < result.high < 10.0


def test_one_sample_has_no_interval() -> None:
    result = intervals.bootstrap_median([2.0], _rng())
    assert (result.value, result.low, result.high, result.samples) == (2.0, None, None, 1)


@pytest.mark.parametrize("bad", [[], [1.0, float("nan")], [float("inf")]])
def test_median_refuses_missing_and_non_finite_samples(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="one or more finite numbers"):
        intervals.bootstrap_median(bad, _rng())


def test_same_seed_gives_same_interval() -> None:
    samples = _rng(3).standard_normal(20).tolist()
    first, again = intervals.bootstrap_median(samples, _rng(7)), intervals.bootstrap_median(samples, _rng(7))
    assert (first.low, first.high) == (again.low, again.high)


def test_median_interval_covers_the_truth_at_its_nominal_level() -> None:
    rng = _rng(1)
    estimates = [intervals.bootstrap_median(rng.exponential(1.0, 30).tolist(), rng) for _ in range(400)]
    hits = sum(e.low <= np.log(2) <= e.high for e in estimates if e.low is not None and e.high is not None)
    assert 0.90 <= hits / 400 <= 0.99


def test_ratio_of_two_cases() -> None:
    rng = _rng(2)
    slow, fast = (
        intervals.bootstrap_median([4.0, 4.1, 3.9, 4.0], rng),
        intervals.bootstrap_median([2.0, 2.05, 1.95, 2.0], rng),
    )
    result = intervals.ratio(slow, fast)
    assert result.value == pytest.approx(2.0)
    assert result.low is not None
    assert result.high is not None
    assert 1.8 < result.low < 2.0 < result.high < 2.2


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0])
def test_exponent_of_an_exact_power_law(power: float) -> None:
    result = growth.scaling_exponent(_times(_rng(), 1e-6, power), from_length=512)
    assert isinstance(result, growth.Exponent)
    assert result.value == pytest.approx(power)
    assert result.low == pytest.approx(power)
    assert result.lengths == (512, 1024, 2048, 4096)


def test_exponent_interval_covers_the_truth_at_its_nominal_level() -> None:
    rng = _rng(4)
    hits = 0
    for _ in range(300):
        result = growth.scaling_exponent(_times(rng, 1e-6, 2.0, noise=0.1), from_length=256)
        assert isinstance(result, growth.Exponent)
        assert result.low is not None
        assert result.high is not None
        hits += result.low <= 2.0 <= result.high
    assert 0.89 <= hits / 300 <= 0.995


def test_exponent_ignores_short_lengths_and_reports_too_few_lengths() -> None:
    times = _times(_rng(), 1e-6, 2.0) | {64: intervals.bootstrap_median([1.0, 1.0], _rng())}
    result = growth.scaling_exponent(times, from_length=256)
    assert isinstance(result, growth.Exponent)
    assert result.value == pytest.approx(2.0)
    short = growth.scaling_exponent(times, from_length=2048)
    assert isinstance(short, growth.NoAnswer)
    assert "not enough lengths: 2 from 2,048 on" in short.reason


def test_crossover_of_two_power_laws_is_their_intersection() -> None:
    rng = _rng()
    result = growth.crossover(_times(rng, 1000.0, 1.0), _times(rng, 1.0, 2.0))
    assert isinstance(result, growth.Crossover)
    assert result.verdict == "faster from"
    assert result.length == pytest.approx(1000.0)
    assert result.agreement == 1.0
    assert result.crossings == 1


def test_crossover_to_slower() -> None:
    rng = _rng()
    result = growth.crossover(_times(rng, 1.0, 2.0), _times(rng, 1000.0, 1.0))
    assert isinstance(result, growth.Crossover)
    assert result.verdict == "slower from"
    assert result.length == pytest.approx(1000.0)


def test_crossover_interval_covers_the_truth_at_its_nominal_level() -> None:
    rng = _rng(5)
    hits = 0
    for _ in range(300):
        result = growth.crossover(_times(rng, 1000.0, 1.0, noise=0.1), _times(rng, 1.0, 2.0, noise=0.1))
        assert isinstance(result, growth.Crossover)
        assert result.low is not None
        assert result.high is not None
        hits += result.low <= 1000.0 <= result.high
    assert 0.89 <= hits / 300 <= 0.995


@pytest.mark.parametrize(
    ("scale", "power", "verdict"),
    [
        (0.5, 2.0, "faster everywhere"),
        (1e-9, 1.0, "faster everywhere"),
        (2.0, 2.5, "slower everywhere"),
        (8192.0, 1.0, "not reached in range"),
    ],
)
def test_verdicts_without_crossing_have_no_length(scale: float, power: float, verdict: str) -> None:
    rng = _rng()
    result = growth.crossover(_times(rng, scale, power, noise=0.01), _times(rng, 1.0, 2.0))
    assert isinstance(result, growth.Crossover)
    assert result.verdict == verdict
    assert result.length is None
    assert result.low is None


def test_crossing_near_the_shortest_length_has_an_open_interval() -> None:
    rng = _rng(6)
    result = growth.crossover(_times(rng, 260.0, 1.0, noise=0.3), _times(rng, 1.0, 2.0, noise=0.3))
    assert isinstance(result, growth.Crossover)
    assert result.verdict == "faster from"
    assert result.low == -np.inf
    assert result.high is not None
    assert np.isfinite(result.high)


def test_equal_times_are_not_faster() -> None:
    times = _times(_rng(), 1.0, 1.0)
    result = growth.crossover(times, times)
    assert isinstance(result, growth.Crossover)
    assert result.verdict == "slower everywhere"


def test_repeated_crossings_are_counted_and_the_last_is_reported() -> None:
    rng = _rng()
    flat = {n: intervals.bootstrap_median([1.0, 1.0], rng) for n in LENGTHS}
    zigzag = {
        n: intervals.bootstrap_median([t, t], rng) for n, t in zip(LENGTHS, (2.0, 0.5, 2.0, 0.5, 0.5), strict=True)
    }
    result = growth.crossover(zigzag, flat)
    assert isinstance(result, growth.Crossover)
    assert result.crossings == 3
    assert result.length == pytest.approx(np.sqrt(1024 * 2048))


def test_crossover_needs_two_common_lengths() -> None:
    rng = _rng()
    result = growth.crossover(_times(rng, 1.0, 1.0, lengths=(256, 512)), _times(rng, 1.0, 2.0, lengths=(512, 1024)))
    assert isinstance(result, growth.NoAnswer)
    assert "1 measured for both" in result.reason


def test_single_samples_give_a_crossing_without_interval() -> None:
    rng = _rng()
    a = {n: intervals.bootstrap_median([1000.0 * n], rng) for n in LENGTHS}
    b = {n: intervals.bootstrap_median([float(n) ** 2], rng) for n in LENGTHS}
    result = growth.crossover(a, b)
    assert isinstance(result, growth.Crossover)
    assert result.length == pytest.approx(1000.0)
    assert (result.low, result.high) == (None, None)
