"""The network as TensorFlow graphs."""

from bertq_bert.tensorflow_import import import_tensorflow

import_tensorflow()  # otherwise the modules of this package import it with Keras
