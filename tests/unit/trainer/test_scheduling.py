"""The scheduler, step by step on a clock of the test's."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st
from luthier_trainer.scheduling import Capacity, Place, Plan, Running, Waiting, plan

ONE = Capacity(1)


@dataclass
class Machine:
    """Does what the scheduler says; runs last as long as the test says, known or not."""

    capacity: Capacity = ONE
    now: float = 0.0
    waiting: list[Waiting] = field(default_factory=list)
    running: list[Running] = field(default_factory=list)
    served: dict[str, float] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)
    given_back: dict[str, Waiting] = field(default_factory=dict)
    moments: Iterator[int] = field(default_factory=itertools.count)

    def add(self, name: str, project: str, priority: int = 0, seconds: float | None = 10.0) -> None:
        self.waiting.append(Waiting(name, project, priority, self.now, seconds))

    def plan(self) -> Plan:
        return plan(self.waiting, self.running, self.served, self.capacity, self.now)

    def step(self) -> Plan:
        """Plan once and start what shall start; those asked for their place are ending then."""
        made = self.plan()
        for name in made.start:
            job = next(job for job in self.waiting if job.name == name)
            self.waiting.remove(job)
            self.running.append(Running(name, job.project, job.priority, self.now, job.seconds))
            self.given_back[name] = job
            self.started.append(name)
            self._serve(job.project)
        self.running = [
            replace(job, ending=job.ending or job.name in made.preempt) for job in self.running
        ]
        return made

    def end(self, name: str, *, gives_back: bool = False) -> None:
        """A run ends; of one that gives its place back the job waits again."""
        job = next(job for job in self.running if job.name == name)
        self.running.remove(job)
        self._serve(job.project)
        if gives_back:
            self.waiting.append(self.given_back[name])

    def _serve(self, project: str) -> None:
        # No two moments are the same: what comes later in a step is a little later.
        self.served[project] = self.now + 1e-6 * next(self.moments)

    def tick(self, seconds: float = 1.0) -> None:
        self.now += seconds


def test_a_free_machine_starts_the_oldest_job_and_places_the_others() -> None:
    machine = Machine()
    for name in "abc":
        machine.add(name, "p")
        machine.tick()
    made = machine.step()
    assert made.start == ("a",)
    assert made.places == {"a": Place(1, 3.0), "b": Place(2, 13.0), "c": Place(3, 23.0)}


def test_a_higher_priority_goes_first_whatever_its_project_has() -> None:
    machine = Machine()
    machine.add("old", "p")
    machine.tick()
    machine.add("urgent", "q", priority=1)
    machine.served["q"] = machine.now
    assert list(machine.plan().places) == ["urgent", "old"]


def test_projects_take_turns_on_one_place() -> None:
    machine = Machine()
    for number in range(3):
        machine.add(f"a{number}", "a")
    machine.tick()
    for number in range(3):
        machine.add(f"b{number}", "b")
    foreseen = list(machine.plan().places)
    while machine.waiting:
        machine.step()
        machine.tick(10)
        machine.end(machine.started[-1])
    assert machine.started == ["a0", "b0", "a1", "b1", "a2", "b2"]
    assert machine.started == foreseen


def test_a_project_with_nothing_running_goes_before_one_with_a_run() -> None:
    machine = Machine(Capacity(2))
    machine.add("a0", "a")
    machine.add("a1", "a")
    machine.tick()
    machine.add("b0", "b")
    assert machine.step().start == ("a0", "b0")


def test_newcomers_cannot_keep_a_waiting_project_waiting() -> None:
    machine = Machine()
    machine.add("a0", "a")
    machine.step()
    machine.add("a1", "a")
    for number in range(5):  # each project is new, and none has ever had a run
        machine.tick()
        machine.add(f"n{number}", f"n{number}")
    machine.end("a0")  # at 5: those that came before have waited longer, a later one has not
    machine.tick()
    machine.add("late", "late")
    order = list(machine.plan().places)
    assert order.index("a1") < order.index("late")


def test_only_a_strictly_higher_priority_takes_a_place() -> None:
    machine = Machine()
    machine.add("low", "p")
    machine.step()
    machine.add("same", "q")
    assert machine.plan().preempt == ()
    machine.add("high", "q", priority=1)
    assert machine.plan().preempt == ("low",)


def test_the_victim_is_the_lowest_priority_and_of_those_the_latest_started() -> None:
    machine = Machine(Capacity(3))
    machine.add("early", "p")
    machine.step()
    machine.tick()
    machine.add("late", "p")
    machine.add("worthy", "p", priority=1)
    machine.step()
    machine.add("urgent", "q", priority=2)
    assert machine.plan().preempt == ("late",)


def test_there_is_one_victim_for_each_place_that_is_needed_and_no_more() -> None:
    machine = Machine(Capacity(3))
    for name in ("a", "b", "c"):
        machine.add(name, "p")
        machine.step()
        machine.tick()
    machine.add("u1", "q", priority=1)
    machine.add("u2", "q", priority=1)
    assert machine.step().preempt == ("c", "b")
    assert machine.step().preempt == ()  # their places are on the way
    machine.end("b", gives_back=True)
    assert machine.step().start == ("u1",)
    assert machine.step().preempt == ()
    machine.end("c", gives_back=True)
    assert machine.step().start == ("u2",)
    machine.end("u1")
    assert machine.step().start == ("b",)  # the older of those that gave back


def test_a_run_that_ends_anyway_saves_the_others() -> None:
    running = [
        Running("pausing", "p", 0, 0.0, ending=True),
        Running("steady", "p", -1, 0.0),
    ]
    urgent = Waiting("urgent", "q", 5, 1.0)
    assert plan([urgent], running, {}, Capacity(2), 2.0).preempt == ()


def test_behind_a_run_of_unknown_length_there_is_a_place_and_no_estimate() -> None:
    running = [Running("r", "p", 0, 0.0, seconds_left=None)]
    waiting = [Waiting("a", "p", 0, 1.0, 5.0), Waiting("b", "p", 0, 2.0, 5.0)]
    assert plan(waiting, running, {}, ONE, 3.0).places == {"a": Place(1, None), "b": Place(2, None)}


def test_behind_a_waiting_job_of_unknown_length_there_is_no_estimate() -> None:
    running = [Running("r", "p", 0, 0.0, seconds_left=7.0)]
    waiting = [Waiting("a", "p", 0, 1.0, None), Waiting("b", "p", 0, 2.0, 5.0)]
    places = plan(waiting, running, {}, ONE, 3.0).places
    assert places == {"a": Place(1, 10.0), "b": Place(2, None)}


def test_with_two_places_the_next_job_gets_the_one_that_falls_free_first() -> None:
    running = [Running("long", "p", 0, 0.0, 100.0), Running("short", "p", 0, 0.0, 10.0)]
    waiting = [Waiting("a", "p", 0, 1.0, 20.0), Waiting("b", "p", 0, 2.0, 5.0)]
    places = plan(waiting, running, {}, Capacity(2), 50.0).places
    assert places == {"a": Place(1, 60.0), "b": Place(2, 80.0)}


def test_what_does_not_fit_the_device_is_passed_over() -> None:
    waiting = [
        Waiting("big", "p", 9, 0.0, 1.0, memory_bytes=100),
        Waiting("small", "p", 0, 0.0, 1.0, memory_bytes=10),
    ]
    made = plan(waiting, [], {}, Capacity(1, memory_bytes=50), 0.0)
    assert (made.start, list(made.places)) == (("small",), ["small"])
    assert plan(waiting, [], {}, ONE, 0.0).start == ("big",)  # unknown memory holds anything


projects = st.sampled_from("abc")
lengths = st.one_of(st.none(), st.floats(0, 100))
queues = st.lists(
    st.builds(
        Waiting,
        st.uuids().map(str),
        projects,
        st.integers(-2, 2),
        st.floats(0, 100),
        lengths,
        st.integers(0, 10),
    ),
    unique_by=lambda job: job.name,
    max_size=12,
)
workers = st.lists(
    st.builds(
        Running,
        st.uuids().map(str),
        projects,
        st.integers(-2, 2),
        st.floats(0, 100),
        lengths,
        st.booleans(),
    ),
    unique_by=lambda job: job.name,
    max_size=5,
)
pasts = st.dictionaries(projects, st.floats(0, 100))
capacities = st.builds(Capacity, st.integers(1, 4), st.one_of(st.none(), st.integers(0, 10)))


@given(queues, workers, pasts, capacities)
def test_every_plan_keeps_the_rules(
    waiting: list[Waiting], running: list[Running], served: dict[str, float], capacity: Capacity
) -> None:
    made = plan(waiting, running, served, capacity, 100.0)
    jobs = {job.name: job for job in waiting}
    fitting = [
        name
        for name, job in jobs.items()
        if capacity.memory_bytes is None or job.memory_bytes <= capacity.memory_bytes
    ]
    order = list(made.places)
    assert sorted(order) == sorted(fitting)
    assert [place.position for place in made.places.values()] == list(range(1, len(order) + 1))
    assert made.start == tuple(order[: max(0, capacity.runs - len(running))])
    priorities = [jobs[name].priority for name in order]
    assert priorities == sorted(priorities, reverse=True)
    times = [place.start_time for place in made.places.values()]
    known = [time for time in times if time is not None]
    assert known == sorted(known)
    assert times == known + [None] * (len(times) - len(known))
    _check_victims(made, jobs, running)


def _check_victims(made: Plan, jobs: dict[str, Waiting], running: list[Running]) -> None:
    victims = [next(job for job in running if job.name == name) for name in made.preempt]
    assert not any(victim.ending for victim in victims)
    assert len(set(made.preempt)) == len(victims)
    takers = [name for name in made.places if name not in made.start]
    takers = takers[sum(job.ending for job in running) :]
    assert len(victims) <= len(takers)
    for victim, taker in zip(victims, takers, strict=False):
        assert victim.priority < jobs[taker].priority
    spared = [job for job in running if not job.ending and job not in victims]
    for victim in victims:
        assert all(victim.priority <= job.priority for job in spared)


@given(queues, workers, pasts, st.integers(1, 3))
def test_planning_again_a_moment_later_changes_nothing(
    waiting: list[Waiting], running: list[Running], served: dict[str, float], runs: int
) -> None:
    first = plan(waiting, running, served, Capacity(runs), 100.0)
    again = plan(list(reversed(waiting)), running, served, Capacity(runs), 101.0)
    assert (again.start, again.preempt) == (first.start, first.preempt)
    assert list(again.places) == list(first.places)


@given(st.integers(1, 4), st.integers(2, 5), st.integers(1, 20), st.data())
def test_backlogged_projects_share_the_places_within_one_run(
    runs: int, count: int, steps: int, data: st.DataObject
) -> None:
    """Whatever run ends next: none gets a place while another with less waits."""
    machine = Machine(Capacity(runs))
    names = [f"p{number}" for number in range(count)]
    for project in names:
        for number in range(steps + runs):
            machine.add(f"{project}-{number}", project, seconds=None)
    for _ in range(steps):
        before = Counter(job.project for job in machine.running)
        for name in machine.step().start:
            project = name.partition("-")[0]
            assert before[project] == min(before[other] for other in names)
            before[project] += 1
        machine.tick()
        machine.end(data.draw(st.sampled_from(machine.running)).name)
    if runs == 1:
        turns = Counter(name.partition("-")[0] for name in machine.started)
        assert max(turns[p] for p in names) - min(turns[p] for p in names) <= 1


@given(st.integers(1, 3), st.lists(projects, min_size=1, max_size=6), st.data())
def test_nobody_starves_within_a_priority(
    runs: int, others: list[str], data: st.DataObject
) -> None:
    """Jobs keep coming, from old projects and new ones: a job still starts within bounds."""
    machine = Machine(Capacity(runs))
    for number, project in enumerate(others):
        machine.add(f"o{number}", project)
        machine.tick()
    machine.add("patient", "z")
    ahead = len(machine.waiting)
    for number in range(2 * ahead + runs + 2):
        machine.step()
        if "patient" in machine.started:
            return
        machine.tick()
        machine.add(f"n{number}", data.draw(st.sampled_from(["a", "b", "z", f"new{number}"])))
        # Runs end at last; the one that has been at work longest ends next.
        machine.end(min(machine.running, key=lambda job: job.start_time).name)
    raise AssertionError(f"still waiting after {machine.started}")


@given(queues, pasts, st.integers(1, 3))
def test_what_was_foreseen_is_what_happens(
    waiting: list[Waiting], served: dict[str, float], runs: int
) -> None:
    """With known lengths, and nobody joining, each job starts when it was first told."""
    known = [replace(job, seconds=1.0 + (job.seconds or 0.0)) for job in waiting]
    machine = Machine(Capacity(runs), 100.0, known, served=dict(served))
    foreseen = {name: place.start_time for name, place in machine.plan().places.items()}
    actual: dict[str, float] = {}
    ends: dict[str, float] = {}
    while machine.waiting:
        for name in machine.step().start:
            actual[name] = machine.now
            ends[name] = machine.now + (machine.given_back[name].seconds or 0.0)
        if ends:
            name = min(ends, key=lambda name: ends[name])
            machine.now = ends.pop(name)
            machine.end(name)
    assert actual == foreseen
