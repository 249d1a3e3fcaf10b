"""Rows of the options that select a model and define its vectors."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from bertq.config.settings import Settings
from bertq.errors import RemoteError, TruncationWarning
from bertq_bert import Encoder, ModelError, read_source
from bertq_cli.commands.serve import serve
from tests.bert.checkpoints import TINY, tiny_variables
from tests.bert.reference import Reference
from tests.migration.deployment import (
    CONFIG,
    IDS,
    LABELS,
    LONG,
    TEXTS,
    Deployment,
    fine_tuned_variables,
    ids_of,
    reference,
)
from tests.migration.rows import row, row_each
from tests.waiting import eventually


def close(found: Any, wanted: Any, atol: float = 2e-5) -> None:
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=atol)


def tuned_reference(**options: Any) -> Any:
    made = reference(TEXTS, 40, config=CONFIG, variables=fine_tuned_variables(), **options)
    return made.rows("CLASSIFICATION", [-1])


@row("-model_dir", "-pooling_strategy", "REDUCE_MEAN")
def the_defaults(deployment: Deployment) -> None:
    with deployment.client() as client:
        close(client.encode(TEXTS), reference(TEXTS, 25).rows("REDUCE_MEAN", [-2]))
    info = deployment.infos()["gpu0"]
    assert (info.model, info.pooling_strategy) == ("uncased_tiny", "REDUCE_MEAN")
    # Written in small letters.
    assert deployment.infos()["cpu0-tuned"].pooling_strategy == "CLASSIFICATION"


@row("-tuned_model_dir", "-ckpt_name bert_model.ckpt", "-config_name bert_config.json")
def a_tuned_model(deployment: Deployment) -> None:
    with deployment.client(model="tuned") as client:
        found = client.encode(TEXTS)
    close(found, tuned_reference(), 2e-3)
    # With the config or the checkpoint of another name it would be something else.
    other = Reference(TINY, fine_tuned_variables(), [ids_of(t.split()) for t in TEXTS], 40)
    assert np.abs(other.rows("CLASSIFICATION", [-1]) - found).max() > 2e-2
    untuned = fine_tuned_variables() | tiny_variables()
    other = reference(TEXTS, 40, config=CONFIG, variables=untuned)
    assert np.abs(other.rows("CLASSIFICATION", [-1]) - found).max() > 2e-2


def served_plain(deployment: Deployment) -> Any:
    with deployment.client() as client:
        return client.encode(TEXTS)


@row("CLASSIFICATION", "-num_labels")
def a_head(deployment: Deployment) -> None:
    with deployment.client(model="tuned") as client:
        found = client.encode(TEXTS)
    close(found, tuned_reference(), 2e-3)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-3)
    (info,) = (a for a in deployment.infos().values() if a.model_name == "tuned")
    assert info.row_shape == [LABELS]
    result = CliRunner().invoke(serve, ["--num-labels", "0"])
    assert result.exit_code == 2
    assert "Invalid value for '--num-labels'" in result.output


@row("REGRESSION")
def another_head(deployment: Deployment) -> None:
    """Of the same labels: the served softmax has the differences of these logits."""
    from bertq_bert import load_encoder

    encoder = load_encoder(
        deployment.home / "uncased_tiny",
        tuned_model_dir=deployment.home / "tuned",
        ckpt_name="model.ckpt-77",
        config_name="other.json",
        pooling_strategy="REGRESSION",
    )
    rows = np.float64(encoder.encode(TEXTS))
    with deployment.client(model="tuned") as client:
        logs = np.log(np.float64(client.encode(TEXTS)))
    logits = np.log(rows / (1 - rows))
    close(logits[:, 1:] - logits[:, :1], logs[:, 1:] - logs[:, :1], 3e-2)


@row("-cased_tokenization")
def capitals(deployment: Deployment) -> None:
    texts = ["The Lord", "the lord"]
    with deployment.client(model="tuned") as client:
        upper, lower = client.encode(texts)
    unknown = [IDS["[CLS]"], IDS["[UNK]"], IDS["[UNK]"], IDS["[SEP]"]]
    wanted = Reference(CONFIG, fine_tuned_variables(), [unknown], 40).rows("CLASSIFICATION", [-1])
    close(upper, wanted[0], 2e-3)
    assert np.abs(upper - lower).max() > 1e-2
    with deployment.client() as client:  # its directory is called uncased
        upper, lower = client.encode(texts)
    close(upper, lower, 1e-6)


@row("-max_seq_len 25")
def the_default_length(deployment: Deployment) -> None:
    with (
        deployment.client() as client,
        pytest.warns(TruncationWarning, match="cut, 1 of 1 sentences: .* than the 25"),
    ):
        found, tokens = client.encode([LONG], show_tokens=True)
    assert len(tokens[0]) == 25
    close(found, reference(["the " * 23], 25).rows("REDUCE_MEAN", [-2]))
    assert deployment.infos()["cpu0-tuned"].max_seq_len == 40
    # The error of a worker that is started with more.
    with pytest.raises(ModelError, match="max_seq_len is 60: give 3"):
        read_source(deployment.home / "uncased_tiny", max_seq_len=60)


@row("-max_seq_len NONE")
def no_length(deployment: Deployment) -> None:
    limit = TINY["max_position_embeddings"]
    assert deployment.infos()["cpu1-tokens"].max_seq_len == limit
    with (
        deployment.client(model="tokens") as client,
        pytest.warns(TruncationWarning, match=f"than the {limit}"),
    ):
        assert client.encode([LONG]).shape == (1, limit, 64)


@row("NONE", "-pooling_layer -2", "-no_special_token", "-no_position_embeddings")
def token_vectors(deployment: Deployment) -> None:
    wanted = reference(TEXTS, 7, positions=False).rows("NONE", [-1, -3])
    for number, text in enumerate(TEXTS):
        close(deployment.token_rows[text], wanted[number, : len(ids_of(text.split()))])
    given = [text.split() for text in TEXTS]
    with deployment.client(model="tokens") as client:
        found, tokens = client.encode(given, is_tokenized=True, show_tokens=True)
    assert tokens == given
    ids = [[IDS[token] for token in words] for words in given]
    bare = Reference(TINY, tiny_variables(), ids, 5, positions=False)
    close(found, bare.rows("NONE", [-1, -3]))
    assert not np.any(found[0, 2:])


@row("-mask_cls_sep")
def masked(deployment: Deployment) -> None:
    with deployment.client(model="tokens") as client:
        found = client.encode(TEXTS)
    for row_, text in zip(found, TEXTS, strict=True):
        whole = deployment.token_rows[text]
        size = len(whole)
        assert not np.any(row_[[0, *range(size - 1, len(row_))]])
        # They were seen all the same: the other vectors are those of a worker that masks nothing.
        close(row_[1 : size - 1], whole[1:-1], 1e-5)
    assert fingerprint(deployment, "LAST_TOKEN", mask_cls_sep=True) == fingerprint(
        deployment, "LAST_TOKEN"
    )
    assert fingerprint(deployment, "REDUCE_MAX", mask_cls_sep=True) != fingerprint(
        deployment, "REDUCE_MAX"
    )


def fingerprint(deployment: Deployment, strategy: str, **options: Any) -> str:
    """Of the plain model: two of the same fingerprint give the same vectors."""
    plain = deployment.home / "uncased_tiny"
    return read_source(plain, pooling_strategy=strategy, **options).model.fingerprint


@cache
def rows_of(model: Path, strategy: str) -> Any:
    """The rows of a worker like the one for token vectors, with another strategy."""
    from bertq_bert import load_encoder

    encoder = load_encoder(
        model,
        pooling_strategy=strategy,
        pooling_layers=(-1, -3),
        max_seq_len="none",
        no_position_embeddings=True,
    )
    return encoder.encode(TEXTS)


def _pooled(x: Any) -> dict[str, Any]:
    """Of the token vectors of a sentence: its rows, by strategy."""
    v = tiny_variables()
    size = TINY["hidden_size"]
    dense = x[0, :size] @ v["bert/pooler/dense/kernel"] + v["bert/pooler/dense/bias"]
    return {
        "REDUCE_MAX": x.max(axis=0),
        "REDUCE_MEAN_MAX": np.concatenate([x.mean(axis=0), x.max(axis=0)]),
        "CLS_TOKEN": x[0],
        "SEP_TOKEN": x[-1],
        "CLS_POOLED": np.tanh(dense),
    }


@row_each("REDUCE_MAX", "REDUCE_MEAN_MAX", "CLS_TOKEN", "SEP_TOKEN", "CLS_POOLED")
def pooled(deployment: Deployment, strategy: str) -> None:
    """Check a strategy against pooling the served token vectors by hand."""
    found = rows_of(deployment.home / "uncased_tiny", strategy)
    wanted = np.stack([_pooled(deployment.token_rows[text])[strategy] for text in TEXTS])
    close(found, wanted)


@row_each("FIRST_TOKEN", "LAST_TOKEN")
def another_name(deployment: Deployment, strategy: str) -> None:
    same = {"FIRST_TOKEN": "CLS_TOKEN", "LAST_TOKEN": "SEP_TOKEN"}[strategy]
    assert fingerprint(deployment, strategy) == fingerprint(deployment, same)
    pooled(deployment, same)


@row("-show_tokens_to_client")
def tokens_are_shown(deployment: Deployment) -> None:
    with deployment.client() as client:
        _, tokens = client.encode(["The lord!"], show_tokens=True)
    assert tokens == [["[CLS]", "the", "lord", "!", "[SEP]"]]
    with (
        deployment.client(model="tuned") as client,
        pytest.raises(RemoteError, match="shows no tokens"),
    ):
        client.encode(TEXTS, show_tokens=True)


@row("-fp16")
def half_precision(deployment: Deployment) -> None:
    (info,) = (a for a in deployment.infos().values() if a.model_name == "tuned")
    assert info.dtype == "float16"
    with deployment.client(model="tuned") as client:
        found = client.encode(TEXTS)
    assert found.dtype == np.float32
    assert 1e-6 < np.abs(found - tuned_reference()).max() < 2e-3
    with deployment.client() as client:
        half = client.encode(TEXTS, precision="float16")
    assert half.dtype == np.float16
    close(np.float32(half), served_plain(deployment), 5e-3)


@row("-xla")
def compiled_shapes(deployment: Deployment) -> None:
    assert Settings.read({}, {"compile": True}).compile
    source = read_source(deployment.home / "uncased_tiny")
    encoder = Encoder.build(source, compiles=True)
    rows = encoder.encode(TEXTS)

    def is_compiled() -> bool:
        stats = encoder.compile_stats()
        return stats is not None and stats.shapes > 0

    eventually(is_compiled, 60)
    close(encoder.encode(TEXTS), rows, 5e-6)
