"""A model as its users see it: its name, the meaning of its rows, and its tokenizer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from bertq_bert.checkpoint import Array
from bertq_bert.errors import BadIds, NoPairs, UnknownPrompt
from bertq_bert.pooling import MODES
from bertq_bert.tokenizing.base import Text, Tokenizer, check_pairs
from bertq_bert.tokenizing.sequences import Ids, Tokenized, TokenPlace

if TYPE_CHECKING:
    from bertq_bert.network.compiled import CompileStats

#: Names of prompts that ``input_type="document"`` stands for, the first that the model has.
_DOCUMENT = ("document", "passage", "corpus")

#: How pooling modes are put into words.
_WORDS = {
    "cls": "first token",
    "lasttoken": "last token",
    "mean_sqrt_len_tokens": "sum over the root of the length",
    "weightedmean": "position-weighted mean",
    "none": "all tokens",
    "pooler": "pooler",
}


@dataclass(frozen=True, eq=False)
class Model:
    """A model as its users see it."""

    #: base name of the model's directory
    name: str
    #: hex SHA-256 over all that changes a row
    fingerprint: str
    #: longest sequence in ids, the special tokens counted
    max_seq_len: int
    #: most rows in one batch
    max_batch_size: int
    #: as asked for, one of ``POOLING_STRATEGIES``; or the directory's modes, joined by ``+``
    pooling_strategy: str
    #: layers that are read, -1 the last
    pooling_layers: tuple[int, ...]
    #: dtype of the dense layers; rows are float32
    dtype: str
    #: shape of one row: (dim,), or (tokens, dim) for NONE, where tokens is ``max_seq_len``,
    #: or None for the longest of the call if the length is not fixed
    row_shape: tuple[int | None, ...]
    #: tokens of the embedding table: valid ids are below it
    vocab_size: int
    tokenizer: Tokenizer = field(repr=False)
    #: kinds of segment that it was trained with: a pair of two segments needs two; 0 for networks
    #: that know no segments
    segments: int
    #: whether tokens that the caller made get no special tokens
    no_special_token: bool
    #: kind of rows: ``embed`` vectors, ``score`` a number for each label, ``sparse`` a number for
    #: each token of the vocabulary
    task: str = "embed"
    #: whether rows get the length 1 unless a request says otherwise
    normalized: bool = False
    #: texts that can be put before a text, by name
    prompts: Mapping[str, str] = field(default_factory=dict)
    #: name of the prompt of requests that ask for none
    default_prompt: str | None = None
    #: whether the prompt's tokens are pooled
    include_prompt: bool = True
    #: how vectors are to be compared: ``cosine``, ``dot``, ``euclidean`` or ``manhattan``, if the
    #: directory says so
    similarity: str | None = None
    #: of a classifier
    labels: tuple[str, ...] = ()
    #: activation of a classifier's scores: ``identity`` for logits, ``sigmoid``, ``softmax``, ...
    activation: str | None = None
    #: whether ``first ||| second`` is a pair unless a request says otherwise
    splits_pairs: bool = False
    #: least and greatest value of each column, for int8 rows: float32 [2, dim]
    int8_ranges: Array | None = field(default=None, repr=False)
    #: the modules between the pooling and the last normalization, in words
    modules: tuple[str, ...] = ()
    #: where its settings come from: ``modules.json``, ``config.json`` or ``bert-as-service``; with
    #: ``and options`` where options override it
    origin: str = "bert-as-service"

    def tokenize(
        self,
        texts: Sequence[Any],
        *,
        is_tokenized: bool = False,
        truncate: str = "right",
        pairs: bool | None = None,
        prompt: str | None = None,
    ) -> Tokenized:
        """Ids of each text, or of the tokens of each, at most ``max_seq_len`` of them.

        Args:
            texts: texts and pairs (tuples or lists of two texts); or lists of tokens, a pair with
                a token ``|||`` in between.
            is_tokenized: whether they are lists of tokens, which are looked up as they are.
            truncate: the end that is cut, ``"right"`` or ``"left"``.
            pairs: whether a text ``first ||| second`` is a pair; None: as ``splits_pairs`` says.
            prompt: put before each text that is no pair; None: the default prompt.

        Raises:
            NoPairs: there is a pair, and the model has one kind of segment.
            BadIds: an element is neither a text nor a pair, or tokens are to get a prompt.
        """
        if is_tokenized:
            if prompt:
                raise BadIds("tokens cannot get a prompt: send texts, or leave the prompt out")
            found = self.tokenizer.look_up(
                texts, self.max_seq_len, truncate=truncate, bare=self.no_special_token
            )
        else:
            check_pairs(texts)
            split = self.splits_pairs if pairs is None else pairs
            sides = [
                (self.tokenizer.split(text) if split else text)
                if isinstance(text, str)
                else (text[0], text[1])
                for text in texts
            ]
            found = self.tokenizer.encode(
                cast(list[Text], sides),
                self.max_seq_len,
                truncate=truncate,
                prompt=(self.prompt_text() or "") if prompt is None else prompt,
                mark_prompt=not self.include_prompt,
            )
        if self.segments == 1:
            for number, row in enumerate(found.ids):
                if isinstance(row, Ids) and row.second < len(row):
                    raise NoPairs(
                        f"row {number} is a pair of sentences, and this model has one kind of "
                        "segment (type_vocab_size 1)"
                    )
        return found

    def locate(
        self, texts: Sequence[str], *, prompt: str | None = None, special_tokens: bool = True
    ) -> list[list[TokenPlace]]:
        """All tokens of each text with their places in prompt and text; nothing is cut.

        Args:
            texts: the texts.
            prompt: as for ``tokenize``.
            special_tokens: whether to add those around a text.
        """
        before = (self.prompt_text() or "") if prompt is None else prompt
        return self.tokenizer.locate(
            [before + text for text in texts], special_tokens=special_tokens
        )

    def decode(self, ids: Sequence[Sequence[int]], *, skip_special: bool = False) -> list[str]:
        """The text of each sequence of ids.

        Args:
            ids: the sequences.
            skip_special: whether to leave out special tokens.

        Raises:
            BadIds: the model has no such id.
        """
        for number, row in enumerate(ids):
            if not all(0 <= token < self.vocab_size for token in row):
                raise BadIds(f"row {number} has an id that is not in 0..{self.vocab_size - 1}")
        return self.tokenizer.decode(ids, skip_special=skip_special)

    def prompt_text(
        self,
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        input_type: str | None = None,
    ) -> str | None:
        """The text that a request's choice of a prompt stands for; None for no prompt.

        Args:
            prompt_name: the name of one of ``prompts``.
            prompt: the text itself.
            input_type: ``"query"`` or ``"document"``: the prompt for that, or none if the model has
                none, as for sentence-transformers' ``encode_query`` and ``encode_document``; or the
                name of a prompt.

        Raises:
            UnknownPrompt: the model has no prompt of that name.
        """
        given = [value for value in (prompt_name, prompt, input_type) if value is not None]
        if len(given) > 1:
            raise UnknownPrompt("give one of prompt_name, prompt and input_type")
        if prompt is not None:
            return prompt
        if input_type in ("query", "document"):
            names = ("query",) if input_type == "query" else _DOCUMENT
            # never the default one: that of queries would be put before documents
            return next((self.prompts[name] for name in names if name in self.prompts), "")
        name = prompt_name or input_type or self.default_prompt
        if name is None:
            return None
        if name not in self.prompts:
            known = ", ".join(map(repr, self.prompts)) or "none"
            raise UnknownPrompt(f"model {self.name} has no prompt of that name: it has {known}")
        return self.prompts[name]

    def tokens(self, ids: Sequence[Sequence[int]]) -> list[list[str]]:
        """The tokens that rows of ids stand for, the special ones included."""
        return [self.tokenizer.tokens(row) for row in ids]

    def compile_stats(self) -> "CompileStats | None":
        """Return what XLA has compiled; None if it compiles nothing."""
        return None

    @property
    def description(self) -> str:
        """The meaning of a row in words: pooling, length, normalization, prompts, their source."""
        parts = [self._pooling(), *self.modules, f"{self.max_seq_len} tokens"]
        if self.normalized:
            parts.append("L2-normalized")
        names = [name for name, text in self.prompts.items() if text]
        if names:
            parts.append(f"prompts {'|'.join(names)}")
        if self.default_prompt and self.prompts[self.default_prompt]:
            parts.append(f"{self.default_prompt} by default")
        if self.int8_ranges is not None:
            parts.append(f"int8 ranges of {self.int8_ranges.shape[1]} dimensions")
        return f"{', '.join(parts)} (from {self.origin})"

    def _pooling(self) -> str:
        if self.task == "score":
            size = self.row_shape[-1]
            return "a score" if size == 1 else f"{size} labels"
        if self.task == "sparse":
            return f"sparse weights of {self.row_shape[-1]} tokens"
        if self.origin == "bert-as-service" or self.pooling_strategy.isupper():
            words = self.pooling_strategy
        else:
            modes = [mode for mode in self.pooling_strategy.split("+") if mode in MODES]
            words = " and ".join(_WORDS.get(mode, mode) for mode in modes)
        if self.pooling_layers == (-1,):
            return f"{words} of the last layer"
        plural = "s" if len(self.pooling_layers) > 1 else ""
        return f"{words} of layer{plural} {','.join(map(str, self.pooling_layers))}"
