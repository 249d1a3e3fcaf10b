from pathlib import Path

import pytest

from bertq_bert.errors import MissingFile, UnsafeCheckpoint
from bertq_bert.layout import Layout, find_model


def touch(directory: Path, *names: str) -> Path:
    directory.mkdir(exist_ok=True)
    for name in names:
        (directory / name).touch()
    return directory


GOOGLE = ("bert_config.json", "bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001")
HUGGING_FACE = ("config.json", "model.safetensors")


def test_google(tmp_path: Path) -> None:
    files = find_model(touch(tmp_path, *GOOGLE))
    assert files.layout is Layout.GOOGLE
    assert files.weights == tmp_path / "bert_model.ckpt"
    assert files.config == tmp_path / "bert_config.json"


def test_hugging_face(tmp_path: Path) -> None:
    files = find_model(touch(tmp_path, *HUGGING_FACE, "pytorch_model.bin"))
    assert files.layout is Layout.HUGGING_FACE
    assert files.weights == tmp_path / "model.safetensors"


def test_both_is_read_as_google(tmp_path: Path) -> None:
    assert find_model(touch(tmp_path, *GOOGLE, *HUGGING_FACE)).layout is Layout.GOOGLE


def test_a_google_config_alone_does_not_hide_hugging_face(tmp_path: Path) -> None:
    files = find_model(touch(tmp_path, "bert_config.json", *HUGGING_FACE))
    assert files.layout is Layout.HUGGING_FACE


def test_fine_tuned_checkpoint(tmp_path: Path) -> None:
    files = find_model(touch(tmp_path, "bert_config.json", "model.ckpt-123.index"))
    assert files.weights == tmp_path / "model.ckpt-123"


def test_released_name_wins_over_others(tmp_path: Path) -> None:
    files = find_model(touch(tmp_path, *GOOGLE, "model.ckpt-123.index"))
    assert files.weights == tmp_path / "bert_model.ckpt"


def test_several_checkpoints(tmp_path: Path) -> None:
    touch(tmp_path, "bert_config.json", "model.ckpt-1.index", "model.ckpt-2.index")
    with pytest.raises(MissingFile, match=r"several .*model.ckpt-1.index, model.ckpt-2.index"):
        find_model(tmp_path)


def test_name_is_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = touch(tmp_path / "uncased_L-12", *GOOGLE)
    assert find_model(f"{model}/").name == "uncased_L-12"
    monkeypatch.chdir(model)
    assert find_model(".").name == "uncased_L-12"
    (model / "sub").mkdir()
    monkeypatch.chdir(model / "sub")
    assert find_model("..").name == "uncased_L-12"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), r"no bert_config.json .* and no config.json .* in "),
        (("bert_config.json",), r"no checkpoint \(bert_model.ckpt.index\) in "),
        (("config.json",), r"no model.safetensors in "),
        (("config.json", "tf_model.h5"), r"no model.safetensors in "),
    ],
)
def test_missing_files_are_named(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(MissingFile, match=message):
        find_model(touch(tmp_path, *names))


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match=r"no such model directory: .*/nowhere"):
        find_model(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(MissingFile, match=r"no such model directory: .*/file"):
        find_model(tmp_path / "file")


def test_pickle_is_refused_with_the_way_out(tmp_path: Path) -> None:
    touch(tmp_path, "config.json", "pytorch_model.bin")
    with pytest.raises(UnsafeCheckpoint, match=r"pytorch_model.bin is a pickle.*save_pretrained"):
        find_model(tmp_path)
