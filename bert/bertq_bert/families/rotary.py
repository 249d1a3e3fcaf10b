"""Reads the settings of rotary positions, in the forms of transformers 4 and 5."""

from typing import Any

from bertq_bert.config import Rotary, shown
from bertq_bert.errors import UnsupportedModel
from bertq_bert.families.fields import Fields


def read_rotary(fields: Fields, values: Any, theta: Any, name: str = "rope_parameters") -> Rotary:
    """Return the positions that ``rope_parameters`` or ``rope_scaling`` describes.

    Args:
        fields: the values of the config, for messages.
        values: the JSON object; None for positions without scaling.
        theta: the base, if the object has none.
        name: name of the key, for messages.

    Raises:
        UnsupportedModel: the type is not default, linear or NTK.
        BadConfig: a value is not a number above zero.
    """
    values = values if isinstance(values, dict) else {}
    theta = fields.number(values.get("rope_theta", theta), "rope_theta")
    kind = values.get("rope_type", values.get("type", "default"))
    if kind == "default":
        return Rotary(theta)
    if kind not in ("linear", "ntk") or values.get("mixed_b") is not None:
        raise UnsupportedModel(
            f"{fields.path}: {name} is of the type {shown(kind)}: bertq knows default, "
            "linear and ntk"
        )
    factor = fields.number(values.get("factor"), f"{name}: factor")
    if kind == "linear":
        return Rotary(theta, position_divisor=factor)
    return Rotary(theta, ntk_factor=factor)
