"""The objects of the Batch API, and the record of a batch on disk."""

from typing import Generic, Literal, Self, TypeVar

from pydantic import BaseModel, Field

#: The path that the requests of a batch may have.
ENDPOINT = "/v1/embeddings"

#: States in which a batch does not change any more.
Ended = Literal["completed", "failed", "expired", "cancelled"]
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})


class Identified(BaseModel):
    """An object with an id."""

    id: str


_Item = TypeVar("_Item", bound=Identified)


class ObjectList(BaseModel, Generic[_Item]):
    """A part of a list of objects."""

    object: Literal["list"] = "list"
    data: list[_Item]
    first_id: str | None
    last_id: str | None
    has_more: bool = Field(description="Whether there are more: send after=LAST_ID for them.")

    @classmethod
    def of(cls, found: list[_Item], has_more: bool) -> Self:
        """Return a part of a list, and whether there are more objects."""
        first_id, last_id = (found[0].id, found[-1].id) if found else (None, None)
        return cls(data=found, first_id=first_id, last_id=last_id, has_more=has_more)


class LineProblem(BaseModel):
    """A reason why an input file is refused."""

    code: str
    message: str
    line: int | None = Field(default=None, description="Number of the line, from 1.")
    param: str | None = None


class LineProblems(BaseModel):
    """The reasons why a batch has failed."""

    object: Literal["list"] = "list"
    data: list[LineProblem]


class RequestCounts(BaseModel):
    """Requests of a batch."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class InputTokensDetails(BaseModel):
    """Kinds of tokens that were read."""

    cached_tokens: int = 0


class OutputTokensDetails(BaseModel):
    """Kinds of tokens that were written."""

    reasoning_tokens: int = 0


class BatchUsage(BaseModel):
    """Tokens that were read, special tokens included."""

    input_tokens: int = 0
    input_tokens_details: InputTokensDetails = InputTokensDetails()
    output_tokens: int = 0
    output_tokens_details: OutputTokensDetails = OutputTokensDetails()
    total_tokens: int = 0


class BatchObject(Identified):
    """A batch, as in OpenAI's API."""

    object: Literal["batch"] = "batch"
    endpoint: str
    input_file_id: str
    completion_window: str
    status: Literal["validating", "in_progress", "finalizing", "cancelling"] | Ended
    model: str | None = Field(default=None, description="The model of the last answered request.")
    errors: LineProblems | None = None
    output_file_id: str | None = Field(default=None, description="The file of answers.")
    error_file_id: str | None = Field(default=None, description="The file of errors.")
    created_at: int
    in_progress_at: int | None = None
    expires_at: int
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: RequestCounts = RequestCounts()
    usage: BatchUsage = BatchUsage()
    metadata: dict[str, str] | None = None


class BatchCheckpoint(BaseModel):
    """How far a batch has come.

    Attributes:
        directory: name of the directory with the two files.
        line: number of the last line that was answered.
        input_bytes: where the next line begins.
        output_bytes, error_bytes: sizes of the two files with the answers up to this line.
        fingerprints: fingerprint of each model that has answered, by its name.
    """

    directory: str = ""
    line: int = 0
    input_bytes: int = 0
    output_bytes: int = 0
    error_bytes: int = 0
    fingerprints: dict[str, str] = {}


class BatchRecord(BaseModel):
    """A batch on disk.

    Attributes:
        batch: the batch as its owner sees it.
        checkpoint: how far it has come.
        output_expiry_seconds: how long its output is stored.
        ending: the state that it will have once its files are complete; None while it runs.
        output_file_id, error_file_id: names for its files, set together with ``ending``.
        holder: the gateway that runs it.
    """

    batch: BatchObject
    checkpoint: BatchCheckpoint = BatchCheckpoint()
    output_expiry_seconds: int
    ending: Ended | None = None
    output_file_id: str = ""
    error_file_id: str = ""
    holder: str = ""

    def restart(self) -> None:
        """Forget the answers."""
        self.checkpoint = BatchCheckpoint()
        self.batch.usage = BatchUsage()
        self.batch.request_counts = RequestCounts(total=self.batch.request_counts.total)
