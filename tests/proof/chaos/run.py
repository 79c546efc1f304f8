"""One run: servers, service, traffic and faults; then rest, evidence and verdict."""

import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from coupon import settings
from coupon.wiring import Backends, open_backends
from tests.proof.chaos import evidence as proof
from tests.proof.chaos.interface import Interface
from tests.proof.chaos.nemesis import Nemesis
from tests.proof.chaos.plan import SERVERS
from tests.proof.chaos.probe import Probe
from tests.proof.chaos.processes import Cluster
from tests.proof.chaos.records import Injected, Records, Unexpected
from tests.proof.chaos.surroundings import Surroundings, surroundings
from tests.proof.chaos.traffic import Traffic, observe
from tests.proof.checker import violations
from tests.proof.record import Evidence

TOLD_EVERY_S = 10
AFTERMATH_S = 2
"""After a fault: what waited for it comes to its end."""
AFTER_THE_LAST_S = 15
"""So long the probe may go on after the last fault, until it has recovered from it."""


@dataclass
class Wanted:
    """What a run is asked for: either minutes, or commands with kills."""

    seed: int
    minutes: float | None = None
    commands: int = 5_000
    kills: int = 20
    clients: int = 16
    rate: float | None = None
    topics: str = "single"
    links: bool = True
    edge: float = 0.02
    rest_s: float = 120

    @property
    def place(self) -> tuple[str, bool, float]:
        """What the surroundings have to be."""
        return self.topics, self.links, self.edge

    @property
    def haste(self) -> float:
        """By how much pauses and stops are shorter than in a long run."""
        return 1 if self.minutes else 2.5


@dataclass
class Result:
    """What the report tells."""

    wanted: Wanted
    secret: str = ""
    seconds: float = 0
    sent: dict[str, int] = field(default_factory=dict)
    accepted: dict[str, int] = field(default_factory=dict)
    commands: int = 0
    answers: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    late: dict[str, int] = field(default_factory=dict)
    """Answers that came later than 10 s, or not at all, by the fault that excuses it."""
    edge: dict[str, int] = field(default_factory=dict)
    recovery: dict[str, list[tuple[float | None, float | None]]] = field(default_factory=dict)
    """By kind of fault: seconds to the first accepted and the first applied command, each time."""
    checked: dict[str, int] = field(default_factory=dict)
    lag: int = -1
    lag_max: int = 0
    drained_s: float = 0
    converged_s: float | None = None
    own: list[tuple[str, str]] = field(default_factory=list)
    """Violations that no record tells of but the run itself saw: promise, and what."""
    violations: list[tuple[str, str]] = field(default_factory=list)


