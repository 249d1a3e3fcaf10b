"""What the queue costs: ``python -m benchmarks.overhead``.

The same clauses through a client, Redis and a worker, and through the encoder in a process of its
own. The two take turns, and each has all cores: while one is timed, the other is idle.
"""

import tempfile
from functools import partial
from pathlib import Path

import click

from benchmarks.lab import MAX_SEQ_LEN, encoder, one_worker, run, say
from benchmarks.peers.guest import Guest
from benchmarks.results import RESULTS, context, put
from benchmarks.turns import in_turns
from bertq_cli import demo_download
from bertq_cli.bench import corpus
from bertq_cli.bench.document import Document, Table
from bertq_cli.bench.services import TemporaryRedis, run_in_thread
from bertq_cli.bench.timing import MedianRange, measure_seconds
from bertq_client import BertClient

_INSIDE, _THROUGH = "encoder, in process", "client, Redis and worker"


@click.command()
@click.option("--rounds", type=click.IntRange(1, 100), default=5, show_default=True)
@click.option("--sentences", type=click.IntRange(1, 4096), default=2048, show_default=True,
              help="Sentences of a call.")  # fmt: skip
@click.option("--model-dir", type=click.Path(path_type=Path), help="Instead of the demo's model.")
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(rounds: int, sentences: int, model_dir: Path | None, output: Path) -> None:
    """Measure what the queue costs."""
    directory = model_dir or demo_download.fetch()
    around = context(directory)
    texts = corpus.make_distinct(sentences)
    taken: dict[str, MedianRange] = {}

    def measure(guest: Guest, client: BertClient) -> None:
        acts = {
            _INSIDE: lambda: sentences / guest.ask("bulk", variant="float32"),
            _THROUGH: lambda: sentences / measure_seconds(lambda: client.encode(texts)),
        }
        taken.update(in_turns(acts, rounds))

    async def act(stage: TemporaryRedis) -> None:
        service = one_worker(stage, directory)

        async def body() -> None:
            with encoder(directory) as guest, tempfile.NamedTemporaryFile("w") as file:
                file.write("\n".join(texts))
                file.flush()
                guest.ask("texts", path=file.name)
                async with BertClient(redis_url=service.url, check_length=False) as client:

                    def stop() -> None:
                        guest.kill()
                        client.close()

                    await run_in_thread(partial(measure, guest, client), stop)

        await stage.run_service(service, say, body)

    run(act)
    facts = {**around, "settings": f"calls of {sentences:,} sentences, max_seq_len {MAX_SEQ_LEN}, "
             f"mean of the last layer, float32, {rounds} rounds in turns"}  # fmt: skip
    put(build_document(taken, facts), output, "overhead")


def build_document(taken: dict[str, MedianRange], facts: dict[str, str]) -> Document:
    """Return the page."""
    pairs = zip(taken[_THROUGH].values, taken[_INSIDE].values, strict=True)
    ratio = MedianRange.from_values([through / inside for through, inside in pairs])
    rows = [[name, spread.text()] for name, spread in taken.items()]
    rows.append(["ratio", ratio.text(2)])
    note = "Medians (lowest\N{EN DASH}highest); the ratio is that of each round."
    table = Table("With and without the queue", ["", "sentences/s"], rows, note)
    data = {name: spread.document() for name, spread in [*taken.items(), ("ratio", ratio)]}
    return Document("What the queue costs", facts, [table], data)


if __name__ == "__main__":
    main()
