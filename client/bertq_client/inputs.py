"""What ``encode`` takes: a list of sentences, none of them blank."""

from typing import Any

from bertq.errors import BadInputType, BadInputValue
from bertq.limits import REQUEST_CHARACTERS, REQUEST_ROWS, SENTENCE_CHARACTERS

#: Sentences that are checked in the caller's thread, which takes well under a millisecond. The
#: sender's thread checks the rest, before it sends anything.
AT_ONCE = 4096


def check_list(texts: Any) -> None:
    """Refuse what is not a non-empty list of sentences; looks at the first ``AT_ONCE`` of them.

    Raises:
        BadInputType: it is no list, or an element is no str.
        BadInputValue: it is empty or far too long, or an element is blank or far too long.
    """
    if isinstance(texts, str):
        raise BadInputType("texts is a str: for one sentence give a list of one, ['...']")
    if not isinstance(texts, list):
        raise BadInputType(f"texts is a {type(texts).__name__}: it must be a list of str")
    if not texts:
        raise BadInputValue("texts is an empty list: there is nothing to encode")
    if len(texts) > REQUEST_ROWS:
        raise BadInputValue(
            f"texts has {len(texts)} sentences: at most {REQUEST_ROWS} go into one request"
        )
    check_elements(texts[:AT_ONCE], 0)


def check_elements(texts: list[Any], first: int) -> None:
    """Check sentences, of which the first one is number ``first`` of the request."""
    # A pass of C loops for the good case; the slow loop only looks for the one to name.
    if (
        set(map(type, texts)) == {str}
        and all(texts)
        and not any(map(str.isspace, texts))
        and max(map(len, texts)) <= SENTENCE_CHARACTERS
    ):
        return
    for index, text in enumerate(texts, first):
        if not isinstance(text, str):
            raise BadInputType(f"texts[{index}] is a {type(text).__name__}: it must be a str")
        if not text or text.isspace():
            raise BadInputValue(f"texts[{index}] is blank: every sentence must have a character")
        if len(text) > SENTENCE_CHARACTERS:
            raise BadInputValue(
                f"texts[{index}] has {len(text)} characters: at most {SENTENCE_CHARACTERS} go"
            )


def check_characters(total: int) -> None:
    """Refuse a request whose sentences have so many characters together."""
    if total > REQUEST_CHARACTERS:
        raise BadInputValue(
            f"texts has more than {REQUEST_CHARACTERS} characters: send it in several requests"
        )
