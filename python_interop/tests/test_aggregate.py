"""Aggregates: what the statistics module finds, to within 1e-9."""
import random
import statistics

import pytest

from scripts.aggregate import Aggregator, aggregate


def test_a_single_row_has_no_deviation():
    one = aggregate("d", "temp", [22.7])
    assert (one.min_value, one.max_value, one.avg_value, one.std_dev, one.median_value, one.count) == (
        22.7, 22.7, 22.7, None, 22.7, 1,
    )  # fmt: skip


def test_equal_values_have_themselves_as_mean_and_no_spread():
    same = aggregate("d", "co", [0.1] * 3)
    assert (same.avg_value, same.std_dev, same.median_value) == (0.1, 0.0, 0.1)


def test_an_even_median_lies_between_the_two_middle_values():
    assert aggregate("d", "co", [4.0, 1.0, 2.0, 3.0]).median_value == 2.5


@pytest.mark.parametrize("count", [2, 3, 10, 999])
def test_equals_a_computation_in_fractions(count):
    values = [random.Random(count).uniform(-50, 50) for _ in range(count)]
    got = aggregate("d", "temp", values)
    assert (got.min_value, got.max_value, got.count) == (min(values), max(values), count)
    assert got.avg_value == pytest.approx(statistics.mean(values), abs=1e-9)
    assert got.std_dev == pytest.approx(statistics.stdev(values), abs=1e-9)
    assert got.median_value == pytest.approx(statistics.median(values), abs=1e-9)


def test_devices_come_in_order_with_all_metrics():
    aggregator = Aggregator(["co", "temp"])
    for device in ["b", "a", "b"]:
        aggregator.add(device, [0.5, 20.0])
    keys = [(row.device, row.metric, row.count) for row in aggregator.aggregates()]
    assert keys == [("a", "co", 1), ("a", "temp", 1), ("b", "co", 2), ("b", "temp", 2)]
