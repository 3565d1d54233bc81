import json

from luthier.dataset.v1.dataset_pb2 import Dataset, DatasetStatistics
from luthier.dataset.v1.file_pb2 import File
from luthier.dataset.v1.quality_pb2 import QualityCheck, QualityRule
from luthier_dataset.build.make import manifest_of
from luthier_dataset.recipes.questions import QuestionPrompts


def test_numbers_of_the_manifest_are_numbers() -> None:
    figures = DatasetStatistics(rows=3, token_histogram=[{"tokens": 8, "rows": 3}])
    figures.rows_by_shape["chat"] = 3
    rule = QualityRule(check=QualityCheck.SECRET, action=QualityRule.BLOCK)
    dataset = Dataset(split={"validation_share": 0.5, "seed": -7}, quality_rules=[rule])
    outcome = Dataset(statistics=figures)
    made = manifest_of(dataset, outcome, File(), None, QuestionPrompts())
    assert made["statistics"] == {
        "rows": 3,
        "token_histogram": [{"tokens": 8, "rows": 3}],
        "rows_by_shape": {"chat": 3},
    }
    assert made["split"] == {"validation_share": 0.5, "seed": -7}
    assert made["quality_rules"] == [{"check": "secret", "action": "block"}]
    assert json.loads(json.dumps(made)) == made
