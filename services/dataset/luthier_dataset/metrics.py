"""The figures of the dataset service."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram


class Metrics:
    """Counters and timers, on the registry given."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.files = Counter(
            "luthier_dataset_files_stored_total", "Files stored", ["purpose"], registry=registry
        )
        self.file_bytes = Counter(
            "luthier_dataset_file_bytes_stored_total", "Bytes of files stored", registry=registry
        )
        self.builds = Counter(
            "luthier_dataset_builds_total", "Builds ended, by state", ["state"], registry=registry
        )
        self.build_seconds = Histogram(
            "luthier_dataset_build_seconds", "Time of builds that got READY", registry=registry,
            buckets=(1, 3, 10, 30, 100, 300, 1000, 3000),
        )  # fmt: skip
        self.model_calls = Counter(
            "luthier_dataset_model_calls_total", "Questions put to base models, by status code",
            ["code"], registry=registry,
        )  # fmt: skip
