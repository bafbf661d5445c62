"""Everything that is counted, under fixed names and labels: nothing a stranger sends ever becomes a label."""

from collections.abc import Callable, Mapping
from typing import Final, Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.registry import Collector

from app import __version__

Outcome = Literal["ok", "cut", "late", "refused", "failed", "gone"]
"""How a challenge ended. `cut`: at the deadline, sent as it was; `late`: sent, but the validator's round was over;
`failed`: the engine's fault or the miner's; `gone`: the validator closed the connection."""

_REPLAYS: Final = frozenset({"replay", "nonce"})
_SECONDS: Final = (0.1, 0.25, 0.5, 1, 2, 5, 10, 15, 20, 30, 40, 45, 50, 55, 60)
_FIRST_TOKEN_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 50)


class Metrics:
    """The miner's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self._challenges = Counter("loosh_challenges", "Challenges by how they ended", ["outcome"], registry=registry)
        self._seconds = Histogram(
            "loosh_challenge_seconds", "From the first byte to the answer", buckets=_SECONDS, registry=registry
        )
        self._first_token = Histogram(
            "loosh_first_token_seconds",
            "From the first byte to the first token",
            buckets=_FIRST_TOKEN_SECONDS,
            registry=registry,
        )
        self._tokens = Counter("loosh_tokens", "Tokens read and written", ["direction"], registry=registry)
        self._refusals = Counter("loosh_refusals", "Requests refused, by reason", ["reason"], registry=registry)
        self._handshakes = Counter("loosh_handshakes", "Handshakes by result", ["result"], registry=registry)
        self._completions = Counter(
            "loosh_completions", "/v1 requests by how they ended", ["outcome"], registry=registry
        )
        self._replays = Counter(
            "loosh_replays", "Handshakes and ciphertexts that came a second time", registry=registry
        )
        self._elsewhere = Counter(
            "loosh_handshakes_elsewhere",
            "Handshakes from other addresses than the validator has published",
            registry=registry,
        )
        self._refresh_failures = Counter(
            "loosh_allow_list_refresh_failures", "Lists that could not be read", ["source"], registry=registry
        )
        build = Gauge("loosh_build_info", "The running version", ["version"], registry=registry)
        build.labels(__version__).set(1)
        # Children are looked up once: `labels()` costs more than the increment.
        self._by_outcome = {outcome: self._challenges.labels(outcome) for outcome in get_args(Outcome)}
        self._tokens_in, self._tokens_out = self._tokens.labels("prompt"), self._tokens.labels("completion")
        self._handshake_ok, self._handshake_refused = (self._handshakes.labels(result) for result in ("ok", "refused"))

    def watch(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A gauge that is read when the metrics are asked for."""
        Gauge(name, text, registry=self.registry).set_function(read)

    def watch_each(self, name: str, text: str, label: str, reads: Mapping[str, Callable[[], float]]) -> None:
        """A gauge with a fixed set of labels, read when the metrics are asked for."""
        gauge = Gauge(name, text, [label], registry=self.registry)
        for value, read in reads.items():
            gauge.labels(value).set_function(read)

    def add(self, collector: Collector) -> None:
        """Anything else that knows how to collect itself."""
        self.registry.register(collector)

    def challenge(self, outcome: Outcome) -> None:
        """A challenge came to its end."""
        self._by_outcome[outcome].inc()

    def answered(
        self, *, seconds: float, first_token: float | None, prompt_tokens: int, completion_tokens: int
    ) -> None:
        """What an answered challenge took; times in seconds."""
        self._seconds.observe(seconds)
        if first_token is not None:
            self._first_token.observe(first_token)
        self._tokens_in.inc(prompt_tokens)
        self._tokens_out.inc(completion_tokens)

    def completion(self, outcome: str) -> None:
        """A request on /v1 ended; `outcome` is one of the fixed words of `app.domain.completion`."""
        self._completions.labels(outcome).inc()

    def handshake(self, *, accepted: bool) -> None:
        """A handshake was accepted or refused."""
        (self._handshake_ok if accepted else self._handshake_refused).inc()

    def handshake_elsewhere(self) -> None:
        """A handshake came from an address that its validator has not published."""
        self._elsewhere.inc()

    def refresh_failed(self, source: str) -> None:
        """A list of validators could not be read; `source` is one of the fixed words of `app.domain.allow_list`."""
        self._refresh_failures.labels(source).inc()

    def refused(self, reason: str) -> None:
        """A request was refused; `reason` is one of the fixed words of `app.errors`."""
        self._refusals.labels(reason).inc()
        if reason in _REPLAYS:
            self._replays.inc()

    def security(self) -> dict[str, int]:
        """What strangers and validators were refused for, since the start: the same counters as in `text`."""
        counted = {
            "handshakes": _count(self._handshake_ok),
            "handshakes refused": _count(self._handshake_refused),
            "handshakes from elsewhere": _count(self._elsewhere),
            "replays": _count(self._replays),
        }
        for metric in self._refusals.collect():
            for sample in metric.samples:
                if sample.name.endswith("_total"):
                    counted[f"refused: {sample.labels['reason']}"] = int(sample.value)
        return counted

    def text(self) -> bytes:
        """The metrics in Prometheus' text form."""
        return generate_latest(self.registry)


def _count(counter: Counter) -> int:
    return int(
        sum(sample.value for metric in counter.collect() for sample in metric.samples if sample.name.endswith("_total"))
    )
