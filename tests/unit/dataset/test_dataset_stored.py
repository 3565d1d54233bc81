from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from luthier_dataset.build.stored import RowWriter, StoredRow, row_keys
from luthier_dataset.quality.near import Signer
from luthier_dataset.recipes.recipe import Origin, text_row

HERE = Origin("projects/acme/files/file-a")


@pytest.mark.parametrize(
    ("length", "rows", "together"), [(10, 600, [256, 256, 88]), (2**18, 6, [4, 2])]
)
def test_what_waits_to_be_signed_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int, rows: int, together: list[int]
) -> None:
    signed: list[int] = []
    sign = Signer.sign

    def spied(signer: Signer, texts: list[str]) -> npt.NDArray[np.uint8]:
        signed.append(len(texts))
        return sign(signer, texts)

    monkeypatch.setattr(Signer, "sign", spied)
    row = text_row("a row of words " * (length // 15), HERE)
    stored = StoredRow("{}", "text", "raw", row.origins, 9, 8, (), "")
    keys = row_keys(row, stored, 0, one_answer=False, group="")
    with RowWriter(tmp_path / "unit") as writer:
        for _ in range(rows):
            writer.write(stored, keys, "x" * length)
    assert signed == together
    assert writer.rows == rows
