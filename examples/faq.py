"""Semantic search: which questions of a FAQ are closest to yours.

With ``normalize=True`` every vector has the length 1, and a dot product is a cosine: the search is
one product of a matrix and a vector.

Run a service, then the script::

    bertq serve --model-dir DIR
    python examples/faq.py "I forgot my login"
"""

import argparse
from pathlib import Path

import numpy as np

from bertq import BertClient

FAQ = Path(__file__).with_name("faq.txt")
TOP = 3


def read_faq(path: Path) -> tuple[list[str], list[str]]:
    """Return questions and answers: two lines each, and an empty one after them."""
    blocks = path.read_text(encoding="utf-8").strip().split("\n\n")
    questions, answers = zip(*(block.split("\n", 1) for block in blocks), strict=True)
    return list(questions), list(answers)


def main() -> None:
    """Print the closest questions, and their answers."""
    parser = argparse.ArgumentParser(description="Search a FAQ.")
    parser.add_argument("query", help="your question")
    query = parser.parse_args().query

    questions, answers = read_faq(FAQ)
    with BertClient() as client:
        # A service would do this once, and keep the array.
        known = client.encode(questions, normalize=True)  # [questions, dim]
        asked = client.encode([query], normalize=True)[0]  # [dim]

    scores = known @ asked
    for index in np.argsort(-scores)[:TOP]:
        print(f"{scores[index]:.3f}  {questions[index]}\n       {answers[index]}")


if __name__ == "__main__":
    main()
