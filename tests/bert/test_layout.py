from pathlib import Path

import pytest

from bertq_bert.directory.layout import Layout, find_model
from bertq_bert.errors import MissingFile, UnsafeCheckpoint


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


def test_the_latest_of_several_checkpoints(tmp_path: Path) -> None:
    touch(tmp_path, "bert_config.json", "model.ckpt-1.index", "model.ckpt-2.index")
    for latest in ("model.ckpt-1", "/tmp/train/model.ckpt-1", "gs://bucket/model.ckpt-1"):
        (tmp_path / "checkpoint").write_text(
            f'model_checkpoint_path: "{latest}"\nall_model_checkpoint_paths: "model.ckpt-2"\n'
        )
        assert find_model(tmp_path).weights == tmp_path / "model.ckpt-1"
    for text in (b'model_checkpoint_path: "model.ckpt-3"', b"", b"\xff"):
        (tmp_path / "checkpoint").write_bytes(text)
        with pytest.raises(MissingFile, match=r"several .*name one of them \(ckpt_name\)"):
            find_model(tmp_path)


@pytest.mark.parametrize("name", ["model.ckpt-123", "model.ckpt-123.index"])
def test_a_checkpoint_by_name(tmp_path: Path, name: str) -> None:
    model = touch(tmp_path / "model", *GOOGLE, *HUGGING_FACE, "model.ckpt-123.index", "vocab.txt")
    files = find_model(model, ckpt_name=name)
    assert (files.layout, files.weights) == (Layout.GOOGLE, model / "model.ckpt-123")
    assert files.config == model / "bert_config.json"
    files = find_model(model, ckpt_name="model.safetensors")
    assert (files.layout, files.weights) == (Layout.HUGGING_FACE, model / "model.safetensors")
    assert files.config == model / "config.json"
    tuned = touch(tmp_path / "tuned", "model.ckpt-123.index")
    files = find_model(model, tuned_model_dir=tuned, ckpt_name=name)
    assert (files.directory, files.weights) == (model, tuned / "model.ckpt-123")
    assert files.name == "tuned"


def test_weights_of_another_directory(tmp_path: Path) -> None:
    for model, weights in (
        (GOOGLE, ("model.ckpt-9.index",)),
        (HUGGING_FACE, ("model.safetensors",)),
    ):
        released = touch(tmp_path / model[0], *model)
        tuned = touch(tmp_path / f"tuned-{model[0]}", *weights)
        files = find_model(released, tuned_model_dir=tuned)
        assert files.config == released / model[0]
        assert files.weights == tuned / weights[0].removesuffix(".index")


def test_a_config_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "my_config.json", *GOOGLE[1:])
    assert find_model(tmp_path, config_name="my_config.json").layout is Layout.GOOGLE
    (tmp_path / GOOGLE[1]).unlink()
    touch(tmp_path, "model.safetensors")
    files = find_model(tmp_path, config_name="my_config.json")
    assert (files.layout, files.config.name) == (Layout.HUGGING_FACE, "my_config.json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"ckpt_name": "model.ckpt-7"},
            r"no checkpoint model.ckpt-7 in .*: it has bert_model.ckpt.index, model.safetensors$",
        ),
        ({"ckpt_name": "pytorch_model.bin"}, r"no checkpoint pytorch_model.bin in "),
        ({"ckpt_name": ""}, r"no checkpoint  in "),
        ({"ckpt_name": "/"}, r"no checkpoint / in "),
        ({"ckpt_name": "x" * 300}, r"no checkpoint x+ in "),
        ({"config_name": "my.json"}, r"no my.json in .*: it has bert_config.json, config.json$"),
        ({"config_name": "x" * 300}, r"no x+ in .*: it has bert_config.json"),
        ({"tuned_model_dir": "/nowhere"}, r"no such model directory: /nowhere"),
    ],
)
def test_missing_names(tmp_path: Path, options: dict[str, str], message: str) -> None:
    touch(tmp_path, *GOOGLE, *HUGGING_FACE, "pytorch_model.bin")
    with pytest.raises(MissingFile, match=message) as caught:
        find_model(tmp_path, **options)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_the_other_layout(tmp_path: Path) -> None:
    model = touch(tmp_path / "model", *GOOGLE)
    tuned = touch(tmp_path / "tuned", "best.safetensors")
    with pytest.raises(MissingFile, match=r"no config.json in .*, which best.safetensors calls"):
        find_model(model, tuned_model_dir=tuned, ckpt_name="best.safetensors")
    with pytest.raises(MissingFile, match=r"no checkpoint \(bert_model.ckpt.index\) in .*/tuned"):
        find_model(model, tuned_model_dir=tuned)
    pickled = touch(tmp_path / "pickled", "pytorch_model.bin")
    with pytest.raises(UnsafeCheckpoint, match=r"/pickled/pytorch_model.bin is a pickle"):
        find_model(touch(tmp_path / "hf", *HUGGING_FACE), tuned_model_dir=pickled)


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


def test_a_pickle_is_refused_with_advice(tmp_path: Path) -> None:
    touch(tmp_path, "config.json", "pytorch_model.bin")
    with pytest.raises(UnsafeCheckpoint, match=r"pytorch_model.bin is a pickle.*: bertq convert /"):
        find_model(tmp_path)
