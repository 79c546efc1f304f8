"""Injects the planned faults, each lane in a thread of its own, and mends what it has hurt."""

import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from tests.e2e.deployment import eventually
from tests.proof.chaos.links import Link
from tests.proof.chaos.plan import FORGET, LANES, MASTER, SERVERS, WORKER, Planned, Servers, plan
from tests.proof.chaos.processes import Cluster, Master, Program, send
from tests.proof.chaos.records import Injected, Records, clock

RESPAWN_S = 60
LOSES_WRITES, COMMITTED_S = ("kill", "dynamodb"), 0.5
"""DynamoDB Local answers a few milliseconds before it has committed: a kill -9 then loses what it has answered, as the
real service never does. So its answers are lost on the way for a moment before it is killed."""
DELAYS_MS = 20, 100, 500
SLICES, SLICE_APART_MS = (16, 64, 512), 10
Mend = Callable[[], None]
Picked = TypeVar("Picked", bound=Program)


class Nemesis:
    """``with Nemesis(…)``: faults are injected inside the block; after it everything is mended and up."""

    def __init__(
        self,
        seed: int,
        cluster: Cluster,
        tell: Callable[[str, str], None],
        links: Mapping[str, Link],
        records: Records,
        haste: float = 1.0,
        servers: Servers = SERVERS,
    ) -> None:
        self._seed, self._haste, self._servers = seed, haste, servers
        self._cluster, self._tell, self._links, self._records = cluster, tell, links, records
        self._stop = threading.Event()
        self.failures: list[Exception] = []
        lanes = [lane for lane in LANES if links or lane != "links"]
        self._threads = [threading.Thread(target=self._run, args=(lane,), name=lane) for lane in lanes]

    def __enter__(self) -> "Nemesis":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, lane: str) -> None:
        try:
            for planned in plan(self._seed, lane, self._servers):
                if self._stop.wait(planned.pause_s / self._haste):
                    return
                self._inject(lane, planned)
        except Exception as error:
            self.failures.append(error)

    def _inject(self, lane: str, planned: Planned) -> None:
        began = clock()
        which, mend = self._hurt(planned)
        if mend is None:
            return
        try:
            lasts_s = planned.lasts_s / 2 if planned.kind == FORGET else planned.lasts_s
            self._stop.wait(lasts_s / (self._haste if planned.kind != "kill" else 1))
        finally:
            mend()
        self._records.fault(Injected(lane, planned.kind, planned.target, which, began, clock()))

    def _hurt(self, planned: Planned) -> tuple[str, Mend | None]:
        """What was hurt, and what mends it; None when there was nothing to hurt."""
        if planned.kind == FORGET:
            return planned.target, self._forget(planned)
        if planned.target in self._servers:
            return planned.target, self._hurt_server(planned)
        if planned.kind in ("kill", "stop"):
            return self._hurt_process(planned)
        return planned.target, self._hurt_links(planned)

    def _hurt_server(self, planned: Planned) -> Mend:
        hurt, mend = {"kill": ("kill", "up"), "stop": ("pause", "resume")}[planned.kind]
        link = self._links.get(f"worker-{planned.target}") if (planned.kind, planned.target) == LOSES_WRITES else None
        if link is not None:
            link.black_hole()
            time.sleep(COMMITTED_S)
        self._tell(hurt, planned.target)

        def well() -> None:
            self._tell(mend, planned.target)
            if link is not None:
                link.heal()

        return well

    def _forget(self, planned: Planned) -> Mend:
        """Half of the time before the cache is lost; the other half is waited for by who called."""
        running = [_stop(worker.pid) for worker in self._cluster.workers if worker.status() is None]
        self._stop.wait(planned.lasts_s / 2 / self._haste)
        self._tell("kill", planned.target)
        self._tell("up", planned.target)

        def go_on() -> None:
            for continued in running:
                continued()

        return go_on

    def _hurt_links(self, planned: Planned) -> Mend:
        links = [self._links[name] for name in planned.target.split()]
        for link in links:
            match planned.kind:
                case "delay":
                    link.delay(DELAYS_MS[planned.number])
                case "black hole":
                    link.black_hole()
                case "lose replies":
                    link.lose_replies()
                case "slice":
                    link.slice(SLICES[planned.number], SLICE_APART_MS)
                case "reset":
                    link.reset()
                case "refuse":
                    link.refuse()

        def heal() -> None:
            for link in links:
                link.heal()

        return heal

    def _hurt_process(self, planned: Planned) -> tuple[str, Mend | None]:
        if planned.target == WORKER:
            program = _pick(self._cluster.workers, planned.number)
            return program.name, _kill(program) if planned.kind == "kill" else _stop(program.pid)
        master = _pick(self._cluster.masters, planned.number)
        if planned.target == MASTER:
            return master.name, _kill(master) if planned.kind == "kill" else _stop(master.pid)
        child = master.child(planned.number // 2)
        if child is None:
            return master.name, None
        return f"{master.name}/{child}", _kill_child(master, child) if planned.kind == "kill" else _stop(child)


def _pick(programs: Sequence[Picked], number: int) -> Picked:
    return programs[number % len(programs)]


def _kill(program: Program) -> Mend:
    program.kill()
    return program.start


def _kill_child(master: Master, child: int) -> Mend:
    """The master starts another by itself (once it goes on, if it is stopped); or is killed too."""
    send(child, signal.SIGKILL)

    def respawned() -> None:
        eventually(lambda: master.is_whole(without=child), RESPAWN_S)

    return respawned


def _stop(pid: int) -> Mend:
    send(pid, signal.SIGSTOP)
    return lambda: send(pid, signal.SIGCONT)
