"""The worker pins its GPU before TensorFlow is imported, so importing us must not import it."""

import subprocess
import sys
from pathlib import Path

import pytest

import bertq_bert

CODE = """
import sys
{statement}
heavy = sorted({{"tensorflow", "tokenizers", "safetensors", "numpy"}} & set(sys.modules))
print(",".join(heavy))
"""


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("import bertq_bert; bertq_bert.POOLING_STRATEGIES; bertq_bert.ModelError", ""),
        ("import bertq_bert.errors, bertq_bert.pooling, bertq_bert.config", ""),
        ("import bertq_bert.tokenizing.google", "tokenizers"),
        ("from bertq_bert import Encoder, load_encoder", "numpy,safetensors,tokenizers"),
        ("from bertq_bert import Model, Source, read_source", "numpy,safetensors,tokenizers"),
    ],
)
def test_imports_no_more_than_it_needs(statement: str, allowed: str) -> None:
    root = str(Path(bertq_bert.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(statement=statement)],
        env={"PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == allowed


def test_public_names() -> None:
    assert len(bertq_bert.__all__) == 8
    for name in bertq_bert.__all__:
        assert getattr(bertq_bert, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bertq_bert.nothing