class Run:
    """``Run(wanted, folder).go()``. A KeyboardInterrupt ends the traffic; the verdict is given all the same."""

    def __init__(self, wanted: Wanted, folder: Path, say: Callable[[str], None] = print) -> None:
        self._wanted, self._folder, self._say = wanted, folder, say
        self._result = Result(wanted)
        self._records = Records(folder)

    def go(self) -> Result:
        with ExitStack() as stack:
            stack.callback(self._records.close)
            self._say("starting the servers")
            here = stack.enter_context(surroundings(self._folder, *self._wanted.place))
            backends = open_backends(settings.load(here.direct))
            stack.callback(backends.close)
            self._say("starting the service")
            cluster = stack.enter_context(Cluster(here.sides["web"], here.sides["worker"], self._folder))
            ports = [master.port for master in cluster.masters]
            secret = here.direct["COUPON_SECRET"]
            self._result.secret = secret
            began = time.monotonic()
            with (
                Probe(ports, self._records, backends.store, secret) as probe,
                Traffic(ports, self._records, self._wanted.seed, self._wanted.clients, self._wanted.rate) as traffic,
            ):
                nemesis = Nemesis(self._wanted.seed, cluster, here.tell, here.links, self._records, self._wanted.haste)
                with nemesis:
                    self._until_it_is_enough(backends, [traffic.failures, nemesis.failures, probe.failures])
                traffic.stop.set()
                self._wait_for_the_probe(probe)
            self._result.seconds = time.monotonic() - began
            for error in (*traffic.failures, *nemesis.failures, *probe.failures):
                self._own("the harness works", repr(error))
            for told in cluster.ended():
                self._own("processes go on", told)
            self._mend_all(here, cluster)
            self._count(probe)
            found = self._come_to_rest(backends, ports, secret)
        self._say("judging")
        proof.save(self._folder, found)
        self._save()
        return judge(self._result, found)

    def _until_it_is_enough(self, backends: Backends, failures: list[list[Exception]]) -> None:
        """Of minutes, or of commands and kills; or somebody interrupts, or a part of ours breaks."""
        began, told = time.monotonic(), 0.0
        try:
            while not any(failures) and not self._is_enough(time.monotonic() - began):
                if time.monotonic() - told > TOLD_EVERY_S:
                    told = time.monotonic()
                    behind = proof.lag(backends, self._wanted.topics)
                    self._result.lag_max = max(self._result.lag_max, behind)
                    self._say(
                        f"{told - began:6.0f} s  {self._records.keys} commands  {len(self._records.faults)} faults, "
                        f"{self._records.kills()} kills  lag {behind if behind >= 0 else '?'}"
                    )
                time.sleep(0.2)
        except KeyboardInterrupt:
            self._say("interrupted: mending, then judging")

    def _is_enough(self, seconds: float) -> bool:
        if self._wanted.minutes:
            return seconds > self._wanted.minutes * 60
        return self._records.keys >= self._wanted.commands and self._records.kills() >= self._wanted.kills

    def _wait_for_the_probe(self, probe: Probe) -> None:
        """Until it saw a command applied that was sent after the last fault."""
        if not self._records.faults:
            return
        last = max(self._records.faults, key=lambda fault: fault.ended)
        deadline = time.monotonic() + AFTER_THE_LAST_S
        while probe.recovery(last).applied_s is None and time.monotonic() < deadline:
            time.sleep(0.2)

    def _count(self, probe: Probe) -> None:
        records, result = self._records, self._result
        result.sent, result.accepted, result.answers = dict(records.sent), dict(records.accepted), dict(records.answers)
        result.commands = records.keys
        result.faults = dict(Counter(fault.name for fault in records.faults))
        for fault in records.faults:
            name = fault.name if fault.lane != "links" else f"{fault.kind} of a link"
            result.recovery.setdefault(name, []).append(probe.recovery(fault))
        for log in (self._folder / "edge").glob("*.edge"):
            for kind, number in Counter(log.read_text().split("\n")).items():
                result.edge[kind] = result.edge.get(kind, 0) + number
        result.edge.pop("", None)
        for found in records.unexpected:
            cause = _cause(found, records.faults) if found.late else None
            if cause:
                result.late[cause] = result.late.get(cause, 0) + 1
            else:
                self._own("only promised answers", f"{found.client} at {found.sent:.3f}: {found.what}")

    def _mend_all(self, here: Surroundings, cluster: Cluster) -> None:
        """Nothing to do, unless a lane broke."""
        for link in here.links.values():
            link.heal()
        here.tell("resume", *SERVERS)
        here.tell("up", *SERVERS)
        cluster.restart_missing()

    def _come_to_rest(self, backends: Backends, ports: list[int], secret: str) -> Evidence:
        result, found = self._result, Evidence(secret)
        self._say("coming to rest")
        result.lag, result.drained_s = proof.drain(backends, self._wanted.topics, self._wanted.rest_s)
        if result.lag:
            self._own("comes to rest", f"{result.lag} messages were left after {result.drained_s:.0f} s")
        found.coupons, found.documents, result.converged_s = proof.settled(backends)
        self._say("collecting the evidence")
        proof.collect(backends, self._wanted.topics, found)
        self._records.flush()
        interface = Interface(ports, "afterwards", self._records, connections=8)
        before = len(self._records.unexpected)
        proof.ask_addresses(lambda address: observe(interface, self._records, address), self._folder)
        interface.close()
        self._records.flush()
        proof.read_clients(self._folder, found)
        for surprise in self._records.unexpected[before:]:
            self._own("only promised answers", f"at rest: {surprise.what}")
        return found

    def _own(self, promise: str, what: str) -> None:
        self._result.own.append((promise, what))

    def _save(self) -> None:
        self._records.close()
        (self._folder / "run.json").write_text(json.dumps(asdict(self._result), indent=1))


def judge(result: Result, found: Evidence) -> Result:
    """All violations, those that the run saw itself too."""
    result.outcomes = _outcomes(found)
    result.checked = {
        "requests": len(found.requests),
        "observations": len(found.observed),
        "reads": len(found.reads),
        "messages of the queue": len(found.commands),
        "coupons of the store": len(found.coupons),
        "documents": len(found.documents),
        "cached coupons": len(found.cached),
        "dead letters": len(found.letters),
    }
    result.violations = [*result.own, *violations(found)]
    return result


def _outcomes(found: Evidence) -> dict[str, int]:
    """What became of the commands, as the store tells it."""
    outcomes: Counter[str] = Counter()
    for coupon in found.coupons.values():
        outcomes.update(f"applied {entry.kind}" for entry in coupon.history)
        outcomes.update(f"rejected {rejection.reason}" for rejection in coupon.rejections)
    return dict(outcomes)


def _cause(late: Unexpected, faults: list[Injected]) -> str | None:
    """What excuses an answer that came late: its own web process was killed or stopped (an orphan holds its port for
    a while), or something that the web side needs was away or slow. None when there was no such thing."""
    for fault in faults:
        hurt = fault.which.partition("/")[0] == late.master or fault.target in SERVERS or "web-" in fault.target
        if hurt and fault.began < late.ended and late.sent < fault.ended + AFTERMATH_S:
            return fault.name
    return None
