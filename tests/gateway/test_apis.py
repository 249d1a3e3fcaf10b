"""The APIs of TEI, Cohere, Jina and Voyage: their requests, answers and clients.

The requests are those that the manuals of these services show.
"""

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import tokenizers
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from bertq_bert import Encoder, load_encoder
from tests.gateway.conftest import Gateway, running
from tests.tiny_service import MODELS, TinyService, tiny_service

TEXTS = ["who keeps the light", "the light of the old harbour", "in the beginning"]
QUERY, LONG = "who keeps the light", "long " * 200


@pytest.fixture(scope="module")
def service(module_redis_url: str) -> Iterator[TinyService]:
    models: dict[str | None, str | Encoder] = {
        None: "bert-prompt",
        "ranker": "cross-bert",
        "logits": "cross-bert-identity",
        "labels": "cross-bert-3",
        "sparse": "splade-bert",
        "tokens": load_encoder(MODELS / "bert-mean", pooling_strategy="NONE"),
    }
    with tiny_service(module_redis_url, models) as made:
        yield made


@pytest.fixture(scope="module")
def gateway(module_redis_url: str, service: TinyService) -> Iterator[Gateway]:
    with running(module_redis_url, max_batch=64) as made:
        yield made


def post(gateway: Gateway, path: str, **body: Any) -> Any:
    answer = gateway.http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-model-fingerprint"]
    return answer.json()


def assert_close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.array(found, float), expected, atol=1e-5)


def sigmoid(logits: Any) -> Any:
    return 1 / (1 + np.exp(-logits))


def scores(service: TinyService, name: str, texts: list[str] = TEXTS) -> Any:
    encoder = service.encoders[name]
    return encoder.encode([(QUERY, text) for text in texts])[:, 0]


# --- text-embeddings-inference


@pytest.mark.parametrize(
    ("body", "options"),
    [
        ({}, {"normalize": True}),
        ({"normalize": False}, {}),
        ({"normalize": None}, {}),
        ({"dimensions": 8}, {"normalize": True, "dimensions": 8}),
        ({"prompt_name": "query"}, {"normalize": True, "prompt_name": "query"}),
    ],
)
def test_embed(gateway: Gateway, service: TinyService, body: Any, options: Any) -> None:
    expected = service.encoders[None].encode(TEXTS, **options)
    assert_close(post(gateway, "/embed", inputs=TEXTS, model="bert-prompt", **body), expected)
    assert_close(post(gateway, "/embed", inputs=TEXTS[0], **body), expected[:1])


@pytest.mark.parametrize("direction", ["left", "Right", None])
def test_truncation(gateway: Gateway, service: TinyService, direction: str | None) -> None:
    text = " ".join(TEXTS * 20)
    body = {"inputs": text, "truncate": True, "truncation_direction": direction}
    answer = gateway.http.post("/embed", json=body)
    assert answer.headers["x-truncated-inputs"] == '1;indices="0"'
    encoder = service.encoders[None]
    ids = encoder.tokenize([text], truncate=str(direction or "right").lower()).ids
    expected = encoder.compute(ids)
    assert_close(answer.json(), expected / np.linalg.norm(expected))
    refused = gateway.http.post("/embed", json={"inputs": ["a", text], "truncate": False})
    assert refused.status_code == 413
    error = refused.json()
    assert error["error"].startswith("inputs[1] has more tokens than the 96 that the model reads")
    assert error["error_type"] == "validation"


def test_embed_all(gateway: Gateway, service: TinyService) -> None:
    encoder = service.encoders["tokens"]
    found = post(gateway, "/embed_all", inputs=TEXTS, model="tokens")
    ids = encoder.tokenize(TEXTS).ids
    expected = encoder.compute(ids)
    assert [len(row) for row in found] == list(map(len, ids))
    for row, vectors in zip(found, expected, strict=True):
        assert_close(row, vectors[: len(row)])
    refused = gateway.http.post("/embed_all", json={"inputs": "a"})
    assert refused.status_code == 422
    assert "returns one vector for each text" in refused.json()["error"]
    refused = gateway.http.post("/embed", json={"inputs": "a", "model": "tokens"})
    assert "returns a vector for each token" in refused.json()["error"]


