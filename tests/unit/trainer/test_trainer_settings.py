"""What an operator may set, and what is refused with the variable's name."""

import pytest
from luthier_common.settings import SettingsError, load
from luthier_trainer.settings import TrainerSettings

REQUIRED = {
    "OBJECTS_URL": "file:///tmp/objects",
    "IDENTITY_SECRET": "x" * 32,
    "DATASET_ADDRESS": "127.0.0.1:1",
    "INFERENCE_ADDRESS": "127.0.0.1:2",
    "WORK_DIR": "/tmp/work",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in REQUIRED.items():
        monkeypatch.setenv(f"LUTHIER_{name}", value)


def test_prices_are_json_by_device_class(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (load(TrainerSettings).device_prices, load(TrainerSettings).price_currency) == (
        {},
        "USD",
    )
    monkeypatch.setenv("LUTHIER_DEVICE_PRICES", '{"NVIDIA A100-SXM4-80GB": 2.5, "cpu": 0}')
    monkeypatch.setenv("LUTHIER_PRICE_CURRENCY", "EUR")
    settings = load(TrainerSettings)
    assert settings.device_prices == {"NVIDIA A100-SXM4-80GB": 2.5, "cpu": 0}
    assert settings.price_currency == "EUR"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DEVICE_PRICES", '{"cpu": -1}'),
        ("DEVICE_PRICES", '{"cpu": Infinity}'),
        ("DEVICE_PRICES", '{"cpu": "free"}'),
        ("PRICE_CURRENCY", "euro"),
        ("STOP_SECONDS", "0"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"LUTHIER_{name}", value)
    with pytest.raises(SettingsError, match=f"LUTHIER_{name}"):
        load(TrainerSettings)
