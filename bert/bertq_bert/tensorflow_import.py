"""Imports TensorFlow without Keras, and without needless garbage collections."""

import gc
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: With this variable, TensorFlow imports tf_keras instead of Keras, if it is installed.
_VARIABLE = "TF_USE_LEGACY_KERAS"


def import_tensorflow() -> Any:
    """Import TensorFlow without Keras, which bertq does not use, and return it.

    Keras imports scikit-learn, SciPy and matplotlib if they are installed. That takes nearly as
    long as the rest of TensorFlow's import, and 100 MB of memory.
    """
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"]
    with _without_keras(), _without_collections():
        return importlib.import_module("tensorflow")


@contextmanager
def _without_keras() -> Iterator[None]:
    if _VARIABLE in os.environ:
        yield
        return
    os.environ[_VARIABLE] = "1"
    try:
        yield
    finally:
        del os.environ[_VARIABLE]


@contextmanager
def _without_collections() -> Iterator[None]:
    """Disable garbage collection, and exclude all objects from later collections.

    An import creates many objects that exist as long as the process. Collections during the import
    and at the end of the process would visit all of them, which takes a second of CPU time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if was_enabled:
            gc.enable()
