"""Every setting of a model reaches the loader."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bertq.config.settings import Settings
from bertq.errors import SettingsError
from bertq_bert import read_source
from bertq_workers.startup import devices, loading
from bertq_workers.startup.hardware import Hardware
from tests.bert.checkpoints import write_tiny_hf


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of models: ``plain``, and ``tuned`` with other weights and a head."""
    directory = tmp_path_factory.mktemp("models")
    write_tiny_hf(directory / "plain")
    tuned = write_tiny_hf(directory / "tuned", seed=1, prefix="bert.")
    tensors = load_file(tuned / "model.safetensors")
    head = {"weight": np.ones((3, 32), np.float32), "bias": np.zeros(3, np.float32)}
    save_file(
        tensors | {f"classifier.{name}": array for name, array in head.items()},
        tuned / "model-9.safetensors",
    )
    shutil.copyfile(directory / "plain" / "config.json", directory / "plain" / "other.json")
    return directory


def settings(models: Path, **options: Any) -> Settings:
    """Settings of a worker with the plain model."""
    return Settings(model_dir=str(models / "plain"), **options)


def fingerprint(models: Path, **options: Any) -> str:
    """The fingerprint of the model that a worker with these settings has."""
    return loading.read(settings(models, **options), None).model.fingerprint


@pytest.mark.parametrize(
    "options",
    [
        {"max_seq_len": 7},
        {"pooling_strategy": "REDUCE_MAX"},
        {"max_seq_len": "none"},
        {"pooling_strategy": "max+mean"},
        {"pooling_layer": (-1,)},
        {"compat": "bert-as-service", "pooling_layer": (-1,)},
        {"dtype": "bfloat16"},
        {"cased": True},
        {"mask_cls_sep": True},
        {"no_special_token": True},
        {"no_position_embeddings": True},
    ],
    ids=str,
)
def test_settings_that_change_a_row_reach_the_model(models: Path, options: dict[str, Any]) -> None:
    wanted = {name.replace("layer", "layers"): value for name, value in options.items()}
    expected = read_source(models / "plain", **wanted).model.fingerprint
    assert fingerprint(models, **options) == expected
    assert expected != fingerprint(models)


def test_a_fine_tuned_checkpoint(models: Path) -> None:
    tuned = str(models / "tuned")
    assert fingerprint(models, tuned_model_dir=tuned) == read_source(tuned).model.fingerprint
    head = settings(
        models,
        tuned_model_dir=tuned,
        ckpt_name="model-9.safetensors",
        config_name="other.json",
        pooling_strategy="CLASSIFICATION",
        num_labels=3,
    )
    assert loading.read(head, None).model.row_shape == (3,)
    with pytest.raises(SettingsError, match=r"no absent\.json in .*plain"):
        fingerprint(models, config_name="absent.json")
    with pytest.raises(SettingsError, match="num_labels is 2"):
        fingerprint(models, num_labels=2)


def test_weights_that_a_dtype_cannot_hold(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # TensorFlow cannot change its threads after another test has used it.
    monkeypatch.setattr(devices, "configure", lambda *_: Hardware("cpu", 1))
    shutil.copytree(models / "plain", tmp_path / "large")
    file = tmp_path / "large" / "model.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if name.endswith("attention.self.query.weight"))
    tensors[name][0, 0] = 1e6
    save_file(tensors, file)
    chosen = Settings(model_dir=str(tmp_path / "large"), dtype="float16")
    with pytest.raises(SettingsError, match="cannot hold this model's weights: use bfloat16"):
        loading.build(loading.read(chosen, None), chosen, None)
