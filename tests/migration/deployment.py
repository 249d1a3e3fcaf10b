"""One service and two more workers, with all options that the rows describe."""

import json
import subprocess
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from redis import Redis

from bertq import BertClient
from bertq.state import worker_info
from bertq_cli.service.embedded_redis import free_port
from tests.bert.checkpoints import (
    TINY,
    VOCABULARY,
    save_google,
    tiny_variables,
    write_tiny_google,
)
from tests.bert.reference import Reference
from tests.cli.runs import BERTQ, Run
from tests.conftest import WorkerProcess, clean_environ

IDS = {token: number for number, token in enumerate(VOCABULARY)}

#: All words are in the vocabulary, so the reference needs no tokenizer.
TEXTS = ["the lord", "he shall not unto him", "they"]
#: More words than any worker here reads.
LONG = "the " * 60

CONFIG = TINY | {"hidden_act": "relu"}
LABELS = 3


def ids_of(words: list[str]) -> list[int]:
    return [IDS.get(word, IDS["[UNK]"]) for word in ["[CLS]", *words, "[SEP]"]]


def reference(texts: list[str], length: int, **options: Any) -> Reference:
    """The layers of sentences in the plain model, or in one of other ``variables``."""
    variables = options.pop("variables", None) or tiny_variables()
    config = options.pop("config", TINY)
    return Reference(config, variables, [ids_of(t.split()) for t in texts], length, **options)


def fine_tuned_variables() -> dict[str, Any]:
    """A model of other weights, with a head."""
    rng = np.random.default_rng(7)
    head = {
        "output_weights": 0.2 * rng.standard_normal((LABELS, TINY["hidden_size"])),
        "output_bias": rng.standard_normal(LABELS),
    }
    cast = {name: array.astype(np.float32) for name, array in head.items()}
    return tiny_variables(seed=1) | cast


@dataclass
class Deployment:
    """The service, workers and directories that all rows share.

    Attributes:
        home: their directory.
        port, flower, http: ports of the service, its dashboard and its gateway.
        service: ``bertq serve`` with two workers.
        tuned: a worker of a fine-tuned model, with many options.
        tokens: a worker that answers with token vectors.
        passed: checks that have passed.
    """

    home: Path
    port: int
    flower: int
    http: int
    service: Run
    tuned: WorkerProcess
    tokens: WorkerProcess
    passed: set[Any] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, **options: Any) -> BertClient:
        """A client with a timeout."""
        return BertClient(**{"redis_url": self.url, "timeout": 60, **options})

    def infos(self) -> dict[str, worker_info.WorkerInfo]:
        """The infos of the workers, by device."""
        with Redis.from_url(self.url) as redis:
            return {info.node.split("@")[0]: info for info in worker_info.read(redis)}

    @cached_property
    def token_rows(self) -> dict[str, Any]:
        """Token vectors that the worker sends for ``TEXTS``, by sentence, with no padding.

        They come as tokens, ``[CLS]`` and ``[SEP]`` among them: nothing is masked then.
        """
        given = [["[CLS]", *text.split(), "[SEP]"] for text in TEXTS]
        with self.client(model="tokens") as client:
            rows = client.encode(given, is_tokenized=True)
        return {t: row[: len(g)] for t, g, row in zip(TEXTS, given, rows, strict=True)}

    def end(self) -> None:
        """End all processes."""
        self.tuned.kill()
        self.tokens.kill()
        self.service.end()


def build(home: Path) -> Deployment:
    """Write the models and start the workers, all at once."""
    plain = write_tiny_google(home / "uncased_tiny")
    (plain / "other.json").write_text(json.dumps(CONFIG))
    tuned = home / "tuned"
    tuned.mkdir()
    save_google(tuned / "model.ckpt-77", fine_tuned_variables())
    save_google(tuned / "model.ckpt-11", tiny_variables(seed=2))
    port, flower, http = free_port(), free_port(), free_port()
    service = Run(
        home, "serve", "--model-dir", str(plain), "--num-workers", "2", "--device-map", "0",
        "--gpu-memory-fraction", "0.5", "--threads", "1", "--port", str(port),
        "--data-dir", str(home / "data"), "--flower", str(flower), "--http-port", str(http),
    )  # fmt: skip
    service.wait_for("redis       embedded")
    url = f"redis://127.0.0.1:{port}/0"
    tuned_worker = WorkerProcess(
        url, plain, home / "tuned.log", "-Q", "cpu0", "--model-name", "tuned", "--threads", "1",
        "--tuned-model-dir", str(tuned), "--ckpt-name", "model.ckpt-77",
        "--config-name", "other.json", "--cased-tokenization", "--num-labels", str(LABELS),
        "--pooling-strategy", "classification", "--dtype", "float16", "--max-seq-len", "40",
        "--max-batch-size", "4", "--priority-batch-size", "2", "--no-show-tokens-to-client",
        "-l", "DEBUG",
    )  # fmt: skip
    tokens_worker = WorkerProcess(
        url, plain, home / "tokens.log", "-Q", "cpu1", "--model-name", "tokens", "--threads", "1",
        "--pooling-strategy", "NONE", "--pooling-layer=-1,-3", "--max-seq-len", "none",
        "--mask-cls-sep", "--no-special-token", "--no-position-embeddings",
    )  # fmt: skip
    deployment = Deployment(home, port, flower, http, service, tuned_worker, tokens_worker)
    try:
        service.wait_for("\nready ")
        tuned_worker.wait_ready()
        tokens_worker.wait_ready()
    except BaseException:
        deployment.end()
        raise
    return deployment


def run(*command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, without any variable of bertq."""
    return subprocess.run(
        command,
        env=clean_environ(),
        cwd=cwd,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def bertq(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the ``bertq`` command to its end."""
    return run(*BERTQ, *arguments)
