"""A metrics file for the textfile collector of Prometheus' node_exporter: whole or not there, never half.

https://github.com/prometheus/node_exporter#textfile-collector
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from monitor_cli.wholefile import write_whole

MODE = 0o644  # node_exporter is another user
_LARGEST = 1 << 20


def gauge(name: str, text: str, value: float) -> Metric:
    """A gauge of one value."""
    return GaugeMetricFamily(name, text, value=value)


def gauges(name: str, text: str, label: str, values: Iterable[tuple[str, float]]) -> Metric:
    """A gauge with a value for each of a label's."""
    family = GaugeMetricFamily(name, text, labels=[label])
    for of, value in values:
        family.add_metric([of], value)
    return family


class _Given:
    """A collector of what it is given."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


def write(path: str, metrics: Iterable[Metric]) -> None:
    """Write the metrics in place of what is there. Raises OSError, and then the old file is as it was."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Given(metrics))
    write_whole(path, generate_latest(registry), MODE)


def last_value(path: str, name: str) -> float | None:
    """The value of a gauge in the file as it is; None where it has none, or is no such file."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_LARGEST)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == name:
                    return sample.value
    except (OSError, ValueError):
        pass
    return None
