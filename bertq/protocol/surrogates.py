"""Lone surrogates: halves of characters, which some programs leave when they cut a text.

They are no characters, and neither UTF-8 nor tokenizers accept them.
"""


def drop(text: str) -> str:
    """Return a text without lone surrogates; two that belong together become their character."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")
    return text
