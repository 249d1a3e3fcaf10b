"""Settings of a directory, in both forms of its files, and refused settings.

The vectors of these directories are compared in ``test_directories.py``.
"""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bertq_bert import Encoder, Model, ModelError, read_source
from bertq_bert.errors import (
    BadConfig,
    BadLength,
    BadOption,
    BrokenFile,
    MissingFile,
    MissingVariable,
    UnsafeCheckpoint,
    UnsupportedModel,
    WrongShape,
)
from tests.bert.checkpoints import write_tiny_google, write_tiny_hf

MODELS = Path(__file__).parents[1] / "data" / "models"

Copy = Callable[[str], Path]
Edit = Callable[..., None]


@pytest.fixture
def copied(tmp_path: Path) -> Copy:
    """Copy a directory of ``tests/data/models`` for a test to change."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(MODELS / name, tmp_path / name))

    return copy


def model_of(path: Path, **options: Any) -> Model:
    return read_source(path, **options).model


def assert_refused(path: Path, error: type[ModelError], message: str, **options: Any) -> None:
    """The directory is refused in one line, which names one of its files."""
    with pytest.raises(error, match=message) as caught:
        read_source(path, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text


def modules(path: Path, *added: tuple[str, str]) -> None:
    """Change the types of modules of ``modules.json``, or add some: (path, type)."""
    file = path / "modules.json"
    listed = json.loads(file.read_text())
    for folder, kind in added:
        known = [module for module in listed if module["path"] == folder]
        if known:
            known[0]["type"] = kind
        else:
            number = len(listed)
            listed.append({"idx": number, "name": str(number), "path": folder, "type": kind})
    file.write_text(json.dumps(listed))


# --- settings of the directory


@pytest.mark.parametrize(
    ("name", "pooling", "length", "normalized", "description"),
    [
        ("bert-mean", "mean", 96, False, "mean of the last layer, 96 tokens (from modules.json)"),
        ("bert-mean-norm-old", "mean", 96, True, "mean of the last layer, 96 tokens, L2-norm"),
        ("bert-cls-norm", "cls", 96, True, "first token of the last layer"),
        ("bert-cls-old", "cls", 96, False, "first token of the last layer"),
        ("bert-max-mean", "max+mean", 96, False, "max and mean of the last layer"),
        ("bert-max-mean-old", "max+mean", 96, False, "max and mean of the last layer"),
        ("bert-lasttoken-cls", "lasttoken+cls", 96, False, "last token and first token of"),
        ("bert-sqrt-old", "mean_sqrt_len_tokens", 96, False, "sum over the root of the length"),
        ("bert-weightedmean-old", "weightedmean", 96, False, "position-weighted mean of"),
        ("bert-length-16", "mean", 16, False, "16 tokens"),
        ("bert-length-16-old", "mean", 16, False, "16 tokens"),
        ("bert-length-unset-old", "mean", 96, False, "96 tokens"),
        ("bert-folder-old", "mean", 96, False, "(from modules.json)"),
        ("xlmr-mean-old", "mean", 96, False, "(from modules.json)"),
        ("cross-bert-3", "CLASSIFICATION", 96, False, "3 labels"),
        ("cross-bert-identity-old", "CLASSIFICATION", 96, False, "a score, 96 tokens"),
        ("splade-bert-old", "SPLADE_MAX", 96, False, "sparse weights of 400 tokens"),
        ("splade-distilbert", "SPLADE_SUM", 96, False, "sparse weights of"),
    ],
)
def test_the_directory_decides(
    name: str, pooling: str, length: int, normalized: bool, description: str
) -> None:
    model = model_of(MODELS / name)
    assert model.name == name
    assert (model.pooling_strategy, model.max_seq_len) == (pooling, length)
    assert model.pooling_layers == (-1,)
    assert model.normalized is normalized
    assert description in model.description


def test_prompts() -> None:
    model = model_of(MODELS / "bert-prompt-left-out")
    assert dict(model.prompts) == {"query": "ask: ", "document": "The document says: "}
    assert model.default_prompt is not None
    assert model.include_prompt is False
    assert f"prompts document|query, {model.default_prompt} by default" in model.description
    assert model_of(MODELS / "bert-prompt-old").include_prompt is True
    unused = model_of(MODELS / "bert-prompts-unused")
    assert (unused.default_prompt, sorted(unused.prompts)) == (None, ["document", "query"])
    assert model_of(MODELS / "bert-mean").similarity == "cosine"


def test_modules_after_the_pooling() -> None:
    dense = read_source(MODELS / "bert-dense-tanh")
    (step,) = dense.pooling.steps
    assert (step.kind, step.activation, step.outputs) == ("dense", "tanh", dense.model.row_shape[0])
    assert dense.model.normalized
    layer_norm = read_source(MODELS / "bert-layernorm-old").pooling.steps
    assert [step.kind for step in layer_norm] == ["layer_norm", "dense"]
    linear = read_source(MODELS / "bert-dense-linear-old").pooling.steps
    assert [(step.kind, step.activation) for step in linear] == [("dense_without_bias", "identity")]


def test_both_forms_give_the_same_model(copied: Copy, edit_json: Edit) -> None:
    """The new form rewritten as the old one: the same model, by its fingerprint."""
    new = model_of(MODELS / "bert-lasttoken-cls").fingerprint
    path = copied("bert-lasttoken-cls")
    file = path / "1_Pooling" / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"pooling_mode": ["cls", "lasttoken"]}))
    ordered = model_of(path).fingerprint
    assert ordered != new
    flags = {"cls_token": True, "mean_tokens": False, "max_tokens": False, "lasttoken": True}
    file.write_text(
        json.dumps(
            {"word_embedding_dimension": 24}
            | {f"pooling_mode_{name}": value for name, value in flags.items()}
        )
    )
    modules(path, ("", "sentence_transformers.models.Transformer"))
    modules(path, ("1_Pooling", "sentence_transformers.models.Pooling"))
    assert model_of(path).fingerprint == ordered
    # no flag at all is mean
    file.write_text('{"word_embedding_dimension": 24}')
    assert model_of(path).pooling_strategy == "mean"


@pytest.mark.parametrize("name", ["maxsim", "", 3, ["cosine"], None])
def test_similarities_that_are_not_known(copied: Copy, edit_json: Edit, name: object) -> None:
    path = copied("bert-mean")
    edit_json(path / "config_sentence_transformers.json", similarity_fn_name=name)
    assert model_of(path).similarity is None


@pytest.mark.parametrize(
    "change",
    [
        {"prompts": {"query": "ask this: "}},
        {"default_prompt_name": "document"},
        {"similarity_fn_name": "dot"},
    ],
)
def test_the_fingerprint_covers_what_changes_a_row(
    copied: Copy, edit_json: Edit, change: dict[str, Any]
) -> None:
    path = copied("bert-prompts-unused")
    before = model_of(path).fingerprint
    edit_json(path / "config_sentence_transformers.json", **change)
    same = "similarity_fn_name" in change  # no row changes
    assert (model_of(path).fingerprint == before) is same


def test_the_length(copied: Copy, edit_json: Edit) -> None:
    path = copied("bert-mean-norm-old")
    settings, tokenizer = path / "sentence_bert_config.json", path / "tokenizer_config.json"
    edit_json(tokenizer, model_max_length=20)
    assert model_of(path).max_seq_len == 96, "max_seq_length wins"
    edit_json(settings, max_seq_length=None)
    assert model_of(path).max_seq_len == 20
    edit_json(tokenizer, model_max_length=int(1e30))
    assert model_of(path).max_seq_len == 96
    edit_json(settings, max_seq_length=4000)
    assert model_of(path).max_seq_len == 96, "the positions end there"
    assert model_of(path, max_seq_len=30).max_seq_len == 30


def test_an_error_names_the_file_of_the_settings(copied: Copy, edit_json: Edit) -> None:
    path = copied("bert-mean-norm-old")
    (path / "sentence_bert_config.json").rename(path / "sentence_roberta_config.json")
    edit_json(path / "sentence_roberta_config.json", max_seq_length="long")
    with pytest.raises(BadConfig, match="sentence_roberta_config"):
        model_of(path)


def test_rotary_positions_do_not_end(copied: Copy, edit_json: Edit) -> None:
    """As in sentence-transformers: the length of the model overrides that of the tokenizer."""
    path = copied("gte-cls-norm")
    settings, tokenizer = path / "sentence_bert_config.json", path / "tokenizer_config.json"
    edit_json(tokenizer, model_max_length=200)
    assert model_of(path).max_seq_len == 96
    edit_json(settings, max_seq_length=200)
    source = read_source(path)
    assert source.model.max_seq_len == 200
    assert Encoder.build(source).encode(["x " * 300]).shape == (1, 24)


def test_settings_under_older_names(copied: Copy, edit_json: Edit) -> None:
    path = copied("roberta-mean-norm-old")
    (path / "sentence_bert_config.json").rename(path / "sentence_roberta_config.json")
    edit_json(path / "sentence_roberta_config.json", max_seq_length=12)
    assert model_of(path).max_seq_len == 12


def test_dropout_does_nothing(copied: Copy) -> None:
    path = copied("bert-mean")
    before = model_of(path).fingerprint
    modules(path, ("2_Dropout", "sentence_transformers.models.Dropout"))
    assert model_of(path).fingerprint == before


def test_normalize_twice_and_before_dense(copied: Copy) -> None:
    path = copied("bert-dense-linear-old")
    modules(path, ("3_Normalize", "sentence_transformers.models.Normalize"))
    assert model_of(path).normalized
    listed = json.loads((path / "modules.json").read_text())
    listed[-2:] = listed[:-3:-1]
    (path / "modules.json").write_text(json.dumps(listed))
    source = read_source(path)
    assert [step.kind for step in source.pooling.steps] == ["normalize", "dense_without_bias"]
    assert not source.model.normalized


# --- refused settings


@pytest.mark.parametrize("kind", ["CNN", "LSTM", "WordWeights", "WeightedLayerPooling", "Router"])
def test_unknown_modules(copied: Copy, kind: str) -> None:
    path = copied("bert-mean")
    modules(path, ("2_New", f"sentence_transformers.models.{kind}"))
    assert_refused(
        path, UnsupportedModel, rf"modules.json: module {kind} after the pooling .*Dense"
    )
    modules(path, ("1_Pooling", f"sentence_transformers.models.{kind}"))
    assert_refused(
        path, UnsupportedModel, rf"modules.json: {kind} follows the Transformer.*Pooling"
    )


@pytest.mark.parametrize("kind", ["WordEmbeddings", "StaticEmbedding", "CLIPModel", "BoW", "Asym"])
def test_models_with_other_first_tokens(copied: Copy, kind: str) -> None:
    path = copied("bert-mean-norm-old")
    modules(path, ("", f"sentence_transformers.models.{kind}"))
    assert_refused(
        path, UnsupportedModel, rf"modules.json: the first module is {kind}: .*Transformer"
    )


def test_code_of_its_own(copied: Copy) -> None:
    path = copied("bert-mean")
    modules(path, ("", "custom_st.Transformer"))
    assert_refused(
        path,
        UnsupportedModel,
        r"modules.json: module 'custom_st.Transformer' is the model's own Python",
    )


def test_no_pooling(copied: Copy) -> None:
    path = copied("bert-mean")
    listed = json.loads((path / "modules.json").read_text())
    (path / "modules.json").write_text(json.dumps(listed[:1]))
    assert_refused(path, UnsupportedModel, r"modules.json: nothing follows the Transformer")


@pytest.mark.parametrize(
    ("name", "file", "change", "message"),
    [
        ("bert-mean", "1_Pooling", {"pooling_mode": "median"}, "pooling mode 'median' .* cls, max"),
        ("bert-mean", "1_Pooling", {"pooling_mode": ["mean", "first"]}, "pooling mode 'first'"),
        ("bert-cls-old", "1_Pooling", {"pooling_mode_top_tokens": True}, "'pooling_mode_top_tok"),
        ("bert-dense-tanh", "2_Dense", {"use_residual": True}, "use_residual"),
        ("bert-dense-tanh", "2_Dense", {"activation_function": "mine.Swish"}, "'mine.Swish'"),
        (
            "bert-dense-tanh",
            "2_Dense",
            {"activation_function": "torch.nn.modules.activation.PReLU"},
            "PReLU' is unknown: .*Identity, Tanh",
        ),
        ("bert-dense-tanh", "2_Dense", {"module_input_name": "token_embeddings"}, "module_input_n"),
        (
            "bert-dense-tanh",
            "2_Dense",
            {"module_output_name": "x"},
            "module_output_name is 'x': only sentence_embedding",
        ),
        ("splade-bert", "1_SpladePooling", {"pooling_strategy": "mean"}, "pooling_strategy 'mean'"),
        ("splade-bert", "1_SpladePooling", {"activation_function": "elu"}, "function 'elu'"),
    ],
)
def test_unknown_settings_of_modules(
    copied: Copy, edit_json: Edit, name: str, file: str, change: dict[str, Any], message: str
) -> None:
    path = copied(name)
    edit_json(path / file / "config.json", **change)
    assert_refused(path, UnsupportedModel, rf"{file}/config.json: .*{message}")


@pytest.mark.parametrize(
    ("name", "file", "change", "message"),
    [
        (
            "bert-mean",
            "config_sentence_transformers.json",
            {"truncate_dim": 8},
            "truncate_dim is 8",
        ),
        ("splade-bert", "config_sentence_transformers.json", {"max_active_dims": 8}, "max_active_"),
        (
            "bert-mean",
            "sentence_bert_config.json",
            {"transformer_task": "text-generation"},
            "'text",
        ),
        ("bert-mean", "sentence_bert_config.json", {"processing_kwargs": {"text": {}}}, "'text'"),
        ("bert-mean", "sentence_bert_config.json", {"query_length": 32}, "query_length is 32"),
        (
            "bert-mean",
            "sentence_bert_config.json",
            {"config_args": {"num_labels": 2}},
            "num_labels",
        ),
        ("bert-mean", "sentence_bert_config.json", {"module_output_name": "pooled"}, "'pooled'"),
        ("bert-mean", "tokenizer_config.json", {"truncation_side": "left"}, "truncation_side"),
        (
            "cross-bert",
            "config_sentence_transformers.json",
            {"activation_fn": "torch.nn.modules.activation.ELU"},
            "ELU' is unknown",
        ),
        (
            "cross-bert",
            "config_sentence_transformers.json",
            {"prompts": {"a": "ask: "}, "default_prompt_name": "a"},
            "default_prompt_name .*'a'",
        ),
    ],
)
def test_settings_that_would_change_a_row(
    copied: Copy, edit_json: Edit, name: str, file: str, change: dict[str, Any], message: str
) -> None:
    path = copied(name)
    edit_json(path / file, **change)
    assert_refused(path, UnsupportedModel, message)


def test_settings_that_change_nothing(copied: Copy, edit_json: Edit) -> None:
    path = copied("bert-mean")
    before = model_of(path).fingerprint
    edit_json(
        path / "sentence_bert_config.json",
        model_args={"attn_implementation": "sdpa", "torch_dtype": "float16"},
        tokenizer_args={"padding_side": "left"},
        unpad_inputs=True,
    )
    assert model_of(path).fingerprint == before


@pytest.mark.parametrize(
    "kind", ["deberta-v2", "t5", "qwen2", "clip", "mpnet-2", "xlm-roberta-xl", "roformer", 7, None]
)
@pytest.mark.parametrize("name", ["bert-mean", "cross-bert", "splade-bert"])
def test_unknown_families(copied: Copy, name: str, kind: object) -> None:
    path = copied(name)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"model_type": kind}))
    assert_refused(path, UnsupportedModel, rf"config.json: model_type {kind!r} .*xlm-roberta")


def test_default_prompt_without_a_prompt(copied: Copy, edit_json: Edit) -> None:
    path = copied("bert-prompts-unused")
    edit_json(path / "config_sentence_transformers.json", default_prompt_name="passage")
    assert_refused(path, BadConfig, r"default_prompt_name .*'passage'")


@pytest.mark.parametrize("value", [0, -1, "512", 3.5, True, [512]])
@pytest.mark.parametrize("file", ["sentence_bert_config.json", "tokenizer_config.json"])
def test_invalid_lengths(copied: Copy, edit_json: Edit, file: str, value: object) -> None:
    path = copied("bert-length-unset-old")
    key = "max_seq_length" if file.startswith("sentence") else "model_max_length"
    edit_json(path / file, **{key: value})
    assert_refused(path, BadConfig, rf"{file}: the longest sequence")


def test_a_length_too_short_for_a_token(copied: Copy, edit_json: Edit) -> None:
    path = copied("bert-length-16-old")
    edit_json(path / "sentence_bert_config.json", max_seq_length=2)
    assert_refused(path, BadConfig, r"longest sequence is 2 tokens, .* needs 3")
    with pytest.raises(BadLength, match=r"max_seq_len is 2: give 3 .* to 96"):
        read_source(MODELS / "bert-mean", max_seq_len=2)
    with pytest.raises(BadLength, match=r"max_seq_len is 97: give 3 .* to 96"):
        read_source(MODELS / "bert-mean", max_seq_len=97)


@pytest.mark.parametrize(
    "name", ["../1_Pooling", "/etc", "1_Pooling/../../x", 7, "a\nb", "x" * 300, "\ud800", "a\0"]
)
def test_folders_elsewhere(copied: Copy, name: object) -> None:
    path = copied("bert-mean")
    listed = json.loads((path / "modules.json").read_text())
    listed[1]["path"] = name
    (path / "modules.json").write_text(json.dumps(listed))
    assert_refused(path, BrokenFile, r"the path of a module is .*not a folder inside the model's")


@pytest.mark.parametrize("text", ["{}", "[]", "[1]", "[{}]", '[{"type": 1}]', '"x"', ""])
def test_modules_json_of_another_form(copied: Copy, text: str) -> None:
    path = copied("bert-mean")
    (path / "modules.json").write_text(text)
    assert_refused(path, BrokenFile, r"modules.json")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("bert-mean", "1_Pooling/config.json"),
        ("bert-dense-tanh", "2_Dense/config.json"),
        ("bert-dense-tanh", "2_Dense/model.safetensors"),
        ("bert-layernorm-old", "2_LayerNorm/model.safetensors"),
        ("bert-mean", "config.json"),
        ("bert-mean", "model.safetensors"),
        ("bert-mean", "tokenizer.json"),
    ],
)
def test_missing_files(copied: Copy, name: str, file: str) -> None:
    path = copied(name)
    (path / file).unlink()
    assert_refused(path, MissingFile, Path(file).name)


def test_only_a_pickle_of_a_module(copied: Copy) -> None:
    path = copied("bert-dense-tanh")
    weights = path / "2_Dense" / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    assert_refused(path, UnsafeCheckpoint, rf"2_Dense/pytorch_model.bin .* bertq convert {path}")


def test_weights_of_a_module_that_do_not_fit(copied: Copy, edit_json: Edit) -> None:
    path = copied("bert-dense-tanh")
    file = path / "2_Dense" / "model.safetensors"
    tensors = load_file(file)
    kernel, bias = tensors["linear.weight"], tensors["linear.bias"]
    save_file({"linear.weight": np.ascontiguousarray(kernel[1:]), "linear.bias": bias}, file)
    assert_refused(path, WrongShape, r"2_Dense/model.safetensors: variable 'linear.weight'")
    save_file({"linear.weight": kernel}, file)
    assert_refused(
        path, MissingVariable, r"2_Dense/model.safetensors has no variable 'linear.bias'"
    )
    save_file({"linear.weight": kernel, "linear.bias": bias * np.nan}, file)
    assert_refused(path, BrokenFile, r"2_Dense/model.safetensors: variable 'linear.bias'")
    save_file(tensors, file)
    edit_json(path / "2_Dense" / "config.json", in_features=48)
    assert_refused(path, BadConfig, r"2_Dense/config.json: .* rows of 48 numbers, and gets 24")
    for value in ("24", True, 0):
        edit_json(path / "2_Dense" / "config.json", in_features=value)
        assert_refused(path, BadConfig, r"2_Dense/config.json: in_features and out_features")


def test_a_classifier_with_modules_behind_it(copied: Copy) -> None:
    path = copied("cross-bert")
    modules(path, ("1_Pooling", "sentence_transformers.models.Pooling"))
    assert_refused(path, UnsupportedModel, r"modules.json: module Pooling follows a classifier")


def test_missing_heads(copied: Copy) -> None:
    path = copied("cross-bert")
    file = path / "model.safetensors"
    tensors = load_file(file)
    save_file({k: v for k, v in tensors.items() if not k.startswith("classifier")}, file)
    assert_refused(path, MissingVariable, r"model.safetensors has no variable 'classifier")
    path = copied("splade-bert")
    shutil.copyfile(MODELS / "bert-mean" / "model.safetensors", path / "model.safetensors")
    assert_refused(path, MissingVariable, r"model.safetensors has no variable 'cls.predictions")
    assert_refused(MODELS / "nomic-mean-norm", UnsupportedModel, "no masked-LM head for NomicBERT",
            pooling_strategy="SPLADE_MAX")  # fmt: skip


# --- options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pooling_strategy": "cls"}, ["pooling_strategy 'cls'"]),
        ({"pooling_layers": [-2]}, ["pooling_layers [-2]"]),
        ({"max_seq_len": 12}, ["max_seq_len 12"]),
        ({"mask_cls_sep": True, "cased": True}, ["mask_cls_sep", "cased True"]),
        ({"no_position_embeddings": True, "max_seq_len": 7}, ["no_position_emb", "max_seq_len 7"]),
    ],
)
def test_options_override_the_directory_with_one_warning(
    caplog: pytest.LogCaptureFixture, options: dict[str, Any], words: list[str]
) -> None:
    with caplog.at_level(logging.INFO, "bertq.model"):
        plain = model_of(MODELS / "bert-mean-norm-old")
        assert caplog.records == []
        changed = model_of(MODELS / "bert-mean-norm-old", **options)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("bertq.model", "WARNING")
    for word in ("modules.json", *words):
        assert word in record.getMessage()
    assert changed.fingerprint != plain.fingerprint
    assert changed.normalized, "the rest is the directory's"


def test_an_option_without_a_modules_json_warns_of_nothing(
    tiny_hf: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "bertq.model"):
        read_source(tiny_hf, pooling_strategy="CLS_TOKEN", pooling_layers=[-1], max_seq_len=9)
        read_source(MODELS / "bert-mean", compat="bert-as-service", pooling_strategy="REDUCE_MAX")
    assert caplog.records == []


def test_the_strategies_of_bert_as_service_in_a_directory() -> None:
    path = MODELS / "bert-dense-tanh"
    # the modules after the pooling stay
    assert model_of(path, pooling_strategy="REDUCE_MAX").row_shape == model_of(path).row_shape
    refused_width = r"2_Dense/config.json: .* gets 48"
    assert_refused(path, BadConfig, refused_width, pooling_strategy="REDUCE_MEAN_MAX")
    tokens = model_of(path, pooling_strategy="NONE")
    assert tokens.row_shape == (None, 24)
    assert not tokens.normalized
    assert model_of(path, pooling_strategy="NONE", max_seq_len=9).row_shape == (9, 24)


def test_a_pooling_strategy_for_a_cross_encoder(caplog: pytest.LogCaptureFixture) -> None:
    model = model_of(MODELS / "cross-xlmr-old", pooling_strategy="mean")
    assert (model.task, model.row_shape, model.labels) == ("embed", (24,), ())
    assert len(caplog.records) == 1
    with pytest.raises(BadOption, match="pooling_layer has no meaning for a classifier"):
        read_source(MODELS / "cross-bert", pooling_layers=[-1])


def test_a_pooling_strategy_for_splade() -> None:
    model = model_of(MODELS / "splade-bert", pooling_strategy="cls")
    assert (model.task, model.row_shape) == ("embed", (24,))
    summed = model_of(MODELS / "splade-bert", pooling_strategy="SPLADE_SUM")
    assert (summed.task, summed.row_shape) == ("sparse", (400,))
    assert model_of(MODELS / "bert-mean", pooling_strategy="CLS_POOLED").task == "embed"


def test_a_classifier_of_a_sentence_model_needs_a_head() -> None:
    assert_refused(
        MODELS / "bert-mean", MissingVariable, "no variable", pooling_strategy="CLASSIFICATION"
    )


def test_compat(tmp_path: Path) -> None:
    """bert-as-service's defaults for any directory of BERT."""
    model = model_of(MODELS / "bert-prompt-old", compat="bert-as-service")
    assert (model.pooling_strategy, model.pooling_layers) == ("REDUCE_MEAN", (-2,))
    assert (model.max_seq_len, model.normalized, model.splits_pairs) == (25, False, True)
    assert (dict(model.prompts), model.default_prompt) == ({}, None)
    assert model.description == "REDUCE_MEAN of layer -2, 25 tokens (from bert-as-service)"
    # "[SEP]" in a text is text to bert-as-service, and a token to sentence-transformers
    assert len(model.tokenize(["[SEP]"]).ids[0]) > 3
    assert len(model_of(MODELS / "bert-mean").tokenize(["[SEP]"]).ids[0]) == 3
    with pytest.raises(BadOption, match="compat is 'bert': give 'bert-as-service'"):
        read_source(MODELS / "bert-mean", compat="bert")


