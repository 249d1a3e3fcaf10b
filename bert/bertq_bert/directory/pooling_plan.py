"""Plans the pooling of a model from the settings of its directory and the options."""

from collections.abc import Sequence
from dataclasses import replace

from bertq_bert.config import NetworkConfig
from bertq_bert.directory.description import Description
from bertq_bert.errors import BadConfig, BadOption
from bertq_bert.pooling import Pooling, plan_pooling

#: The defaults of bert-as-service.
_STRATEGY, _LAYERS = "REDUCE_MEAN", (-2,)


def plan_model_pooling(
    description: Description | None,
    strategy: str | None,
    layers: Sequence[int] | None,
    config: NetworkConfig,
    *,
    num_labels: int | None,
    mask_cls_sep: bool,
) -> Pooling:
    """Plan the pooling from the settings of the directory, which the options override.

    Args:
        description: the settings of the directory; None: the defaults of bert-as-service.
        strategy, layers: the options; None: as in the directory.
        config: the hyper-parameters of the network.
        num_labels, mask_cls_sep: as for ``read_source``.

    Raises:
        BadOption: an option is not valid for the model.
        BadConfig: the modules of the directory do not fit the network.
    """

    def plan(strategy: str, default_layers: tuple[int, ...]) -> Pooling:
        return plan_pooling(
            strategy,
            default_layers if layers is None else layers,
            config.num_hidden_layers,
            num_labels=num_labels,
            mask_cls_sep=mask_cls_sep,
        )

    if description is None:
        return plan(strategy or _STRATEGY, _LAYERS)
    if strategy is not None:
        pooling = plan(strategy, (-1,))
        is_vector = pooling.task == "embed" and not pooling.per_token
        return _add_steps(pooling, description, config) if is_vector else pooling
    if description.task == "score":
        if layers is not None:
            raise BadOption(
                "pooling_layer has no meaning for a classifier: leave it out, or give a "
                "pooling_strategy for vectors"
            )
        return replace(plan("CLASSIFICATION", (-1,)), activation=description.activation or "")
    if description.task == "sparse":
        return replace(
            plan("SPLADE_MAX", (-1,)),
            modes=description.modes,
            activation=description.activation or "relu",
        )
    return _add_steps(plan("+".join(description.modes), (-1,)), description, config)


def _add_steps(pooling: Pooling, description: Description, config: NetworkConfig) -> Pooling:
    """Add the modules after the pooling.

    Raises:
        BadConfig: the input of a module has another size than the output before it.
    """
    steps = [step for step, _ in description.steps]
    is_normalized = bool(steps) and steps[-1].kind == "normalize"
    if is_normalized:
        steps.pop()
    width = pooling.width(config.hidden_size)
    for step in steps:
        if step.inputs is not None and step.inputs != width:
            raise BadConfig(
                f"{dict(description.steps)[step] / 'config.json'}: the module takes rows of "
                f"{step.inputs} numbers, and gets {width}"
            )
        width = step.outputs or width
    return replace(
        pooling,
        steps=tuple(steps),
        normalized=is_normalized,
        include_prompt=description.include_prompt,
    )


def name_strategy(description: Description | None, pooling: Pooling) -> str:
    """Return the name of the pooling strategy for a model without the option."""
    if description is None:
        return _STRATEGY
    return {"score": "CLASSIFICATION", "sparse": pooling.modes[0].upper()}.get(
        pooling.task, "+".join(pooling.modes)
    )
