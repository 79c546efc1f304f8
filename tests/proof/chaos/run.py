"""One run: servers, service, traffic and faults; then rest, evidence and verdict."""

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

from coupon.runtime import settings
from coupon.runtime.wiring import Backends, open_backends
from tests.proof.chaos import evidence as proof
from tests.proof.chaos.interface import Interface
from tests.proof.chaos.nemesis import Nemesis
from tests.proof.chaos.probe import Probe, recovery
from tests.proof.chaos.processes import Cluster
from tests.proof.chaos.records import AFTERWARDS, Records, clock
from tests.proof.chaos.result import Options, Result
from tests.proof.chaos.surroundings import Surroundings, surroundings
from tests.proof.chaos.traffic import Traffic, observe
from tests.proof.chaos.verdict import AFTER_THE_LAST_S, judge
from tests.proof.record import Evidence

TOLD_EVERY_S = 10


class Run:
    """``Run(options, folder).go()``. A KeyboardInterrupt ends the traffic; the verdict is given all the same."""

    def __init__(self, options: Options, folder: Path, say: Callable[[str], None] = print) -> None:
        self._options, self._folder, self._say = options, folder, say
        self._result = Result(options)
        self._records = Records(folder)

    def go(self) -> Result:
        with ExitStack() as stack:
            stack.callback(self._records.close)
            self._say("starting the servers")
            here = stack.enter_context(surroundings(self._folder, *self._options.place))
            backends = open_backends(settings.load(here.direct))
            stack.callback(backends.close)
            self._say("starting the service")
            cluster = stack.enter_context(Cluster(here.sides["web"], here.sides["worker"], self._folder))
            ports = [master.port for master in cluster.masters]
            secret = here.direct["COUPON_SECRET"]
            self._result.secret = secret
            began = time.monotonic()
            with (
                Probe(ports, self._records, backends.store) as probe,
                Traffic(ports, self._records, self._options.seed, self._options.clients, self._options.rate) as traffic,
            ):
                nemesis = Nemesis(
                    self._options.seed,
                    cluster,
                    here.tell,
                    here.links,
                    self._records,
                    self._options.haste,
                    self._options.servers,
                )
                with nemesis:
                    self._until_it_is_enough(backends, [traffic.failures, nemesis.failures, probe.failures])
                traffic.stop.set()
                self._wait_for_the_probe(probe)
                self._result.ended = clock()
            self._result.seconds = time.monotonic() - began
            for error in (*traffic.failures, *nemesis.failures, *probe.failures):
                self._own("the harness works", repr(error))
            for end in cluster.ended():
                self._own("processes go on", end)
            self._mend_all(here, cluster)
            self._count(here)
            with closing(open_backends(settings.load(here.patient))) as patient:
                found = self._come_to_rest(patient, ports, secret)
        self._say("judging")
        proof.save(self._folder, found)
        self._result.save(self._folder)
        return judge(self._result, found, self._folder)

    def _until_it_is_enough(self, backends: Backends, failures: list[list[Exception]]) -> None:
        """Of minutes, or of commands and kills; or somebody interrupts, or a part of ours breaks."""
        began, said_at = time.monotonic(), 0.0
        try:
            while not any(failures) and not self._is_enough(time.monotonic() - began):
                if time.monotonic() - said_at > TOLD_EVERY_S:
                    said_at = time.monotonic()
                    behind = proof.lag(backends, self._options.topics)
                    self._result.lag_max = max(self._result.lag_max, behind)
                    self._say(
                        f"{said_at - began:6.0f} s  {self._records.keys} commands  {len(self._records.faults)} faults, "
                        f"{self._records.kills()} kills  lag {behind if behind >= 0 else '?'}"
                    )
                time.sleep(0.2)
        except KeyboardInterrupt:
            self._say("interrupted: mending, then judging")

    def _is_enough(self, seconds: float) -> bool:
        if self._options.minutes:
            return seconds > self._options.minutes * 60
        return self._records.keys >= self._options.commands and self._records.kills() >= self._options.kills

    def _wait_for_the_probe(self, probe: Probe) -> None:
        """Until it saw a command applied that was sent after the last fault."""
        if not self._records.faults:
            return
        last = max(self._records.faults, key=lambda fault: fault.ended)
        deadline = time.monotonic() + AFTER_THE_LAST_S
        while recovery(last, list(probe.probed)).applied_s is None and time.monotonic() < deadline:
            time.sleep(0.2)

    def _count(self, here: Surroundings) -> None:
        records, result = self._records, self._result
        result.sent, result.accepted, result.answers = dict(records.sent), dict(records.accepted), dict(records.answers)
        result.commands = records.keys
        result.count_edge(self._folder / "edge")
        result.links = {name: min(link.counts.bytes_up, link.counts.bytes_down) for name, link in here.links.items()}

    def _mend_all(self, here: Surroundings, cluster: Cluster) -> None:
        """Nothing to do, unless a lane broke."""
        for link in here.links.values():
            link.heal()
        here.tell("resume", *self._options.servers)
        here.tell("up", *self._options.servers)
        cluster.restart_missing()

    def _come_to_rest(self, backends: Backends, ports: list[int], secret: str) -> Evidence:
        result, found = self._result, Evidence(secret)
        self._say("coming to rest")
        result.lag, result.drained_s = proof.drain(backends, self._options.topics, self._options.rest_s)
        if result.lag > 0:
            result.left = proof.lag_by_topic(backends, self._options.topics)
        found.coupons, found.documents, result.converged_s = proof.settled(backends)
        self._say("collecting the evidence")
        proof.collect(backends, self._options.topics, found)
        self._records.flush()
        interface = Interface(ports, AFTERWARDS, self._records, connections=8)
        proof.ask_addresses(lambda address: observe(interface, self._records, address), self._folder)
        interface.close()
        self._records.flush()
        proof.read_clients(self._folder, found)
        return found

    def _own(self, promise: str, what: str) -> None:
        self._result.own.append((promise, what))
