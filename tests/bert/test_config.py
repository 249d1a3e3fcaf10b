from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertq_bert.config import NetworkConfig
from bertq_bert.errors import BadConfig, BrokenFile, MissingFile, UnsupportedModel
from bertq_bert.families import read_config
from tests.bert.checkpoints import TINY


def test_reads_every_hyper_parameter(broken_hf: Path, edit_json: Callable[..., None]) -> None:
    edit_json(broken_hf / "config.json", layer_norm_eps=1e-5, hidden_act="relu")
    _, config = read_config(broken_hf / "config.json")
    assert config == NetworkConfig(
        **(TINY | {"layer_norm_eps": 1e-5, "hidden_act": "relu"}), masked_lm_act="relu"
    )
    assert config.head_size == 8


def test_defaults_are_those_of_bert(broken_hf: Path, edit_json: Callable[..., None]) -> None:
    edit_json(broken_hf / "config.json", hidden_act=None, model_type=None)
    _, config = read_config(broken_hf / "config.json")
    assert (config.hidden_act, config.layer_norm_eps) == ("gelu", 1e-12)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"model_type": "t5"}, UnsupportedModel, r"model_type 't5' is not supported: .* bert, "),
        (
            {"position_embedding_type": "relative_key"},
            UnsupportedModel,
            r"position_embedding_type is 'rel",
        ),
        ({"is_decoder": True}, UnsupportedModel, r"is_decoder is True"),
        ({"hidden_act": "mish"}, BadConfig, r"hidden_act 'mish' is unknown: .*gelu, gelu_new"),
        ({"hidden_size": 30}, BadConfig, r"hidden_size 30 is not a multiple .*heads 4"),
        ({"hidden_size": None}, BadConfig, r"config.json: hidden_size is missing"),
        ({"vocab_size": "30522"}, BadConfig, r"vocab_size is '30522', not a positive"),
        ({"num_hidden_layers": 0}, BadConfig, r"num_hidden_layers is 0, not a positive"),
        ({"num_hidden_layers": 10**30}, BadConfig, r"num_hidden_layers is 10+: no BERT is"),
        ({"vocab_size": 2**24 + 1}, BadConfig, r"vocab_size is 16777217: no BERT is"),
        ({"intermediate_size": True}, BadConfig, r"intermediate_size is True, not a positive"),
        ({"layer_norm_eps": 0}, BadConfig, r"layer_norm_eps is 0, not a number"),
        ({"layer_norm_eps": "1e-12"}, BadConfig, r"layer_norm_eps is '1e-12', not a number"),
    ],
)
def test_refuses_by_name(
    broken_hf: Path,
    edit_json: Callable[..., None],
    values: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    edit_json(broken_hf / "config.json", **values)
    with pytest.raises(error, match=message) as caught:
        read_config(broken_hf / "config.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[1]", b"", b"[" * 100_000])
def test_broken_json_names_the_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(BrokenFile, match=r"/config\.json "):
        read_config(tmp_path / "config.json")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match=r"no such file: .*nothing.json"):
        read_config(tmp_path / "nothing.json")