def test_embed_sparse(gateway: Gateway, service: TinyService) -> None:
    expected = service.encoders["sparse"].encode(TEXTS)
    found = post(gateway, "/embed_sparse", inputs=TEXTS)
    for row, weights in zip(found, expected, strict=True):
        assert [item["index"] for item in row] == np.flatnonzero(weights).tolist()
        assert_close([item["value"] for item in row], weights[weights > 0])


@pytest.mark.parametrize("function", ["cosine", "dot"])
def test_similarity(module_redis_url: str, service: TinyService, function: str) -> None:
    encoder = service.encoders[None]
    vectors = encoder.encode(TEXTS, prompt_name="query")
    expected = vectors[1:] @ vectors[0]
    if function == "cosine":
        expected /= np.linalg.norm(vectors[1:], axis=1) * np.linalg.norm(vectors[0])
    object.__setattr__(encoder, "similarity", function)
    try:
        service.publish(None)
        with running(module_redis_url) as fresh:  # which has not read the old worker info
            found = post(
                fresh,
                "/similarity",
                inputs={"source_sentence": TEXTS[0], "sentences": TEXTS[1:]},
                parameters={"prompt_name": "query", "truncate": True},
            )
    finally:
        object.__setattr__(encoder, "similarity", "cosine")
        service.publish(None)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("model", "raw", "convert"),
    [
        ("ranker", False, None),
        ("logits", False, sigmoid),
        ("logits", True, None),
    ],
)
def test_rerank_of_tei(
    gateway: Gateway, service: TinyService, model: str, raw: bool, convert: Any
) -> None:
    expected = scores(service, model)
    if convert is not None:
        expected = convert(expected)
    body = {"query": QUERY, "texts": TEXTS, "model": model, "raw_scores": raw}
    found = post(gateway, "/rerank", **body, return_text=True)
    assert [item["index"] for item in found] == np.argsort(-expected).tolist()
    assert_close([item["score"] for item in found], np.sort(expected)[::-1])
    assert [item["text"] for item in found] == [TEXTS[item["index"]] for item in found]
    assert all(item.keys() == {"index", "score"} for item in post(gateway, "/rerank", **body))
    assert post(gateway, "/", **body) == post(gateway, "/rerank", **body)


def test_raw_scores_that_are_not_known(gateway: Gateway) -> None:
    body = {"query": QUERY, "texts": TEXTS, "model": "ranker", "raw_scores": True}
    refused = gateway.http.post("/rerank", json=body)
    assert refused.status_code == 422
    assert "have the activation sigmoid, which cannot be undone" in refused.json()["error"]


def test_predict(gateway: Gateway, service: TinyService) -> None:
    logits = service.encoders["labels"].encode([TEXTS[0], tuple(TEXTS[:2])])
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    for raw, expected in ((True, logits), (False, powers / powers.sum(axis=1, keepdims=True))):
        body: dict[str, Any] = {"model": "labels", "raw_scores": raw}
        both = post(gateway, "/predict", inputs=[[TEXTS[0]], TEXTS[:2]], **body)
        for found, row in zip(both, expected, strict=True):
            assert [item["label"] for item in found] == [f"LABEL_{n}" for n in np.argsort(-row)]
            assert_close([item["score"] for item in found], np.sort(row)[::-1])
        for inputs, found in ((TEXTS[0], both[0]), ([TEXTS[0]], both[0]), (TEXTS[:2], both[1])):
            alone = post(gateway, "/predict", inputs=inputs, **body)
            assert [item["label"] for item in alone] == [item["label"] for item in found]


