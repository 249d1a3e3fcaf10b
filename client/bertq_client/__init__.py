"""The client: encodes sentences into vectors. It needs neither TensorFlow nor a GPU."""

from bertq.protocol.sparse import SparseRows
from bertq_client.client import BertClient
from bertq_client.durable.durable_job import DurableJob
from bertq_client.files.run import EncodedFile
from bertq_client.futures import EncodeFuture, Progress
from bertq_client.search.rerank import RankedDocument
from bertq_client.streaming.stream import Batch

__all__ = [
    "Batch",
    "BertClient",
    "DurableJob",
    "EncodeFuture",
    "EncodedFile",
    "Progress",
    "RankedDocument",
    "SparseRows",
]
