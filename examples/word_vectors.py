"""Vectors of words in their context: the same word, in two sentences.

Workers with the pooling strategy NONE return a vector for each wordpiece, and ``show_tokens=True``
the wordpieces that they belong to. A word's vector is here the mean of those of its wordpieces.

Run a service that does not pool, then the script::

    bertq serve --model-dir DIR --pooling-strategy NONE
    python examples/word_vectors.py "The bank raised its rates." "We sat on the bank of the river."

Such workers may stand beside others, under a name: ``--model-name words`` for the workers,
``--model words`` for the script.
"""

import argparse
import sys
from typing import Any

import numpy as np

from bertq import BertClient

FIRST = "The bank raised its rates."
SECOND = "We sat on the bank of the river."


def words(tokens: list[str], vectors: Any) -> dict[str, Any]:
    """Return the unit vector of each word of a sentence; of one that is there twice, the last.

    Args:
        tokens: its wordpieces; ``##`` is the mark of those that continue a word.
        vectors: ``[max_seq_len, dim]``: one for each wordpiece, then zeros.
    """
    pieces: list[tuple[str, list[int]]] = []
    for position, token in enumerate(tokens[1:-1], start=1):  # without [CLS] and [SEP]
        if token.startswith("##") and pieces:
            word, positions = pieces[-1]
            pieces[-1] = (word + token[2:], [*positions, position])
        else:
            pieces.append((token, [position]))
    means = {word: vectors[positions].mean(axis=0) for word, positions in pieces}
    return {word: mean / np.linalg.norm(mean) for word, mean in means.items()}


def main() -> None:
    """Print the cosine of each word that is in both sentences."""
    parser = argparse.ArgumentParser(description="Compare words in two sentences.")
    parser.add_argument("first", nargs="?", default=FIRST)
    parser.add_argument("second", nargs="?", default=SECOND)
    parser.add_argument("--model", help="the --model-name of the workers, if they have one")
    arguments = parser.parse_args()

    with BertClient(model=arguments.model) as client:
        vectors, tokens = client.encode([arguments.first, arguments.second], show_tokens=True)
    if vectors.ndim != 3:
        sys.exit(
            f"The vectors have the shape {vectors.shape}, one for a sentence: these workers pool. "
            "Start workers with --pooling-strategy NONE."
        )
    first, second = (words(*sentence) for sentence in zip(tokens, vectors, strict=True))
    shared = [word for word in first if word in second]
    if not shared:
        sys.exit("The sentences have no word in common.")
    for word in shared:
        print(f"{first[word] @ second[word]:.3f}  {word}")


if __name__ == "__main__":
    main()
