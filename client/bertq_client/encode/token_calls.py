"""The calls of a client about tokens: the model does not run for them."""

from collections.abc import Iterable, Sequence
from typing import Any

from bertq.errors import BadInputType, BadInputValue
from bertq.integers import as_int
from bertq.protocol.encoding import Encoding
from bertq.protocol.limits import MAX_LOCATED_CHARACTERS
from bertq_client import inputs
from bertq_client.encode.calls import EncodeCalls, Vectors
from bertq_client.futures import EncodeFuture
from bertq_client.inputs import Strings


class TokenCalls(EncodeCalls[Vectors]):
    """The part of ``BertClient`` for tokens."""

    def tokenize_async(
        self,
        texts: Strings,
        *,
        special_tokens: bool = True,
        prompt_name: str | None = None,
        prompt: str | None = None,
        input_type: str | None = None,
    ) -> EncodeFuture:
        """Request all tokens of texts, with their ids and places.

        Workers answer it without running the model. Texts are not cut, however many tokens the
        model reads.

        Args:
            texts: a list, tuple, NumPy array or pandas Series of str, none of them blank; at most
                1,048,576 characters.
            special_tokens: whether to add tokens around each text, as ``[CLS]`` and ``[SEP]``.
            prompt_name, prompt, input_type: the prompt before each text, as for ``encode``.

        Returns:
            A future for a list of ``bertq.protocol.tokens.Token`` for each text. Its errors are
            those of ``encode``.

        Raises:
            BadInputType, BadInputValue: an argument is invalid.
            ClientClosed: the client is closed.
        """
        encoding = Encoding(
            show_tokens=True,
            output="tokens",
            special_tokens=special_tokens,
            prompt_name=prompt_name,
            prompt=prompt,
            input_type=input_type,
        )
        checked = inputs.prepare_strings(texts, "texts")
        return self._submit_small(checked, encoding, "texts", "characters")

    def decode_async(
        self, ids: Sequence[Sequence[int]], *, special_tokens: bool = True
    ) -> EncodeFuture:
        """Request the texts of token ids.

        Args:
            ids: for each text a list of ids, not empty; at most 1,048,576 digits and separators,
                one for each id.
            special_tokens: whether the texts show special tokens.

        Returns:
            A future for a list of str. Its errors are those of ``encode``.

        Raises:
            BadInputType, BadInputValue: an argument is invalid.
            ClientClosed: the client is closed.
        """
        rows = [_check_ids(row, f"ids[{place}]") for place, row in enumerate(_as_list(ids, "ids"))]
        encoding = Encoding(
            is_tokenized=True, show_tokens=True, output="text", special_tokens=special_tokens
        )
        return self._submit_small(rows, encoding, "ids", "digits and separators")

    def _submit_small(
        self, texts: Any, encoding: Encoding, name: str, counted: str
    ) -> EncodeFuture:
        if sum(map(inputs.characters, texts)) > MAX_LOCATED_CHARACTERS:
            raise BadInputValue(
                f"{name} has more than {MAX_LOCATED_CHARACTERS} {counted}: send several requests"
            )
        request = self._create_request(texts, encoding, as_list=False)
        self._submit(request)
        return request.future


def _as_list(value: Any, name: str) -> list[Any]:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise BadInputType(f"{name} must be a list, not a {type(value).__name__}")
    return list(value)


def _check_ids(row: Any, name: str) -> list[str]:
    """Return the token ids of one text as digits."""
    numbers = [as_int(number) for number in _as_list(row, name)]
    if not all(number is not None and number >= 0 for number in numbers):
        raise BadInputType(f"{name} must be a list of whole numbers, none of them negative")
    if not numbers:
        raise BadInputValue(f"{name} is empty: give at least one id")
    return list(map(str, numbers))