@pytest.mark.parametrize(
    "name",
    [
        "albert-mean-old",
        "bert-unigram-old",
        "camembert-mean-old",
        "cross-xlmr-old",
        "distilbert-cls",
        "electra-mean",
        "gte-cls-norm",
        "modernbert-mean",
        "mpnet-mean-norm-old",
        "nomic-mean-norm",
        "roberta-mean",
        "splade-bert",
        "xlmr-mean-old",
    ],
)
def test_compat_and_bare_directories_of_each_family(copied: Copy, name: str) -> None:
    """Without ``modules.json`` the defaults are bert-as-service's, for other families too."""
    compat = model_of(MODELS / name, compat="bert-as-service")
    assert (compat.task, compat.max_seq_len, compat.pooling_layers) == ("embed", 25, (-2,))
    assert compat.row_shape == (24,)
    path = copied(name)
    (path / "modules.json").unlink(missing_ok=True)
    bare = model_of(path)
    if name.startswith("cross"):
        assert (bare.task, bare.origin) == ("score", "config.json")
    else:
        assert bare.fingerprint == compat.fingerprint
        assert bare.origin == "bert-as-service"
    rows = Encoder.build(read_source(path)).encode(["the way of the world", "a b"])
    assert np.isfinite(rows).all()


def test_a_classifier_without_modules(copied: Copy, edit_json: Edit) -> None:
    path = copied("cross-bert-identity-old")
    assert not (path / "modules.json").exists()
    model = model_of(path)
    assert (model.task, model.origin, model.row_shape) == ("score", "config.json", (1,))
    config = path / "config.json"
    edit_json(config, sbert_ce_default_activation_function=None)
    sigmoid = read_source(path)
    assert sigmoid.pooling.activation == "sigmoid", "one label"
    edit_json(config, sbert_ce_default_activation_function="torch.nn.modules.activation.Tanh")
    assert read_source(path).pooling.activation == "tanh"
    edit_json(config, sbert_ce_default_activation_function="mine.activation")
    assert_refused(path, UnsupportedModel, r"activation 'mine.activation' is unknown")


