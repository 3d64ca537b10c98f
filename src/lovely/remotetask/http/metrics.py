"""The figures of a service for Prometheus.  Needs prometheus-client.

They are read from the books, where workers of all processes count: one scrape of any
process tells of the whole service, whatever runs where, and after a restart.
"""
from collections.abc import Iterator
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import CollectorRegistry

from lovely.remotetask.failure import clean

PREFIX = "remotetask_"
SPREADS = (
    ("wait", "waitedSpread", "waited", "Seconds from being queued to the start"),
    ("run", "ranSpread", "ran", "Seconds that attempts took"))


def exposition(service) -> tuple[bytes, str]:
    """The exposition of one service, and its content type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector(service))
    return generate_latest(registry), CONTENT_TYPE_LATEST


class Collector:
    """Reads the figures of one service; walks over no jobs."""

    def __init__(self, service: Any):
        self.service = service
        self.name = clean(service.__name__ or service.uuid)

    def describe(self):
        return ()

    def collect(self) -> Iterator[Any]:
        yield from self._present()
        yield from self._done()

    def _present(self) -> Iterator[Any]:
        jobs = GaugeMetricFamily(
            PREFIX + "jobs", "Jobs by status", labels=("service", "status"))
        for status, number in self.service.counts().items():
            jobs.add_metric((self.name, status), number)
        yield jobs
        yield self._gauge("oldest_waiting_seconds",
                          "How long the longest waiting queued job has waited",
                          self.service.oldestWaiting())
        workers = self.service.workers()
        yield self._gauge("workers", "Workers that are alive",
                          sum(1 for worker in workers if worker["alive"]))
        yield self._gauge("held_jobs", "Jobs in the hands of workers",
                          sum(len(worker["holds"]) for worker in workers))

    def _done(self) -> Iterator[Any]:
        attempts = CounterMetricFamily(
            PREFIX + "attempts", "Attempts that have ended, by task and how",
            labels=("service", "task", "outcome"))
        conflicts = CounterMetricFamily(
            PREFIX + "conflicts", "Attempts that were repeated because of a conflict",
            labels=("service", "task"))
        spreads = {name: HistogramMetricFamily(
            f"{PREFIX}{name}_seconds", text, labels=("service", "task"))
            for name, _, _, text in SPREADS}
        for task, figures in sorted(self.service.totals().items()):
            task = clean(task)
            for outcome in ("completed", "error", "cancelled", "retried"):
                attempts.add_metric((self.name, task, outcome), figures[outcome])
            conflicts.add_metric((self.name, task), figures["conflicts"])
            for name, spread, total, _ in SPREADS:
                spreads[name].add_metric(
                    (self.name, task), _buckets(figures["bounds"], figures[spread]),
                    figures[total])
        yield attempts
        yield conflicts
        yield from spreads.values()

    def _gauge(self, name: str, text: str, value: float) -> Any:
        gauge = GaugeMetricFamily(PREFIX + name, text, labels=("service",))
        gauge.add_metric((self.name,), value)
        return gauge


def _buckets(bounds, spread) -> list[tuple[str, int]]:
    """Numbers up to each bound, as Prometheus adds them up."""
    found, sum_ = [], 0
    for bound, number in zip((*map(str, bounds), "+Inf"), spread):
        sum_ += number
        found.append((bound, sum_))
    return found
