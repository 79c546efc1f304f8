"""The metrics as Prometheus reads them, by prometheus_client."""

from collections.abc import Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from coupon.runtime.instruments import ALL, BUCKETS_S, Cells, Gauge, Instrument, Labels, Numbers

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
"""Every Prometheus reads it."""
BOUNDS = [*map(floatToGoString, BUCKETS_S), "+Inf"]
Asked = Mapping[Gauge, Mapping[Labels, float]]
"""The values that were asked for at this scrape."""
NOTHING: Asked = {}


def text(numbers: Numbers, asked: Asked = NOTHING, more: Collector | None = None) -> bytes:
    """The numbers, and the values that were asked for. ``more`` has further metrics."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Shown(numbers, asked))
    if more is not None:
        registry.register(more)
    return generate_latest(registry)


class _Shown(Collector):
    def __init__(self, numbers: Numbers, asked: Asked) -> None:
        self._numbers, self._asked = numbers, asked

    def collect(self) -> Iterator[Metric]:
        asked = {gauge.name: values for gauge, values in self._asked.items()}
        for instrument in ALL:
            cells = self._numbers.get(instrument.name, {}) | {
                labels: [value] for labels, value in asked.get(instrument.name, {}).items()
            }
            if cells:
                yield _family(instrument, cells)


def _family(instrument: Instrument, cells: Cells) -> Metric:
    name, help_text, labels = instrument.name, instrument.help_text, instrument.labels
    if instrument.kind == "histogram":
        histogram = HistogramMetricFamily(name, help_text, labels=labels)
        for values, (*buckets, total) in sorted(cells.items()):
            histogram.add_metric(values, list(zip(BOUNDS, accumulate(buckets), strict=True)), total)
        return histogram
    family = (CounterMetricFamily if instrument.kind == "counter" else GaugeMetricFamily)(
        name, help_text, labels=labels
    )
    for values, (value,) in sorted(cells.items()):
        family.add_metric(values, value)
    return family
