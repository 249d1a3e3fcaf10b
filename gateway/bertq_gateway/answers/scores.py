"""The scores of a classifier with another activation than that of its config."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertq_gateway.answers.rows import Found
from bertq_gateway.errors import Refused


def activate(logits: NDArray[Any], found: Found, activation: str) -> NDArray[Any]:
    """Return scores with an activation.

    Args:
        logits: ``[n, labels]``, with the activation of the model's config.
        found: the model.
        activation: ``"identity"``, ``"sigmoid"``, ``"softmax"``; or ``"probability"``: the scores
            of the model or, if these are logits, a sigmoid of one label, a softmax of several.

    Raises:
        Refused: the scores have another activation already, which cannot be undone exactly.
    """
    known = found.worker.activation
    if activation == known or (activation == "probability" and known != "identity"):
        return logits
    if known != "identity":
        raise Refused(
            422,
            f"the scores of {found.name} have the activation {known or 'of its config'}, which "
            "cannot be undone: request them as they are",
            "activation",
        )
    if activation == "probability":
        activation = "sigmoid" if logits.shape[1] == 1 else "softmax"
    exact = logits.astype(np.float64)
    if activation == "sigmoid":
        made = 0.5 * (1 + np.tanh(exact / 2))
    else:
        powers = np.exp(exact - exact.max(axis=1, keepdims=True))
        made = powers / powers.sum(axis=1, keepdims=True)
    return made.astype(np.float32, copy=False)
