"""The client: sentences in, vectors out. Needs neither TensorFlow nor a GPU."""

from bertq.sparse import SparseRows
from bertq_client.bulk.run import EncodedFile
from bertq_client.client import BertClient
from bertq_client.futures import EncodeFuture, Progress
from bertq_client.kept import KeptJob
from bertq_client.stream import Batch

__all__ = [
    "Batch",
    "BertClient",
    "EncodeFuture",
    "EncodedFile",
    "KeptJob",
    "Progress",
    "SparseRows",
]
