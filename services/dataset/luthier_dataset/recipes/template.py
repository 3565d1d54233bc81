"""Templates: `{name}` stands for a value."""

from __future__ import annotations

import re

_NAME = re.compile(r"\{(\w+)\}")


def fill(template: str, **values: str) -> str:
    """Replace `{name}`s in one pass: what is filled in, and any other brace, stays as it is."""
    return _NAME.sub(lambda match: values.get(match[1], match[0]), template)


def require(template: str, field: str, *names: str) -> None:
    """Raise ValueError `field: …` if a template that is set lacks one of `{name}`."""
    missing = [f"{{{name}}}" for name in names if f"{{{name}}}" not in template]
    if template and missing:
        raise ValueError(f"{field}: must hold {', '.join(missing)}")