def test_labels(copied: Copy, edit_json: Edit) -> None:
    path = copied("cross-bert-3")
    source = read_source(path)
    assert source.pooling.activation == "identity"
    edit_json(path / "config.json", id2label={"10": "c", "2": "b", "0": "a"})
    assert model_of(path).labels == ("a", "b", "c")
    edit_json(path / "config.json", id2label={"0": "a"})
    assert model_of(path).labels == (), "not as many as the head gives"


def test_a_stray_modules_json_beside_googles_files(tmp_path: Path) -> None:
    path = write_tiny_google(tmp_path / "model")
    plain = model_of(path).fingerprint
    shutil.copytree(MODELS / "bert-mean-norm-old" / "1_Pooling", path / "1_Pooling")
    shutil.copyfile(MODELS / "bert-mean-norm-old" / "modules.json", path / "modules.json")
    model = model_of(path)
    assert (model.origin, model.fingerprint) == ("bert-as-service", plain)


def test_a_stray_modules_json_beside_hugging_faces_files(tmp_path: Path) -> None:
    path = write_tiny_hf(tmp_path / "model")
    shutil.copytree(MODELS / "bert-mean-norm-old" / "1_Pooling", path / "1_Pooling")
    shutil.copyfile(MODELS / "bert-mean-norm-old" / "modules.json", path / "modules.json")
    model = model_of(path)
    assert (model.pooling_strategy, model.max_seq_len) == ("mean", 48)
