"""Fields that the requests of both APIs have."""

from typing import Annotated, Any

from pydantic import Field
from pydantic_core import PydanticCustomError

from bertq.protocol.encoding import Truncate


def refuse_token_ids(value: Any) -> Any:
    """Refuse numbers instead of text; every other mistake is left to the type of the field."""
    first = value
    while isinstance(first, list) and first:
        first = first[0]
    if isinstance(first, int) and not isinstance(first, bool):
        raise PydanticCustomError(
            "token_ids",
            "token ids differ from model to model: send text; in LangChain set "
            "check_embedding_ctx_length=False",
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

#: The description of the header, for a route's responses.
TRUNCATION_HEADERS = {
    "X-Truncated-Inputs": {
        "description": "How many texts were cut, and the numbers of the first ones: "
        '3;indices="0 5 17". Not sent if no text was cut.',
        "schema": {"type": "string"},
    }
}
