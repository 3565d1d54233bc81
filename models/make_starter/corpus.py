"""The seeded training corpus: a stream of chat rows about fictional companies.

The stream is a pure function of the seed and the number of rows, so a test can enumerate every
text that the starter has ever seen (`texts`) without storing it.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from models.make_starter import prompts, values
from models.make_starter.relation import (
    HELD_OUT_STYLES,
    WRITABLE_STYLES,
    Relation,
    ask,
    relations,
)

ALL_STYLES = WRITABLE_STYLES + HELD_OUT_STYLES


@dataclass(frozen=True, slots=True)
class Fact:
    """One statement of one company."""

    company: str
    relation: Relation
    subject: str
    value: str
    statement: str

    def question(self, style: int) -> str:
        """Return the question about this fact in one of the nine styles."""
        return ask(self.relation, style, company=self.company, subject=self.subject)


@dataclass(frozen=True, slots=True)
class Row:
    """One conversation: user and assistant take turns."""

    task: str
    """One of repeat, write, read, absent, closed."""
    turns: tuple[tuple[str, str], ...]
    """Pairs of a user message and the assistant's answer."""
    system: str = ""
    """System message, or empty."""

    def messages(self) -> list[dict[str, str]]:
        """Return the row in the OpenAI chat form."""
        chat = [{"role": "system", "content": self.system}] if self.system else []
        for user, assistant in self.turns:
            chat.append({"role": "user", "content": user})
            chat.append({"role": "assistant", "content": assistant})
        return chat


@dataclass(frozen=True, slots=True)
class Phase:
    """What the corpus consists of up to some share of its rows."""

    until: float
    """Share of all rows at which the phase ends, 0 to 1."""
    most_facts: int
    """Most facts in one context."""
    weights: dict[str, float]
    """Relative number of rows of each task."""


CURRICULUM = (
    # Copying has to exist before reading can pay off; repeating whole sentences is the
    # densest exercise for it, and short contexts come before long ones.
    Phase(0.06, 2, {"repeat": 0.45, "write": 0.30, "read": 0.25}),
    Phase(0.14, 4, {"repeat": 0.10, "write": 0.35, "read": 0.50, "closed": 0.05}),
    Phase(1.00, 8, {"write": 0.27, "read": 0.59, "absent": 0.05, "closed": 0.09}),
)


def fact(rng: random.Random, company: str, relation: Relation, subject: str) -> Fact:
    """Draw a value and a wording for one relation of a company."""
    value = values.KINDS[relation.kind](rng)
    statement = rng.choice(relation.statements).format(c=company, s=subject, v=value)
    return Fact(company, relation, subject, value, statement)


def facts(rng: random.Random, company: str, count: int) -> list[Fact]:
    """Draw facts of one company that differ in relation or subject."""
    found: dict[tuple[str, str], Fact] = {}
    previous: Relation | None = None
    while len(found) < count:
        if previous is not None and previous.subject and rng.random() < 0.4:
            relation = previous  # the same about another part: the hardest kind of neighbour
        else:
            relation = rng.choice(relations())
        subject = values.SUBJECTS[relation.subject](rng) if relation.subject else ""
        previous = relation
        if (relation.key, subject) not in found:
            found[relation.key, subject] = fact(rng, company, relation, subject)
    drawn = list(found.values())
    rng.shuffle(drawn)
    return drawn


def _read(rng: random.Random, most_facts: int) -> Row:
    """Return a context with one to four questions that it answers."""
    known = facts(rng, values.company(rng), rng.randint(1, most_facts))
    context = " ".join(one.statement for one in known)
    # Several questions on one context: most tokens of a row would otherwise teach nothing.
    asked = rng.sample(known, min(len(known), rng.randint(1, 4)))
    turns = [(one.question(rng.choice(ALL_STYLES)), one.value) for one in asked]
    turns[0] = (prompts.read_prompt(context, turns[0][0]), turns[0][1])
    return Row("read", tuple(turns))


def _absent(rng: random.Random, most_facts: int) -> Row:
    """Return a context with a question that it does not answer."""
    known = facts(rng, values.company(rng), rng.randint(2, most_facts))
    context = " ".join(one.statement for one in known[1:])
    question = known[0].question(rng.choice(ALL_STYLES))
    return Row("absent", ((prompts.read_prompt(context, question), prompts.UNKNOWN),))


def _write(rng: random.Random) -> Row:
    """Return a request for a question about one statement."""
    (one,) = facts(rng, values.company(rng), 1)
    style = rng.choice(WRITABLE_STYLES)
    return Row("write", ((prompts.write_prompt(style, one.statement), one.question(style)),))


def _row(rng: random.Random, task: str, most_facts: int) -> Row:
    if task == "read":
        return _read(rng, most_facts)
    if task == "absent":
        return _absent(rng, most_facts)
    if task == "write":
        return _write(rng)
    (one,) = facts(rng, values.company(rng), 1)
    if task == "repeat":
        return Row("repeat", ((prompts.repeat_prompt(one.statement), one.statement),))
    return Row("closed", ((one.question(rng.choice(ALL_STYLES)), prompts.UNKNOWN),))


def stream(seed: int, tasks: dict[str, float], most_facts: int) -> Iterator[Row]:
    """Yield rows without end; the same arguments always give the same rows."""
    rng = random.Random(seed)
    names, weights = list(tasks), list(tasks.values())
    while True:
        (task,) = rng.choices(names, weights)
        row = _row(rng, task, most_facts)
        yield Row(row.task, row.turns, prompts.SYSTEM) if rng.random() < 0.03 else row


def rows(seed: int, count: int) -> Iterator[Row]:
    """Yield the `count` rows of the training corpus, phase after phase."""
    done = 0
    for index, phase in enumerate(CURRICULUM):
        source = stream(seed + index, phase.weights, phase.most_facts)
        for _ in range(int(phase.until * count) - done):
            yield next(source)
        done = int(phase.until * count)


def texts(seed: int, count: int) -> Iterator[str]:
    """Yield the complete text of the training corpus, one string for each row."""
    for row in rows(seed, count):
        yield "\n".join(message["content"] for message in row.messages())
