"""What Prometheus reads: requests as they end here, and what the engine, its plan and the GPUs say when asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gguf_vl import __version__
from gguf_vl.hardware.nvidia import Load
from gguf_vl.server.record import Record
from gguf_vl.types import Allocation, EngineStats, Used

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
Values = Mapping[Any, float]
"""A figure for each combination of labels, which is a tuple of texts."""
_RATES = (1, 2, 5, 10, 15, 20, 30, 40, 60, 80, 120, 160, 240, 320, 640)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found at a moment; None is unknown. `loaded` is the model in memory, empty for none."""

    loaded: str = ""
    deaths: int = 0
    stats: EngineStats | None = None
    planned: Sequence[Allocation] = ()
    used: Used | None = None
    gpus: Sequence[Load] = ()


class Metrics:
    """The counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self._engine = _Engine()
        self._registry = registry = CollectorRegistry()
        self._open = Gauge("gguf_vl_requests_open", "Requests that are being answered or wait.", registry=registry)
        self._requests = Counter(
            "gguf_vl_requests", "Requests that have ended.", ["dialect", "result"], registry=registry
        )
        self._seconds = Histogram(
            "gguf_vl_request_seconds",
            "From a request's head to the end of its answer.",
            ["dialect"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._first = Histogram(
            "gguf_vl_time_to_first_token_seconds",
            "From a request's head to the first token of its answer, waiting and loading included.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._rate = Histogram(
            "gguf_vl_decode_tokens_per_second",
            "Tokens per second of one answer, after its first.",
            buckets=_RATES,
            registry=registry,
        )
        self._prompt = Counter("gguf_vl_prompt_tokens", "Tokens of the prompts that were answered.", registry=registry)
        self._answer = Counter("gguf_vl_answer_tokens", "Tokens of whole answers.", registry=registry)
        registry.register(self._engine)
        ProcessCollector(registry=registry)

    def begun(self) -> None:
        """A request has come."""
        self._open.inc()

    def ended(self, record: Record, dialect: str, result: str, seconds: float) -> None:
        """It is over."""
        self._open.dec()
        self._requests.labels(dialect, result).inc()
        self._seconds.labels(dialect).observe(seconds)
        if record.first_token_s is not None:
            self._first.observe(record.first_token_s)
        for rate in record.decode_tps:
            self._rate.observe(rate)
        self._prompt.inc(record.prompt_tokens)
        self._answer.inc(record.answer_tokens)

    def page(self, seen: Seen) -> bytes:
        """Everything, in Prometheus' text format."""
        self._engine.seen = seen
        return generate_latest(self._registry)


class _Engine(Collector):
    """What was seen last, as metrics. The engine's own counters begin anew with each worker, as Prometheus expects."""

    def __init__(self) -> None:
        self.seen = Seen()

    def collect(self) -> Iterable[Metric]:
        """All of them."""
        seen = self.seen
        yield _gauge("gguf_vl_info", "The version that serves.", ("version",), {(__version__,): 1})
        loaded = {(seen.loaded,): 1.0} if seen.loaded else {}
        yield _gauge("gguf_vl_model_loaded", "The model that is in memory.", ("model",), loaded)
        yield _counter(
            "gguf_vl_worker_restarts", "Workers that ended by themselves and were replaced.", (), {(): seen.deaths}
        )
        if seen.stats:
            yield from _of_stats(seen.stats)
        yield from _of_memory(seen)
        yield from _of_gpus(seen.gpus)


