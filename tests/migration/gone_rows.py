"""Rows of removed features: using one is an error at once."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice

import numpy as np
import pytest
from click.testing import CliRunner

import bertq as package
from bertq.errors import BadInputType
from bertq_bert import read_source
from bertq_cli.commands.serve import serve
from tests.migration.deployment import TEXTS, Deployment, bertq, run
from tests.migration.rows import row, row_each


def refused(done: subprocess.CompletedProcess[str], option: str) -> None:
    """It is a usage error that names the option."""
    assert done.returncode == 2, done.stderr
    assert f"Error: No such option '{option}'" in done.stderr
    assert "Traceback" not in done.stderr


@row_each("-graph_tmp_dir", "-prefetch_size 10")
def gone_from_the_service(_deployment: Deployment, cell: str) -> None:
    option = "--" + cell.split()[0].removeprefix("-").replace("_", "-")
    refused(bertq("serve", option, "1"), option)


@row("-port_out 5556")
def one_port(deployment: Deployment) -> None:
    refused(bertq("serve", "--port-out", "5556"), "--port-out")
    with deployment.client() as client:
        assert client.encode(TEXTS).shape == (3, 32)
        assert "port_out" not in client.status


@row("-fixed_embed_length")
def lengths_of_token_vectors(deployment: Deployment) -> None:
    option = "--fixed-embed-length"
    refused(run(sys.executable, "-m", "celery", "-A", "bertq", "worker", option), option)
    with deployment.client(model="tokens") as client:
        assert client.encode(TEXTS).shape == (3, 7, 64)  # the longest of the request
        assert client.encode(TEXTS[:1]).shape == (1, 4, 64)
    # With a number it is the number.
    source = read_source(deployment.home / "uncased_tiny", pooling_strategy="NONE", max_seq_len=12)
    assert source.model.row_shape == (12, 32)


@row("port_out=5556", "check_token_info=True", "ignore_all_checks=False")
def gone_from_the_client(deployment: Deployment) -> None:
    for name in ("port_out", "check_token_info", "ignore_all_checks"):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
            deployment.client(**{name: True})


@row("ConcurrentBertClient(max_concurrency=10)")
def one_client_for_all_threads(deployment: Deployment) -> None:
    assert not hasattr(package, "ConcurrentBertClient")
    with deployment.client() as client, ThreadPoolExecutor(20) as threads:
        texts = [f"the lord {number}" for number in range(60)]
        expected = client.encode(texts)
        found = list(threads.map(lambda text: client.encode([text])[0], texts))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@row("encode_async(max_num_batch=None)")
def no_number_of_batches(deployment: Deployment) -> None:
    with deployment.client() as client:
        with pytest.raises(TypeError, match="there is no option max_num_batch"):
            client.encode_async(TEXTS, max_num_batch=2)  # type: ignore[call-arg]
        with pytest.raises(BadInputType, match="there is no option max_num_batch"):
            client.encode_stream(TEXTS, max_num_batch=2)  # type: ignore[call-arg]
        endless = (f"the lord {number}" for number in count())
        batches = client.encode_stream(endless, batch_size=4)
        assert [batch.start for batch in islice(batches, 3)] == [0, 4, 8]
        batches.close()
        assert client.status["num_pending_request"] == 0
        some = client.encode_stream(islice(endless, 6), batch_size=4)
        assert [len(batch.texts) for batch in some] == [4, 2]


@row("-num_worker 2, spelling")
def the_old_spelling(deployment: Deployment) -> None:
    done = bertq("serve", "-num_worker", "2")
    assert done.returncode == 2
    assert "Error: -num_worker is an option of bert-as-service" in done.stderr
    for option in ("-model_dir", "-max_seq_len=25", "-cpu", "-pooling_layer", "-fp16"):
        result = CliRunner().invoke(serve, [option, "2"])
        assert result.exit_code == 2
        assert f"instead of _: -{option.partition('=')[0].replace('_', '-')}" in result.output
    # ... and its replacement, with which the service of these tests was started.
    assert len([name for name in deployment.infos() if name.startswith("gpu0")]) == 2
    # Celery uses this as the name of a log file.
    done = run(
        sys.executable, "-m", "celery", "-A", "bertq", "-b", deployment.url, "worker", "-fp16",
        "--model-dir", str(deployment.home / "uncased_tiny"), cwd=deployment.home,
    )  # fmt: skip
    assert done.returncode == 78
    log = done.stdout + done.stderr + (deployment.home / "p16").read_text()
    assert "cannot start: -fp16 is an option of bert-as-service" in log