@pytest.mark.parametrize(
    ("path", "body", "status", "message", "kind"),
    [
        ("/embed", {"inputs": []}, 400, "inputs: List should have at least 1 item", "empty"),
        ("/embed", {"inputs": ["a", " "]}, 422, "inputs[1] is blank", "validation"),
        ("/embed", {"inputs": [1]}, 422, "inputs: token ids differ", "validation"),
        ("/embed", {}, 422, "inputs: Field required", "validation"),
        ("/embed", {"inputs": ["a"] * 65}, 413, "65 inputs: a request may have", "validation"),
        ("/embed", {"inputs": "a", "model": "x"}, 404, "no such model: use one of", "not_found"),
        ("/embed", {"inputs": "a", "model": "logits"}, 422, "logits returns scores", "validation"),
        ("/embed", {"inputs": "a", "prompt_name": "x"}, 422, "model bert", "validation"),
        ("/embed", {"inputs": "a", "dimensions": 99}, 422, "dimensions is 99", "validation"),
        ("/embed_sparse", {"inputs": "a", "model": "ranker"}, 422, "ranker returns", "validation"),
        ("/similarity", {"inputs": "a"}, 422, "inputs: it must be an object", "validation"),
        (
            "/similarity", {"inputs": {"source_sentence": "a", "sentences": ["b", " "]}},
            422, "inputs.sentences[1] is blank", "validation",
        ),
        (
            "/similarity", {"inputs": {"source_sentence": " ", "sentences": ["b"]}},
            422, "inputs.source_sentence is blank", "validation",
        ),
        (
            "/similarity",
            {
                "inputs": {"source_sentence": "a", "sentences": [LONG]},
                "parameters": {"truncate": False},
            },
            413, "inputs.sentences[0] has more tokens", "validation",
        ),
        ("/predict", {"inputs": "a"}, 422, "workers have several models", "validation"),
        ("/rerank", {"query": "a"}, 422, "texts: Field required", "validation"),
        (
            "/rerank", {"query": " ", "texts": ["a"], "model": "ranker"},
            422, "query is blank", "validation",
        ),
        (
            "/rerank", {"query": "a", "texts": ["a", ""], "model": "ranker"},
            422, "texts[1] is blank", "validation",
        ),
        (
            "/rerank", {"query": "a", "texts": ["a"], "model": "labels"},
            422, "labels has 3 labels: reranking needs one", "validation",
        ),
        ("/", {"inputs": 1.5}, 422, "inputs: Input should be a valid string", "validation"),
        ("/embed", [], 422, "body: it must be a JSON object", "validation"),
        ("/tokenize", {"inputs": []}, 400, "inputs: ", "empty"),
        ("/tokenize", {"inputs": ["a", " "]}, 422, "inputs[1] is blank", "validation"),
        ("/tokenize", {"inputs": "a", "prompt_name": "x"}, 422, "model bert", "validation"),
        ("/tokenize", {"inputs": "ab" * 2**20}, 422, "inputs has more than 1048576", "validation"),
        ("/decode", {"ids": []}, 400, "ids: ", "empty"),
        ("/decode", {"ids": [1, -1]}, 422, "ids[1]: ", "validation"),
        ("/decode", {"ids": [[1], [10**8]]}, 422, "row 1 has an id", "validation"),
        ("/decode", {"ids": ["a"]}, 422, "ids", "validation"),
        ("/decode", {"ids": [7] * (2**19 + 1)}, 422, "ids has more than 1048576 d", "validation"),
    ],
)  # fmt: skip
def test_errors_of_tei(
    gateway: Gateway, path: str, body: Any, status: int, message: str, kind: str
) -> None:
    answer = gateway.http.post(path, json=body)
    assert (answer.status_code, answer.json()["error_type"]) == (status, kind), answer.text
    assert answer.json()["error"].startswith(message), answer.text


def test_tokens(gateway: Gateway) -> None:
    library = tokenizers.Tokenizer.from_file(str(MODELS / "bert-prompt" / "tokenizer.json"))
    texts = [*TEXTS, "caf\xe9, the \U0001f600 " * 100]
    found = post(gateway, "/tokenize", inputs=texts, prompt_name="query")
    texts = ["ask: " + text for text in texts]
    expected = [library.encode(text) for text in texts]
    for text, row, encoding in zip(texts, found, expected, strict=True):
        assert [token["id"] for token in row] == encoding.ids
        assert [token["special"] for token in row] == list(map(bool, encoding.special_tokens_mask))
        for token, (start, stop) in zip(row[1:-1], encoding.offsets[1:-1], strict=True):
            assert (token["start"], token["stop"]) == (start, stop)
            assert token["text"] == text[start:stop]
        name = encoding.tokens[0]
        cls = {"id": encoding.ids[0], "text": name, "special": True, "start": None, "stop": None}
        assert row[0] == cls
    bare = post(
        gateway, "/tokenize", inputs=TEXTS[0], add_special_tokens=False, prompt_name="query"
    )
    assert bare == [found[0][1:-1]]
    ids = [[token["id"] for token in row] for row in found]
    assert post(gateway, "/decode", ids=ids) == library.decode_batch([e.ids for e in expected])
    whole = post(gateway, "/decode", ids=ids[0], skip_special_tokens=False)
    assert whole == [library.decode(expected[0].ids, skip_special_tokens=False)]
    # Models of every task have tokens.
    for model in ("ranker", "sparse", "tokens"):
        assert post(gateway, "/tokenize", inputs="a", model=model)[0][0]["text"] == "[CLS]"


