"""How tests share a machine when several workers run them (`pytest -n`, see the Makefile)."""

import pytest

_COMPUTING = {"e2e", "training"}
"""Folders whose tests keep every core busy; two of them at once take longer than in turn."""


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give all computing tests to one worker, and the tests of any other file to one."""
    for item in items:
        folder = item.path.parent.name
        group = "computing" if folder in _COMPUTING else item.path.stem
        item.add_marker(pytest.mark.xdist_group(group))
