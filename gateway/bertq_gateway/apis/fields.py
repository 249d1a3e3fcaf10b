"""Fields that the requests of several APIs have."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo
from pydantic_core import PydanticCustomError

from bertq.protocol.encoding import Options, Truncate
from bertq.state.worker_info import WorkerInfo
from bertq_gateway import error_forms, errors
from bertq_gateway.errors import MAX_PARAM_CHARACTERS, Refused
from bertq_gateway.state import State

_Model = TypeVar("_Model", bound=BaseModel)

#: Its length is in the schema only: checked here, half of an emoji would be an error.
Text = Annotated[str, Field(json_schema_extra={"minLength": 1})]

#: What the clients of other services call queries and documents.
_INPUT_TYPES = {
    "search_query": "query",  # Cohere
    "search_document": "document",
    "retrieval.query": "query",  # Jina
    "retrieval.passage": "document",
}

#: Uses of vectors that other services tell apart. A model without such a prompt needs none.
_USES = frozenset({"classification", "clustering", "separation", "text-matching"})


class LenientFields(BaseModel):
    """Fields of a request beside which there may be unknown ones, unless the gateway is strict."""

    model_config = ConfigDict(extra="allow", strict=True)

    def find_unknown(self) -> str | None:
        """Return the name of an unknown field, also of a nested object; None without one."""
        for name in self.model_extra or ():
            return name
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, LenientFields) and (unknown := value.find_unknown()) is not None:
                return f"{name}.{unknown}"
        return None


class LenientRequest(LenientFields):
    """A request that may have unknown fields, unless the gateway is strict."""

    def check_fields(self, state: State) -> None:
        """Refuse unknown fields if the gateway is strict.

        Raises:
            Refused: there is an unknown field.
        """
        if state.config.strict and (unknown := self.find_unknown()) is not None:
            name = unknown[:MAX_PARAM_CHARACTERS]
            raise Refused(422, f"{name}: there is no such field", "extra_forbidden", name)


#: The end to cut, in words of text-embeddings-inference.
TruncationDirection: TypeAlias = Literal["left", "right", "Left", "Right"] | None


class TeiRequest(LenientRequest):
    """Fields of all requests of text-embeddings-inference."""

    model: str | None = Field(
        None, description="A name from /v1/models, if several models have the task."
    )
    truncate: bool | None = Field(
        None,
        description="Whether to cut texts with more tokens than the model reads; false refuses "
        "them. By default, what the gateway is set to (it cuts).",
    )
    truncation_direction: TruncationDirection = Field(
        None, description="The end to cut; right by default."
    )

    def truncation(self) -> Truncate | None:
        """Return how to truncate; None for the gateway's default."""
        if self.truncate is False:
            return "error"
        if self.truncation_direction is not None:
            return "left" if self.truncation_direction.lower() == "left" else "right"
        return "right" if self.truncate else None

    def options(self) -> Options:
        """Return the options of the request to the workers."""
        options: Options = {"pairs": False}
        if (truncate := self.truncation()) is not None:
            options["truncate"] = truncate
        return options


def input_type_of(given: str | None, worker: WorkerInfo) -> str | None:
    """Return the ``input_type`` for a client that names the use of its texts.

    Args:
        given: a name of this or of another service.
        worker: a worker of the model.
    """
    if given is None:
        return None
    name = _INPUT_TYPES.get(given, given)
    return None if name in _USES and name not in worker.prompts else name


def one_of(fields: Sequence[tuple[str, Any]]) -> Any:
    """Return the value of the only field that is given; None without one.

    Args:
        fields: names and values of fields with the same meaning.

    Raises:
        Refused: several are given.
    """
    given = [(name, value) for name, value in fields if value is not None]
    if len(given) > 1:
        names = " and ".join(name for name, _ in given)
        raise Refused(422, f"{names} are given: send one of them", param=given[1][0])
    return given[0][1] if given else None


def truncate_of(value: Truncate | bool | None) -> Truncate | None:
    """Return how to truncate, for clients that only say whether to."""
    if isinstance(value, bool):
        return "right" if value else "error"
    return value


def refuse_token_ids(value: Any, info: ValidationInfo) -> Any:
    """Refuse numbers instead of text; every other mistake is left to the type of the field."""
    first = value
    while isinstance(first, list) and first:
        first = first[0]
    if isinstance(first, int) and not isinstance(first, bool):
        # LangChain sends token ids to OpenAI's route.
        is_langchain = info.field_name == "input" and isinstance(value, list)
        hint = "; in LangChain set check_embedding_ctx_length=False" if is_langchain else ""
        raise PydanticCustomError(
            "token_ids", "token ids differ from model to model: send text{hint}", {"hint": hint}
        )
    return value


#: What happens to texts that are too long.
TruncateField = Annotated[
    Truncate | None,
    Field(
        description="The end to cut from texts with more tokens than the model reads; error "
        "refuses them. By default, what the gateway is set to (right)."
    ),
]

#: The descriptions of headers, for a route's responses.
ANSWER_HEADERS = {
    "X-Model-Fingerprint": {
        "description": "The fingerprint of the model that has answered: it differs if anything "
        "differs that changes a row.",
        "schema": {"type": "string"},
    },
    "X-Truncated-Inputs": {
        "description": "How many texts were cut, and the numbers of the first ones: "
        '3;indices="0 5 17". Not sent if no text was cut.',
        "schema": {"type": "string"},
    },
}


def answer_responses(
    form: error_forms.Form = error_forms.OPENAI,
) -> dict[int | str, dict[str, Any]]:
    """Return the responses of a route that encodes texts, for its OpenAPI description."""
    found: dict[int | str, dict[str, Any]] = {200: {"headers": ANSWER_HEADERS}}
    statuses = (400, 401, 404, 408, 413, 422, 429, 500, 503, 504)
    return found | errors.responses(*statuses, form=form)


def parse(kind: type[_Model], body: Any) -> _Model:
    """Return the request in a body that FastAPI has not parsed as a request, as it would.

    Raises:
        RequestValidationError: a field is invalid.
    """
    try:
        return kind.model_validate(body, from_attributes=True)
    except ValidationError as error:
        found = [{**dict(one), "loc": ("body", *one["loc"])} for one in error.errors()]
        raise RequestValidationError(found) from None
