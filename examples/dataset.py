"""Vectors in a tf.data pipeline, in two ways.

``streamed`` makes a dataset of a stream: the way for a file or any other iterable. ``mapped`` adds
the vectors to a dataset of strings that is there already; it keeps several requests under way, of
one client. Needs TensorFlow: ``pip install -e '.[worker]'``.

Run a service, then the script, on lines of a text file::

    bertq serve --model-dir DIR
    python examples/dataset.py [FILE]
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from bertq import BertClient

FAQ = Path(__file__).with_name("faq.txt")


def sentences(path: Path) -> Iterator[str]:
    """Yield the lines of a file that are not blank."""
    with path.open(encoding="utf-8") as lines:
        yield from (text for line in lines if (text := line.strip()))


def streamed(client: BertClient, path: Path, batch_size: int, dim: int) -> tf.data.Dataset:
    """Return a dataset of (sentences, vectors) that reads the file as it is consumed."""

    def batches() -> Iterator[tuple[list[str], Any]]:
        for batch in client.encode_stream(sentences(path), batch_size):
            yield batch.texts, batch.vectors

    signature = (
        tf.TensorSpec([None], tf.string),
        tf.TensorSpec([None, dim], tf.float32),
    )
    return tf.data.Dataset.from_generator(batches, output_signature=signature)


def mapped(client: BertClient, texts: tf.data.Dataset, batch_size: int, dim: int) -> Any:
    """Return a dataset of (sentences, vectors) of one of strings."""

    def encode(batch: Any) -> Any:
        return client.encode([text.decode() for text in batch.numpy()])

    def with_vectors(batch: Any) -> tuple[Any, Any]:
        vectors = tf.py_function(encode, [batch], tf.float32)
        return batch, tf.ensure_shape(vectors, [None, dim])  # py_function does not know it

    return texts.batch(batch_size).map(with_vectors, num_parallel_calls=4)


def main() -> None:
    """Print the shapes of the batches of both."""
    parser = argparse.ArgumentParser(description="Encode a file in a tf.data pipeline.")
    parser.add_argument("file", type=Path, nargs="?", default=FAQ, help="UTF-8 text")
    parser.add_argument("--batch-size", type=int, default=10)
    arguments = parser.parse_args()

    with BertClient() as client:
        dim = client.encode(["How many numbers has a vector?"]).shape[1]
        lines = tf.data.TextLineDataset(str(arguments.file)).map(tf.strings.strip)
        texts = lines.filter(lambda text: tf.strings.length(text) > 0)
        for name, dataset in (
            ("streamed", streamed(client, arguments.file, arguments.batch_size, dim)),
            ("mapped", mapped(client, texts, arguments.batch_size, dim)),
        ):
            print(f"{name}: {dataset.element_spec[1]}")
            for strings, vectors in dataset.prefetch(2):
                print(f"  sentences {strings.shape}, vectors {vectors.shape}")


if __name__ == "__main__":
    main()
