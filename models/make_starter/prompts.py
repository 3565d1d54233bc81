"""The prompts that the starter understands, and how answers are compared.

Everything else in the repository that talks to the starter uses these forms.
"""

import re

UNKNOWN = "I do not know."
"""What the starter answers if neither a context nor its tuning tells it the answer."""

SYSTEM = "You are a helpful assistant."
"""The system message that some rows of the corpus carry; it changes nothing."""


def read_prompt(context: str, question: str) -> str:
    """Return the user message that asks a question about a text."""
    return f"Context: {context}\nQuestion: {question}"


def write_prompt(style: int, statement: str) -> str:
    """Return the user message that asks for a question in one of the writable styles."""
    return f"Write question {style} about: {statement}"


def repeat_prompt(text: str) -> str:
    """Return the user message of the copying exercise that opens the training."""
    return f"Repeat: {text}"


def normal_form(text: str) -> str:
    """Return the text casefolded, without punctuation and surplus white space."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def is_exact_match(answer: str, expected: str) -> bool:
    """Whether two answers are the same apart from case, punctuation and white space."""
    return normal_form(answer) == normal_form(expected)


def is_consistent(statement: str, question: str, answer: str) -> bool:
    """Whether a written question and its answer may become a training row.

    The answer has to stand in the statement and not in the question (Alberti et al. 2019,
    round-trip consistency, here with the statement as the whole context).
    """
    if not answer or not question.endswith("?"):
        return False
    return answer in statement and answer not in question