def _of_stats(stats: EngineStats) -> Iterator[Metric]:
    yield _gauge("gguf_vl_queue_length", "Requests that wait for a slot.", (), {(): stats.waiting})
    yield _gauge("gguf_vl_slots", "Requests that can be answered at once.", (), {(): stats.seats})
    yield _gauge("gguf_vl_slots_busy", "Requests that are being answered.", (), {(): stats.running})
    yield _gauge("gguf_vl_cells", "Cells of the KV cache, one a token.", (), {(): stats.cells})
    yield _gauge("gguf_vl_cells_kept", "Cells kept for later requests.", (), {(): stats.kept_cells})
    hits = {
        ("prompt_token",): stats.tokens_reused,
        ("picture_memory",): stats.pictures_reused,
        ("picture_disk",): stats.pictures_from_disk,
        ("sequence_disk",): stats.restored,
    }
    yield _counter("gguf_vl_cache_hits", "What was found instead of computed.", ("kind",), hits)
    misses = {("prompt_token",): stats.prompt_tokens, ("picture",): stats.pictures_encoded}
    yield _counter("gguf_vl_cache_misses", "What had to be computed.", ("kind",), misses)
    seconds = {("encode",): stats.encode_s, ("prefill",): stats.prefill_s, ("decode",): stats.decode_s}
    yield _counter("gguf_vl_engine_seconds", "Seconds that the engine computed.", ("stage",), seconds)
    decoded = {(): stats.answer_tokens}
    yield _counter("gguf_vl_decoded_tokens", "Tokens computed for answers, also cut off ones.", (), decoded)
    drafted = {("accepted",): stats.accepted, ("rejected",): stats.drafted - stats.accepted}
    yield _counter("gguf_vl_drafted_tokens", "Tokens that were guessed ahead.", ("outcome",), drafted)
    yield _counter("gguf_vl_preempted", "Requests begun again for want of cells.", (), {(): stats.preempted})
    kept = {("memory",): stats.embedding_bytes, ("disk",): stats.disk_bytes}
    yield _gauge("gguf_vl_kept_bytes", "Pictures and talks kept for later.", ("where",), kept)
    yield _gauge("gguf_vl_stuck_seconds", "Since when native code has got no further.", (), {(): stats.stuck_s})


def _of_memory(seen: Seen) -> Iterator[Metric]:
    names = ("device", "purpose")
    yield _gauge("gguf_vl_planned_bytes", "What the plan gives a loaded model.", names, _summed(seen.planned))
    used = _summed(seen.used.buffers) if seen.used else {}
    yield _gauge("gguf_vl_used_bytes", "What llama.cpp says it has allocated.", names, used)
    devices = {(device,): n_bytes for device, n_bytes in seen.used.devices.items()} if seen.used else {}
    yield _gauge("gguf_vl_device_used_bytes", "How much less is free on a GPU since the load.", ("device",), devices)
    resident = {(): seen.used.resident} if seen.used else {}
    yield _gauge("gguf_vl_worker_resident_bytes", "The worker's part of main memory, once loaded.", (), resident)


def _summed(allocations: Iterable[Allocation]) -> dict[tuple[str, ...], float]:
    sums: dict[tuple[str, ...], float] = {}
    for each in allocations:
        key = (each.device, each.purpose)
        sums[key] = sums.get(key, 0) + each.n_bytes
    return sums


def _of_gpus(gpus: Sequence[Load]) -> Iterator[Metric]:
    names = ("id", "name")
    busy = {(gpu.id, gpu.name): gpu.busy for gpu in gpus if gpu.busy is not None}
    used = {(gpu.id, gpu.name): gpu.used for gpu in gpus if gpu.used is not None}
    total = {(gpu.id, gpu.name): gpu.total for gpu in gpus if gpu.total is not None}
    yield _gauge(
        "gguf_vl_gpu_load_ratio", "Share of the last moments in which a GPU computed, for anybody.", names, busy
    )
    yield _gauge("gguf_vl_gpu_memory_used_bytes", "Memory of a GPU that is taken, by anybody.", names, used)
    yield _gauge("gguf_vl_gpu_memory_bytes", "Memory of a GPU.", names, total)


def _gauge(name: str, what: str, labels: Sequence[str], values: Values) -> Metric:
    return _filled(GaugeMetricFamily(name, what, labels=labels), values)


def _counter(name: str, what: str, labels: Sequence[str], values: Values) -> Metric:
    return _filled(CounterMetricFamily(name, what, labels=labels), values)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, values: Values) -> Metric:
    for label_values, value in values.items():
        family.add_metric(label_values, value)
    return family
