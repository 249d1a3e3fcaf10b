"""The ``bertq`` command and its sub-commands."""

import _thread
import os
import signal
import sys
import threading
from typing import Any

import click

import bertq
from bertq.errors import BertqError
from bertq_cli.help import print_error, print_usage_error, print_warnings_of_bertq
from bertq_cli.lazy_group import Entry, LazyGroup

#: Seconds after which an ignored Ctrl-C is repeated.
_REPEAT_SECONDS = 0.05

_SECTIONS = {
    "Begin": {
        "demo": Entry(
            "commands.demo:demo",
            "Encode a few sentences on this machine, and stop.",
            ("bertq demo", 'bertq demo "a first sentence" "a second one"'),
        ),
        "download": Entry(
            "commands.download:download",
            "Download a model by its name, and print its directory.",
            (
                "bertq download all-MiniLM-L6-v2",
                "export BERTQ_MODEL_DIR=$(bertq download sentence-transformers/LaBSE)",
            ),
        ),
    },
    "Serve": {
        "serve": Entry(
            "commands.serve:serve",
            "Run a whole service: Redis, workers, gateway, dashboard.",
            (
                "bertq serve --demo --cpu",
                "bertq serve --model-dir /models/bge-m3 --num-workers 2 --http-port 8125",
            ),
        ),
        "http": Entry(
            "commands.http:http",
            "Run the HTTP gateway alone.",
            ("bertq http --port 8125", "bertq http --host 0.0.0.0 --api-key-file keys.txt"),
        ),
        "redis": Entry(
            "commands.redis_server:redis",
            "Run the embedded Redis alone.",
            ("bertq redis --port 6380 --data-dir /var/lib/bertq",),
        ),
    },
    "Encode": {
        "encode": Entry(
            "commands.encode:encode",
            "Encode a file of sentences into a file of vectors.",
            (
                "bertq encode corpus.txt -o vectors.npy",
                "bertq encode corpus.jsonl.gz -o vectors.npy --field title --resume",
            ),
        ),
        "search": Entry(
            "commands.search:search",
            "Show the lines of a file that are nearest to a query.",
            ('bertq search vectors.npy corpus.txt "what is love" -n 3',),
        ),
        "verify": Entry(
            "commands.verify:verify",
            "Check whether the workers still make the vectors of a file.",
            ("bertq verify corpus.txt vectors.npy",),
        ),
        "rerank": Entry(
            "commands.rerank:rerank",
            "Sort documents by their relevance to a query.",
            (
                'bertq rerank documents.txt --query "what is love" -n 3',
                "bertq rerank candidates.jsonl -o ranked.jsonl",
            ),
        ),
        "jobs": Entry(
            "commands.jobs:jobs",
            "List the durable jobs.",
            ("bertq jobs", "bertq jobs --json"),
        ),
        "job": Entry(
            "commands.jobs:job",
            "Show, wait for, fetch or cancel a durable job.",
            ("bertq job 4f1c --watch", "bertq job 4f1c -o vectors.npy"),
        ),
    },
    "Operate": {
        "status": Entry(
            "commands.status:show",
            "Show workers, queues and counters.",
            ("bertq status", "bertq status --json"),
        ),
        "health": Entry(
            "commands.health:check",
            "Check the service, or one worker: exit status 0 or 1.",
            ("bertq health", "bertq health --queue gpu0 --probe"),
        ),
        "drain": Entry(
            "operate.drain:drain_workers",
            "Have workers finish their chunks, and end.",
            ("bertq drain gpu1@host", "bertq drain 'gpu*@rack2' --timeout 300"),
        ),
        "models": Entry(
            "operate.switch:models",
            "Replace the model of running workers.",
            ("bertq models switch 9f21c0", "bertq models switch bge-m3 --wait-for-jobs 600"),
        ),
        "purge": Entry(
            "commands.purge:purge_queue",
            "Remove the waiting chunks of a queue.",
            ("bertq purge gpu7",),
        ),
        "bench": Entry(
            "bench.command:bench",
            "Measure the speed of a service on this machine.",
            ("bertq bench --cpu --table client_batch_size",),
        ),
    },
    "Prepare models": {
        "convert": Entry(
            "commands.convert:convert",
            "Convert pickled weights to safetensors.",
            (
                "bertq convert /models/bge-m3",
                "bertq convert /models/bge-m3 --python torch-env/bin/python",
            ),
        ),
        "int8-ranges": Entry(
            "commands.int8_ranges:int8_ranges",
            "Find the ranges of a model's vectors, for int8 vectors.",
            ("bertq int8-ranges corpus.txt -o ranges.json",),
        ),
    },
}


@click.group(
    cls=LazyGroup,
    sections=_SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(bertq.__version__, prog_name="bertq")
def cli() -> None:
    """Sentence vectors through a durable queue.

    bertq COMMAND --help explains a command and has examples.
    """


def main() -> None:
    """Run the ``bertq`` command; print an error of bertq on one line, without a traceback."""
    print_warnings_of_bertq()
    sys.unraisablehook = _repeat_interrupt
    try:
        status = cli.main(prog_name="bertq", standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except click.Abort as abort:
        if isinstance(abort.__cause__, KeyboardInterrupt | EOFError):
            sys.exit(128 + signal.SIGINT)
        click.echo("aborted: nothing was changed", err=True)
        sys.exit(1)
    except click.ClickException as error:
        print_usage_error(error)
        sys.exit(error.exit_code)
    except BertqError as error:
        print_error(error)
        sys.exit(1)
    except OSError as error:
        # Standard output is broken. Replace it, so that the rest of its buffer does not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        print_error(error)
        sys.exit(1)


def _repeat_interrupt(ignored: Any) -> None:
    """Interrupt the command again, soon, if Ctrl-C came in a finalizer: Python ignores it there."""
    if isinstance(ignored.exc_value, KeyboardInterrupt):
        timer = threading.Timer(_REPEAT_SECONDS, _thread.interrupt_main)
        timer.daemon = True
        timer.start()
    else:
        sys.__unraisablehook__(ignored)
