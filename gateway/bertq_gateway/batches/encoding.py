"""Answers the requests of a block of lines, many of them in one request to the workers."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi.exceptions import RequestValidationError
from numpy.typing import NDArray

from bertq import EncodeFuture, SparseRows
from bertq.errors import BadInput, BertqError, RemoteError, SentenceTooLong
from bertq.protocol.encoding import Options
from bertq.state import purge
from bertq_gateway import errors
from bertq_gateway.answers import rows
from bertq_gateway.answers.rows import Found
from bertq_gateway.apis import fields
from bertq_gateway.apis.openai import EmbeddingsRequest
from bertq_gateway.batches.lines import RequestLine
from bertq_gateway.error_forms import Problem
from bertq_gateway.errors import Refused
from bertq_gateway.models import Models
from bertq_gateway.state import State

#: Runs a function on another thread, because it takes milliseconds.
RunInThread = Callable[..., Awaitable[Any]]


class ModelAway(Exception):
    """No worker has a model that has answered requests of the batch before."""


#: Errors that will pass: the lines can be sent again.
OUTAGES = (BertqError, ModelAway)


@dataclass(frozen=True)
class LineAnswer:
    """The vectors for a line.

    Attributes:
        line: the line.
        request: its body.
        model: name of the model.
        fingerprint: fingerprint of the model.
        vectors: a vector for each text.
        tokens_read: tokens that were read.
        num_cut: texts that were cut.
    """

    line: RequestLine
    request: EmbeddingsRequest
    model: str
    fingerprint: str
    vectors: NDArray[Any]
    tokens_read: int
    num_cut: int


@dataclass(frozen=True)
class LineFailure:
    """The error of a line."""

    line: RequestLine
    problem: Problem


LineOutcome = LineAnswer | LineFailure


@dataclass(frozen=True)
class _Item:
    """A valid request."""

    line: RequestLine
    request: EmbeddingsRequest
    texts: list[str]


@dataclass(frozen=True)
class _Group:
    """Requests that are sent together: they have the same model and options."""

    found: Found
    options: Options
    items: Sequence[_Item]

    def send(self) -> EncodeFuture:
        """Send the texts to the workers.

        Raises:
            BadInput: a text is invalid.
        """
        texts = [text for item in self.items for text in item.texts]
        return self.found.client.encode_async(texts, count_tokens=True, **self.options)

    def split(self, bad_rows: Iterable[int]) -> list["_Group"]:
        """Return smaller groups, at least two, so that valid requests are answered.

        Args:
            bad_rows: texts that may be the reason of the error, as far as it is known.
        """
        bad = set(bad_rows)
        suspects: list[_Item] = []
        others: list[_Item] = []
        row = 0
        for item in self.items:
            end = row + len(item.texts)
            (suspects if bad.intersection(range(row, end)) else others).append(item)
            row = end
        if not (suspects and others):
            middle = len(self.items) // 2
            suspects, others = list(self.items[:middle]), list(self.items[middle:])
        return [_Group(self.found, self.options, items) for items in (suspects, others)]


class BlockEncoder:
    """Answers blocks of lines as ``/v1/embeddings`` answers requests.

    Args:
        state: the state of the gateway.
        models: clients that wait for workers.
        run: runs a function on another thread.
        known_models: names of models that have answered requests of the batch.
    """

    def __init__(
        self, state: State, models: Models, run: RunInThread, known_models: Iterable[str]
    ) -> None:
        self._state = state
        self._models = models
        self._run = run
        self._known_models = set(known_models)

    async def encode(self, lines: Sequence[RequestLine]) -> list[LineOutcome]:
        """Return the outcome of each line, in their order.

        Raises:
            BertqError, ModelAway: the workers cannot be reached; the lines can be sent again.
        """
        items, outcomes = await self._run(self._parse, lines)
        found = await self._find({item.request.model for item in items})
        groups, failures = await self._run(self._group, items, found)
        outcomes += failures
        outcomes += await self._answer(groups)
        return sorted(outcomes, key=lambda outcome: outcome.line.number)

    def _parse(self, lines: Sequence[RequestLine]) -> tuple[list[_Item], list[LineOutcome]]:
        items: list[_Item] = []
        failures: list[LineOutcome] = []
        for line in lines:
            try:
                request = fields.parse(EmbeddingsRequest, line.body)
                request.check_fields(self._state)
                texts = [request.input] if isinstance(request.input, str) else request.input
                self._state.check_batch(len(texts), "input")
            except RequestValidationError as error:
                failures.append(LineFailure(line, errors.describe_invalid(error)))
            except Refused as error:
                failures.append(LineFailure(line, error.problem))
            else:
                items.append(_Item(line, request, texts))
        return items, failures

    async def _find(self, names: Iterable[str]) -> dict[str, Found | Refused]:
        """Return the models with these names, or why there is none."""
        found: dict[str, Found | Refused] = {}
        for name in names:
            try:
                model = await rows.find_model(self._models, name, "embed")
                self._known_models.add(model.name)
                found[name] = model
            except Refused as error:
                model_name = self._state.config.aliases.get(name, name)
                if error.status == 404 and model_name in self._known_models:
                    raise ModelAway from None
                found[name] = error
        return found

    def _group(
        self, items: Sequence[_Item], models: dict[str, Found | Refused]
    ) -> tuple[list[_Group], list[LineOutcome]]:
        """Return the requests that can be sent together, and those that cannot be sent."""
        groups: dict[Any, tuple[Found, Options, list[_Item]]] = {}
        failures: list[LineOutcome] = []
        for item in items:
            found = models[item.request.model]
            try:
                if isinstance(found, Refused):
                    raise found
                options = item.request.options(found)
            except Refused as error:
                failures.append(LineFailure(item.line, error.problem))
                continue
            options["truncate"] = options.get("truncate") or self._state.config.truncate
            key = (found.name, *sorted(options.items()))
            groups.setdefault(key, (found, options, []))[2].append(item)
        return [_Group(*group) for group in groups.values()], failures

    async def _answer(self, groups: Sequence[_Group]) -> list[LineOutcome]:
        """Return the outcomes of groups, which the workers have at the same time."""
        tasks = [asyncio.ensure_future(self._answer_one(group)) for group in groups]
        try:
            return [outcome for outcomes in await asyncio.gather(*tasks) for outcome in outcomes]
        finally:
            for task in tasks:
                task.cancel()  # those that remain after an error

    async def _answer_one(self, group: _Group) -> list[LineOutcome]:
        try:
            future: EncodeFuture = await self._run(group.send)
            vectors = await future
            outcomes: list[LineOutcome] = await self._run(self._divide, group, future, vectors)
            return outcomes
        except (BadInput, RemoteError) as error:
            if isinstance(error, RemoteError) and error.type_name == purge.ERROR_NAME:
                raise
            if len(group.items) == 1:
                is_named = group.options.get("prompt_name") is not None
                prompt_field = "prompt_name" if is_named else "input_type"
                problem = errors.to_refused(error, "input", prompt_field).problem
                return [LineFailure(group.items[0].line, problem)]
            bad_rows = error.rows if isinstance(error, SentenceTooLong | RemoteError) else ()
            return await self._answer(group.split(bad_rows))

    def _divide(self, group: _Group, future: EncodeFuture, vectors: Any) -> list[LineOutcome]:
        """Return the answer of each request of a group."""
        if isinstance(vectors, SparseRows):
            raise ModelAway  # by now, another worker serves this name
        try:
            rows.check_vectors(vectors)
        except Refused as error:
            return [LineFailure(item.line, error.problem) for item in group.items]
        counts, cut = future.token_counts, set(future.cut_rows)
        outcomes: list[LineOutcome] = []
        start = 0
        for item in group.items:
            end = start + len(item.texts)
            outcomes.append(
                LineAnswer(
                    item.line,
                    item.request,
                    group.found.name,
                    future.fingerprint,
                    vectors[start:end],
                    0 if counts is None else int(counts[start:end].sum()),
                    len(cut.intersection(range(start, end))) if cut else 0,
                )
            )
            start = end
        return outcomes
