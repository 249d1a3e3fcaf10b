"""Encode sentences as BERT vectors through a durable queue.

``from bertq import BertClient`` is the public import; ``celery -A bertq worker`` is the worker.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bertq_client import Batch as Batch
    from bertq_client import BertClient as BertClient
    from bertq_client import DurableJob as DurableJob
    from bertq_client import EncodedFile as EncodedFile
    from bertq_client import EncodeFuture as EncodeFuture
    from bertq_client import Progress as Progress
    from bertq_client import RankedDocument as RankedDocument
    from bertq_client import SparseRows as SparseRows

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "BertClient",
    "DurableJob",
    "EncodeFuture",
    "EncodedFile",
    "Progress",
    "RankedDocument",
    "SparseRows",
    "__version__",
]


def __getattr__(name: str) -> Any:
    # Import the client lazily (PEP 562): bertq_client imports bertq, so an eager import here would
    # be a cycle, and a worker would load the client for nothing.
    if name in __all__:
        import bertq_client

        return getattr(bertq_client, name)
    if name == "KeptJob":
        import warnings

        import bertq_client

        warnings.warn(
            "bertq.KeptJob is deprecated: use bertq.DurableJob", DeprecationWarning, stacklevel=2
        )
        return bertq_client.DurableJob
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
