"""What all tests of tuning share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.support.tiny_architectures import save_architecture
from tests.support.tiny_model import save_base
from tests.support.tiny_runs import CHAT, JUDGED, PAIR, PREFERENCE, write_rows


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Compute on one thread: tensors are tiny, and threads that share cores wait for each other."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # of the processes that tests start
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)


@pytest.fixture(scope="package")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder."""
    return save_base(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="package")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder-decoder."""
    return save_architecture("t5", tmp_path_factory.mktemp("t5"))


@pytest.fixture(scope="package")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with training and validation rows of every kind."""
    folder = tmp_path_factory.mktemp("rows")
    for kind in (CHAT, PAIR, PREFERENCE):
        write_rows(folder / f"{kind}.jsonl", kind)
        write_rows(folder / f"{kind}_judged.jsonl", kind, JUDGED)
    return folder
