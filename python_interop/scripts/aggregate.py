"""Statistics per device and metric (docs/ingest-rules.md, "Aggregates").

The median is exact, so all values are held: 8 bytes each. Sums are `math.fsum`'s, so that no error grows with the rows.
"""
from array import array
from dataclasses import dataclass
from math import fsum, sqrt


@dataclass(frozen=True)
class Aggregate:
    """A row of aggregated_metrics."""

    device: str
    metric: str
    min_value: float
    max_value: float
    avg_value: float
    std_dev: float | None
    median_value: float
    count: int


class Aggregator:
    def __init__(self, metrics):
        self._metrics = tuple(metrics)
        self._devices = {}

    def add(self, device, values):
        """Takes one row in; `values` are in the order of the metrics."""
        arrays = self._devices.get(device)
        if arrays is None:
            arrays = self._devices[device] = [array("d") for _ in self._metrics]
        for held, value in zip(arrays, values):
            held.append(value)

    def aggregates(self):
        """By device, and then in the order of the metrics."""
        return [
            aggregate(device, metric, values)
            for device, arrays in sorted(self._devices.items())
            for metric, values in zip(self._metrics, arrays)
        ]


def aggregate(device, metric, values):
    values = sorted(values)
    count, low, high = len(values), values[0], values[-1]
    # Rounding may carry the mean of equal values past them.
    mean = min(max(fsum(values) / count, low), high)
    # Of a sample: a single row has none.
    std_dev = sqrt(fsum((value - mean) ** 2 for value in values) / (count - 1)) if count > 1 else None
    median = values[count // 2] if count % 2 else (values[count // 2 - 1] + values[count // 2]) / 2
    return Aggregate(device, metric, low, high, mean, std_dev, median, count)
