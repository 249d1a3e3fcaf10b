"""The public properties of a model: its name, the meaning of its rows, and its tokenizer."""

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

#: Names of prompts for ``input_type="document"``: the first that the model has is used.
_DOCUMENT = ("document", "passage", "corpus")

#: Descriptions of pooling modes.
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
    """The public properties of a model."""

    #: base name of the model's directory
    name: str
    #: SHA-256, in hexadecimal, of everything that changes a row
    fingerprint: str
    #: maximum token ids of a sequence, including special tokens
    max_seq_len: int
    #: maximum rows of a batch
    max_batch_size: int
    #: the option, one of ``POOLING_STRATEGIES``; or the directory's modes, joined by ``+``
    pooling_strategy: str
    #: encoder layers whose outputs are pooled, -1 for the last
    pooling_layers: tuple[int, ...]
    #: compute dtype of the dense layers; rows are float32
    dtype: str
    #: shape of a row: (dim,), or (tokens, dim) for the strategy NONE. There, tokens is
    #: ``max_seq_len``, or None if the length is not fixed: then rows are as long as the longest
    #: sequence of the call
    row_shape: tuple[int | None, ...]
    #: number of rows of the embedding table: valid ids are 0..vocab_size-1
    vocab_size: int
    tokenizer: Tokenizer = field(repr=False)
    #: number of segment types that the network was trained with: a pair with two segments needs 2;
    #: 0 for a network without segments
    segments: int
    #: whether lists of tokens get no special tokens
    no_special_token: bool
    #: kind of rows: ``embed`` for vectors, ``score`` for a number for each label, ``sparse`` for a
    #: number for each token of the vocabulary
    task: str = "embed"
    #: whether rows are normalized to length 1 by default
    normalized: bool = False
    #: prompts, which are put before a text, by name
    prompts: Mapping[str, str] = field(default_factory=dict)
    #: name of the prompt for requests that select none
    default_prompt: str | None = None
    #: whether the pooling includes the tokens of the prompt
    include_prompt: bool = True
    #: similarity function for the vectors, if the directory names one: ``cosine``, ``dot``,
    #: ``euclidean`` or ``manhattan``
    similarity: str | None = None
    #: names of the labels of a classifier
    labels: tuple[str, ...] = ()
    #: activation of a classifier's scores: ``identity`` for logits, ``sigmoid``, ``softmax``, ...
    activation: str | None = None
    #: whether ``first ||| second`` is a pair by default
    splits_pairs: bool = False
    #: minimum and maximum of each column, for int8 rows: float32 [2, dim]
    int8_ranges: Array | None = field(default=None, repr=False)
    #: descriptions of the modules between the pooling and the last normalization
    modules: tuple[str, ...] = ()
    #: source of the settings: ``modules.json``, ``config.json`` or ``bert-as-service``; with
    #: ``and options`` if options override them
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
        """Return the token ids of each text, at most ``max_seq_len`` for one.

        Args:
            texts: texts and pairs (tuples or lists of two texts); or lists of tokens, where the
                token ``|||`` separates the texts of a pair.
            is_tokenized: whether ``texts`` are lists of tokens, which are only looked up.
            truncate: the side on which long texts are truncated, ``"right"`` or ``"left"``.
            pairs: whether a text ``first ||| second`` is a pair; None: as ``splits_pairs``.
            prompt: put before each text, but not before pairs; None: the default prompt.

        Raises:
            NoPairs: one of ``texts`` is a pair, and the model has only one segment type.
            BadIds: an element is neither a text nor a pair, or a prompt is given for tokens.
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
        """Return the tokens of each text and their positions in it, without truncation.

        Args:
            texts: the texts.
            prompt: as for ``tokenize``; positions are those in the prompt and the text together.
            special_tokens: whether to add the special tokens around a text.
        """
        before = (self.prompt_text() or "") if prompt is None else prompt
        return self.tokenizer.locate(
            [before + text for text in texts], special_tokens=special_tokens
        )

    def decode(self, ids: Sequence[Sequence[int]], *, skip_special: bool = False) -> list[str]:
        """Return the text of each sequence of token ids.

        Args:
            ids: the sequences.
            skip_special: whether to omit special tokens.

        Raises:
            BadIds: a sequence has an id that is not in 0..vocab_size-1.
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
        """Return the text of the prompt that a request selects; None if it selects none.

        Args:
            prompt_name: the name of one of ``prompts``.
            prompt: the text of a prompt.
            input_type: ``"query"`` or ``"document"`` for the model's prompt for these, or an empty
                one if the model has no such prompt, like ``encode_query`` and ``encode_document``
                of sentence-transformers; or the name of a prompt.

        Raises:
            UnknownPrompt: the model has no prompt of that name, or several arguments are given.
        """
        given = [value for value in (prompt_name, prompt, input_type) if value is not None]
        if len(given) > 1:
            raise UnknownPrompt("give one of prompt_name, prompt and input_type")
        if prompt is not None:
            return prompt
        if input_type in ("query", "document"):
            names = ("query",) if input_type == "query" else _DOCUMENT
            # Not the default prompt: the prompt for queries would be put before documents.
            return next((self.prompts[name] for name in names if name in self.prompts), "")
        name = prompt_name or input_type or self.default_prompt
        if name is None:
            return None
        if name not in self.prompts:
            known = ", ".join(map(repr, self.prompts)) or "none"
            raise UnknownPrompt(f"model {self.name} has no prompt of that name: it has {known}")
        return self.prompts[name]

    def tokens(self, ids: Sequence[Sequence[int]]) -> list[list[str]]:
        """Return the tokens of sequences of ids, including special tokens."""
        return [self.tokenizer.tokens(row) for row in ids]

    def compile_stats(self) -> "CompileStats | None":
        """Return statistics of XLA's compilations; None if XLA is not used."""
        return None

    @property
    def description(self) -> str:
        """A description of the rows: pooling, length, normalization, prompts and their source."""
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