def test_info_and_health(gateway: Gateway, service: TinyService) -> None:
    assert gateway.http.get("/health").json() == {}
    info = gateway.http.get("/info").json()
    assert info["model_id"] == "bert-prompt"
    assert info["model_sha"] == service.encoders[None].fingerprint
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert (info["max_input_length"], info["max_client_batch_size"]) == (96, 64)
    assert info["auto_truncate"] is True
    of_labels = gateway.http.get("/info", params={"model": "labels"}).json()["model_type"]
    assert of_labels["classifier"]["id2label"] == {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}
    of_ranker = gateway.http.get("/info", params={"model": "ranker"}).json()["model_type"]
    assert of_ranker == {"reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}}


def test_health_without_workers(redis_url: str) -> None:
    with running(redis_url) as gateway:
        answer = gateway.http.get("/health")
        embed = gateway.http.post("/embed", json={"inputs": "a"})
    assert answer.status_code == embed.status_code == 503
    expected = {"error": "not ready: no worker is alive", "error_type": "unhealthy"}
    assert answer.json() == expected
    assert embed.json()["error_type"] == "unhealthy"


def test_the_client_of_huggingface(gateway: Gateway, service: TinyService) -> None:
    address = f"http://127.0.0.1:{gateway.port}"
    client = InferenceClient(model=address, token="any")
    vectors = service.encoders[None].encode(TEXTS, normalize=True)
    assert_close(client.feature_extraction(TEXTS[0]), vectors[:1])
    assert_close(client.feature_extraction(TEXTS), vectors)  # as LangChain does
    assert_close(
        client.feature_extraction(TEXTS[0], normalize=False, prompt_name="query", truncate=True),
        service.encoders[None].encode(TEXTS[:1], prompt_name="query"),
    )
    found = client.sentence_similarity(TEXTS[0], TEXTS[1:])
    assert_close(found, vectors[1:] @ vectors[0])


def test_text_classification_of_huggingface(module_redis_url: str, service: TinyService) -> None:
    others = set(service.encoders) - {"labels"}
    for name in others:
        service.withdraw(name)
    try:
        with running(module_redis_url) as gateway:
            client = InferenceClient(model=f"http://127.0.0.1:{gateway.port}", token="any")
            found = client.text_classification(TEXTS[0], top_k=2, function_to_apply="none")
            with pytest.raises(HfHubHTTPError, match="is blank"):
                client.text_classification(" ")
    finally:
        for name in others:
            service.publish(name)
    logits = service.encoders["labels"].encode(TEXTS[:1])[0]
    assert [item.label for item in found] == [f"LABEL_{n}" for n in np.argsort(-logits)[:2]]
    assert_close([item.score for item in found], np.sort(logits)[::-1][:2])


# --- Cohere, Jina, Voyage


@pytest.mark.parametrize(
    ("body", "options"),
    [
        ({"input_type": "search_query"}, {"input_type": "query"}),
        ({"input_type": "search_document"}, {"input_type": "document"}),
        ({"input_type": "classification"}, {}),
        ({"output_dimension": 8}, {"dimensions": 8}),
    ],
)
def test_embed_of_cohere(gateway: Gateway, service: TinyService, body: Any, options: Any) -> None:
    expected = service.encoders[None].encode(TEXTS, **options)
    types = ["float", "binary", "ubinary", "base64"]
    asked = {"model": "bert-prompt", "texts": TEXTS, **body}
    found = post(gateway, "/v2/embed", embedding_types=types, **asked)
    assert found["texts"] == TEXTS
    assert found["response_type"] == "embeddings_by_type"
    assert found["meta"]["billed_units"]["input_tokens"] > 3
    assert found["embeddings"].keys() == set(types)
    assert_close(found["embeddings"]["float"], expected)
    bits = np.packbits(expected > 0, axis=1)
    assert found["embeddings"]["ubinary"] == bits.tolist()
    assert found["embeddings"]["binary"] == (bits.astype(int) - 128).tolist()
    packed = [np.frombuffer(base64.b64decode(t), "<f4") for t in found["embeddings"]["base64"]]
    assert_close(packed, expected)
    assert_close(post(gateway, "/v2/embed", **asked)["embeddings"]["float"], expected)
    plain = post(gateway, "/v1/embed", **asked)
    assert plain["response_type"] == "embeddings_floats"
    assert_close(plain["embeddings"], expected)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"texts": []}, "texts: List should have at least 1 item"),
        ({"texts": ["a", ""]}, "texts[1] is blank"),
        ({"texts": ["a", LONG], "truncate": "NONE"}, "texts[1] has more tokens than the 96"),
        ({"texts": ["a"], "truncate": "none"}, "truncate: Input should be 'NONE', 'START' or"),
        ({"texts": ["a"], "embedding_types": ["int8"]}, "int8 and uint8 need the"),
        ({"texts": ["a"], "embedding_types": ["x"]}, "embedding_types[0]: Input should be"),
        ({"texts": ["a"], "output_dimension": 99}, "output_dimension is 99"),
    ],
)
def test_errors_of_cohere(gateway: Gateway, body: Any, message: str) -> None:
    answer = gateway.http.post("/v2/embed", json={"model": "bert-prompt", **body})
    assert answer.status_code == 400, answer.text
    assert answer.json()["message"].startswith(message)


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
@pytest.mark.parametrize("model", ["ranker", "logits"])
def test_rerank(gateway: Gateway, service: TinyService, path: str, model: str) -> None:
    expected = scores(service, model)
    if model == "logits":
        expected = sigmoid(expected)
    documents = [TEXTS[0], {"text": TEXTS[1], "id": 7}, TEXTS[2]]
    body = {"model": model, "query": QUERY, "documents": documents, "top_n": 2}
    found = post(gateway, path, **body)
    assert [item["index"] for item in found["results"]] == np.argsort(-expected).tolist()[:2]
    assert_close(
        [item["relevance_score"] for item in found["results"]], np.sort(expected)[::-1][:2]
    )
    assert found["usage"]["total_tokens"] > 20
    assert all("document" not in item for item in found["results"])
    shown = post(gateway, path, **body | {"top_n": None}, return_documents=True)
    by_index = {item["index"]: item["document"] for item in shown["results"]}
    assert by_index == {0: {"text": TEXTS[0]}, 1: documents[1], 2: {"text": TEXTS[2]}}


