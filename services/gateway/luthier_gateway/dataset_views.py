"""Datasets, their rows and their reports as the extension shows them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from luthier.dataset.v1 import dataset_pb2, dataset_service_pb2, quality_pb2
from luthier_common.names import id_of
from luthier_common.plain import shown, word

from luthier_gateway.openai.errors import job_error
from luthier_gateway.recipes import show_recipe

_STATUSES = {
    dataset_pb2.Dataset.BUILDING: "building",
    dataset_pb2.Dataset.READY: "ready",
    dataset_pb2.Dataset.FAILED: "failed",
}


def to_dataset(dataset: dataset_pb2.Dataset, models: Mapping[str, str]) -> dict[str, Any]:
    """Return a dataset; `file` can be a job's `training_file` once it is there.

    `models` has the public names of the adapters in its recipes.
    """
    ready = dataset.HasField("statistics")
    return {
        "id": id_of(dataset.name),
        "object": "dataset",
        "created_at": dataset.create_time.seconds,
        "name": dataset.display_name,
        "status": _STATUSES.get(dataset.state, "building"),
        "model": id_of(dataset.base_model),
        "source_files": [id_of(name) for name in dataset.source_files],
        "recipes": [show_recipe(recipe, models) for recipe in dataset.recipes],
        "validation_share": dataset.split.validation_share,
        "seed": dataset.split.seed,
        "quality": [shown(rule) for rule in dataset.quality_rules],
        "skip_unreadable": dataset.skip_unreadable,
        "generations_of": id_of(dataset.generations_of) or None,
        "progress": _to_progress(dataset.progress) if dataset.HasField("progress") else None,
        "statistics": _to_statistics(dataset.statistics) if ready else None,
        "file": id_of(dataset.file) or None,
        "validation_file": id_of(dataset.validation_file) or None,
        "digest": dataset.digest or None,
        "artifacts": shown(dataset.artifacts) if dataset.HasField("artifacts") else None,
        "error": job_error(dataset.error) if dataset.HasField("error") else None,
        "deleted": dataset.HasField("delete_time"),
    }


def to_row(row: dataset_pb2.DatasetRow) -> dict[str, Any]:
    """Return a row; `line` is what the file has, `spans` is what a preview marks."""
    found = {
        "object": "dataset.row",
        "messages": [{"role": one.role, "content": one.content} for one in row.messages],
        "recipe": row.recipe,
        "origins": [
            {
                "source_file": id_of(origin.source_file),
                "heading_path": list(origin.heading_path),
                "place": shown(origin.place),
            }
            for origin in row.origins
        ],
        "token_count": row.token_count,
        "validation": row.validation,
        "findings": [word(quality_pb2.QualityCheck.DESCRIPTOR, one) for one in row.findings],
        "line": json.loads(row.line) if row.line else None,
    }
    if row.spans:
        found["spans"] = [{"text": span.text, "learned": span.learned} for span in row.spans]
    return found


def to_preview(preview: dataset_service_pb2.PreviewDatasetResponse) -> dict[str, Any]:
    """Return the first rows of a dataset that is not stored, and what the whole would be."""
    estimate = preview.estimate
    return {
        "object": "dataset.preview",
        "data": [to_row(row) for row in preview.rows],
        "dropped_by_reason": dict(preview.dropped_by_reason),
        "estimate": {
            "rows": estimate.rows,
            "tokens": estimate.tokens,
            "model_calls": estimate.model_calls,
            "model_tokens": estimate.model_tokens,
            "read_share": estimate.read_share,
        },
    }


def to_report(dataset_id: str, report: quality_pb2.QualityReport) -> dict[str, Any]:
    """Return what was found in a dataset."""
    return {
        "object": "dataset.report",
        "dataset": dataset_id,
        "rows": report.rows,
        "findings": [_to_finding(finding) for finding in report.findings],
        "rows_by_language": dict(report.rows_by_language),
        "rows_by_label": dict(report.rows_by_label),
        "notes": list(report.notes),
    }


def _to_finding(finding: quality_pb2.QualityFinding) -> dict[str, Any]:
    return {
        "check": word(quality_pb2.QualityCheck.DESCRIPTOR, finding.check),
        "action": word(quality_pb2.QualityRule.Action.DESCRIPTOR, finding.action),
        "count": finding.count,
        "examples": [
            {
                "source_file": id_of(example.source_file),
                "display_name": example.display_name,
                "place": example.place,
                "detail": example.detail,
            }
            for example in finding.examples
        ],
    }


def _to_progress(progress: dataset_pb2.BuildProgress) -> dict[str, Any]:
    return {"stage": progress.stage, "done": progress.done, "total": progress.total}


def _to_statistics(figures: dataset_pb2.DatasetStatistics) -> dict[str, Any]:
    return {
        "rows": figures.rows,
        "validation_rows": figures.validation_rows,
        "tokens": figures.tokens,
        "learned_tokens": figures.learned_tokens,
        "max_row_tokens": figures.max_row_tokens,
        "token_histogram": [
            {"tokens": one.tokens, "rows": one.rows} for one in figures.token_histogram
        ],
        "rows_by_recipe": dict(figures.rows_by_recipe),
        "rows_by_shape": dict(figures.rows_by_shape),
        "dropped_by_reason": dict(figures.dropped_by_reason),
        "documents": figures.documents,
        "model_calls": figures.model_calls,
    }
