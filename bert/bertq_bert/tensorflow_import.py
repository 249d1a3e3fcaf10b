"""Imports TensorFlow without Keras."""

import os
import sys
from typing import Any

#: With this variable, TensorFlow imports tf_keras instead of Keras, if it is installed.
_VARIABLE = "TF_USE_LEGACY_KERAS"


def import_tensorflow() -> Any:
    """Import TensorFlow without Keras, which bertq does not use, and return it.

    Keras imports scikit-learn, SciPy and matplotlib if they are installed. This takes nearly as
    long as the rest of TensorFlow, and 100 MB of memory.
    """
    if "tensorflow" in sys.modules or _VARIABLE in os.environ:
        import tensorflow as tf

        return tf
    os.environ[_VARIABLE] = "1"
    try:
        import tensorflow as tf
    finally:
        del os.environ[_VARIABLE]
    return tf