def test_rerank_of_voyage(gateway: Gateway, service: TinyService) -> None:
    expected = scores(service, "ranker")
    body = {"query": QUERY, "documents": TEXTS, "model": "ranker", "top_k": 1, "truncation": True}
    found = post(gateway, "/v1/rerank", **body, return_documents=True)
    assert (found["object"], found["model"]) == ("list", "ranker")
    best = int(expected.argmax())
    (item,) = found["data"]
    assert (item["index"], item["document"]) == (best, TEXTS[best])
    assert item["relevance_score"] == pytest.approx(expected[best], abs=1e-5)
    assert found["usage"]["total_tokens"] > 20


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"documents": []}, 400, "documents: List should have at least 1 item"),
        ({"documents": ["a", " "]}, 400, "documents[1] is blank"),
        ({"documents": ["a", LONG], "truncation": False}, 400, "documents[1] has more tokens"),
        ({"documents": ["a", {"title": "b"}]}, 400, "documents[1].text: Field required"),
        ({"documents": ["a"], "top_n": 0}, 400, "top_n: Input should be greater than or equal"),
        ({"documents": ["a"], "top_n": 1, "top_k": 1}, 400, "top_n and top_k are given"),
        ({"documents": ["a"], "model": "x"}, 404, "no such model"),
        ({"documents": ["a"], "model": None}, 400, "workers have several models"),
        ({"documents": ["a"], "model": "bert-prompt"}, 400, "bert-prompt returns vectors, not sc"),
    ],
)
def test_errors_of_rerank(gateway: Gateway, body: Any, status: int, message: str) -> None:
    answer = gateway.http.post("/v1/rerank", json={"model": "ranker", "query": "a", **body})
    assert answer.status_code == status, answer.text
    assert answer.json()["message"].startswith(message), answer.text
    assert answer.json()["detail"] == answer.json()["message"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # old names of pydantic in the client
@pytest.mark.parametrize("kind", ["Client", "ClientV2"])
def test_the_client_of_cohere(gateway: Gateway, service: TinyService, kind: str) -> None:
    cohere = pytest.importorskip("cohere")
    expected = service.encoders[None].encode(TEXTS, input_type="query")
    ranks = scores(service, "ranker")
    with httpx.Client() as http:
        address = f"http://127.0.0.1:{gateway.port}"
        client = getattr(cohere, kind)("a key", base_url=address, httpx_client=http)
        found = client.embed(
            model="bert-prompt", texts=TEXTS, input_type="search_query", embedding_types=["float"]
        )
        assert_close(found.embeddings.float_, expected)
        ranked = client.rerank(model="ranker", query=QUERY, documents=TEXTS, top_n=2)
        assert [item.index for item in ranked.results] == np.argsort(-ranks).tolist()[:2]
        assert_close([item.relevance_score for item in ranked.results], np.sort(ranks)[::-1][:2])
        with pytest.raises(cohere.BadRequestError) as caught:
            client.rerank(model="ranker", query=QUERY, documents=["a", " "])
        assert caught.value.body["message"].startswith("documents[1] is blank")
        with pytest.raises(cohere.NotFoundError):
            client.embed(model="x", texts=TEXTS, input_type="search_query")


@pytest.mark.parametrize("path", ["/embed", "/v2/embed", "/v1/rerank", "/encode", "/similarity"])
def test_a_wrong_key_and_strict_fields(
    module_redis_url: str, service: TinyService, path: str
) -> None:
    key = {"Authorization": "Bearer " + "k" * 20}
    fields: tuple[str, ...] = ("error",) if path in ("/embed", "/similarity") else ("message",)
    if path == "/encode":
        fields = ("error", "message")
    with running(module_redis_url, api_keys=frozenset({"k" * 20}), strict=True) as gateway:
        refused = gateway.http.post(path, json={})
        bodies: dict[str, dict[str, Any]] = {
            "/embed": {"inputs": "a"}, "/v2/embed": {"texts": ["a"]}, "/encode": {"texts": ["a"]},
            "/v1/rerank": {"query": "a", "documents": ["b"], "model": "ranker"},
            "/similarity": {"inputs": {"source_sentence": "a", "sentences": ["b"]}},
        }  # fmt: skip
        body = bodies[path]
        allowed = gateway.http.post(path, json=body, headers=key)
        # Also unknown fields of nested objects.
        is_nested = path == "/similarity"
        added: Any = {"inputs": {**body["inputs"], "colour": 1}} if is_nested else {"colour": 1}
        unknown = gateway.http.post(path, json={**body, **added}, headers=key)
        assert gateway.http.get("/health").status_code == 200
    assert refused.status_code == 401
    value: Any = refused.json()
    for field in fields:
        value = value[field]
    assert value.startswith("the API key is missing or wrong")
    assert allowed.status_code == 200, allowed.text
    assert unknown.status_code in (400, 422)
    assert "colour: there is no such field" in unknown.text


def test_routes_have_metrics(gateway: Gateway) -> None:
    post(gateway, "/embed", inputs="a")
    assert 'bertq_http_requests_total{route="/embed",status="200"}' in metrics(gateway.http)


def metrics(http: httpx.Client) -> str:
    return http.get("/metrics").text


def test_every_example_of_the_manual_runs(gateway: Gateway) -> None:
    document = gateway.http.get("/openapi.json").json()
    answered = set()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if path.startswith(("/v1/files", "/v1/batches")):
                continue  # they need a file
            examples: list[Any] = [None]
            if body := operation.get("requestBody"):
                schema = body["content"]["application/json"]["schema"]
                name = schema.get("$ref", "").rpartition("/")[2]
                found = document["components"]["schemas"].get(name, schema)
                examples = [found["example"]] if "example" in found else found["examples"]
            for parameter in operation.get("parameters", []):
                if parameter["required"]:
                    (example,) = parameter["examples"].values()
                    path = path.replace(f"{{{parameter['name']}}}", example["value"])
            for example in examples:
                answer = gateway.http.request(method, path, json=example)
                assert answer.status_code == 200, (path, answer.text)
                answered.add(path)
    assert {"/", "/rerank", "/v2/embed", "/predict", "/v1/models/bert-prompt"} <= answered
