"""Reads the weights of the modules after the pooling."""

from bertq_bert.checkpoint import Safetensors, Weights
from bertq_bert.directory.description import Description
from bertq_bert.directory.layout import find_module_weights
from bertq_bert.pooling import Pooling, Step
from bertq_bert.variables import Variable


def read_module_weights(description: Description | None, pooling: Pooling) -> Weights:
    """Read the weights of the modules after the pooling; their names are ``modules/NUMBER/...``."""
    found: Weights = {}
    folders = dict(description.steps) if description else {}
    for step in pooling.steps:
        variables = _module_variables(step)
        if variables:
            checkpoint = Safetensors(find_module_weights(folders[step]))
            found |= {variable.name: checkpoint.load(variable) for variable in variables}
    return found


def _module_variables(step: Step) -> list[Variable]:
    """Return the tensors of a module."""
    prefix, inputs, outputs = f"modules/{step.number}", step.inputs or 0, step.outputs or 0
    if step.kind == "normalize":
        return []
    if step.kind == "layer_norm":
        return [
            Variable(f"{prefix}/gamma", ("norm.weight",), (outputs,)),
            Variable(f"{prefix}/beta", ("norm.bias",), (outputs,)),
        ]
    kernel = Variable(f"{prefix}/kernel", ("linear.weight",), (inputs, outputs))
    bias = Variable(f"{prefix}/bias", ("linear.bias",), (outputs,))
    return [kernel, bias] if step.kind == "dense" else [kernel]
