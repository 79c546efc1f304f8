"""Many things at once in one thread: tasks that take turns at every call that leaves them, by simulated time.

A task is ordinary blocking code in a greenlet. Which of those that are ready goes next is drawn from the run's random
numbers, so a seed makes one run, always the same.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet

from coupon.domain.errors import BackendError


class Killed(GreenletExit):
    """What a task that was killed meets at its next call, and every call after that."""


class NoRest(Exception):
    """The tasks went on for longer than they may."""


@dataclass(eq=False)
class Task:
    """``answer`` or ``error`` is there once it is done; a killed one is done with neither."""

    name: str
    greenlet: Any
    wake: float
    done: bool = False
    killed: bool = False
    answer: Any = None
    error: Exception | None = None
    waiters: "list[Task]" = field(default_factory=list)


class Scheduler:
    """``now`` is in milliseconds; it moves a little with every turn, and jumps when all sleep."""

    def __init__(self, random: Random, now: float) -> None:
        self.random, self.now = random, now
        self.turns = 0
        self.errors: list[tuple[str, Exception]] = []
        """What ended a task, and is no backend's failure."""
        self.trace: Callable[[str], None] | None = None
        self._began = now
        self._tasks: list[Task] = []
        self._root = getcurrent()

    def spawn(self, name: str, work: Callable[[], Any]) -> Task:
        """Begins at one of the next turns."""
        task = Task(name, None, self.now)
        task.greenlet = greenlet(lambda: self._apply(task, work), self._root)
        self._tasks.append(task)
        return task

    def goes_on(self, *names: str) -> bool:
        """Whether a task whose name begins with one of these is not done yet."""
        return any(task.name.startswith(names) for task in self._tasks)

    def tell(self, what: str, *values: object) -> None:
        """For the eyes of who looks at one seed."""
        if self.trace is not None:
            name = self.current.name if self.current else ""
            self.trace(f"{self.now - self._began:12,.0f} {name:<24} {what} {' '.join(map(_short, values))}")

    @property
    def current(self) -> Task | None:
        """The task whose turn it is; None outside of all."""
        here = getcurrent()
        return next((task for task in self._tasks if task.greenlet is here), None)

    def sleep(self, ms: float) -> None:
        """The current task's turn is over; its next one is not before so long."""
        task = self.current
        assert task is not None
        if not task.killed:
            task.wake = self.now + ms
            self._root.switch()
        if task.killed:
            raise Killed

    def wait_for(self, task: Task, ms: float) -> None:
        """Until it is done, or the time has passed."""
        if not task.done:
            waiter = self.current
            assert waiter is not None
            task.waiters.append(waiter)
            self.sleep(ms)

    def kill(self, task: Task) -> None:
        """As kill -9: nothing that it would still do reaches the outside. The current task ends at its next call."""
        task.killed = True
        task.wake = self.now
        if task.greenlet is not getcurrent():
            self._end(task)

    def run(self, until: Callable[[], bool], limit_ms: float) -> None:
        """Give turns until it holds; raises NoRest after so much simulated time."""
        deadline = self.now + limit_ms
        while not until():
            if self.now > deadline or not self._tasks:
                raise NoRest(", ".join(f"{task.name}" for task in self._tasks))
            self._turn()

    def close(self) -> None:
        for task in list(self._tasks):
            self.kill(task)

    def _turn(self) -> None:
        ready = [task for task in self._tasks if task.wake <= self.now]
        if not ready:
            self.now = min(task.wake for task in self._tasks)
            return
        self.turns += 1
        self.random.choice(ready).greenlet.switch()
        self.now += self.random.choice((0, 0, 1, 2))

    def _apply(self, task: Task, work: Callable[[], Any]) -> None:
        try:
            if not task.killed:
                task.answer = work()
        except Killed:
            pass
        except BackendError as error:
            task.error = error
        except Exception as error:
            task.error = error
            self.errors.append((task.name, error))
        finally:
            self._is_done(task)

    def _end(self, task: Task) -> None:
        """Unwind a task that sleeps, or has not begun: what it calls on the way out raises."""
        if task.greenlet:
            task.greenlet.parent = getcurrent()
            task.greenlet.throw(Killed)
        self._is_done(task)

    def _is_done(self, task: Task) -> None:
        if not task.done:
            task.done = True
            self._tasks.remove(task)
            for waiter in task.waiters:
                waiter.wake = min(waiter.wake, self.now)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 1_000 else f"{text[:1_000]}…"
