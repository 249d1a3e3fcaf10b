"""The page at ``/``, for people: it compares sentences and shows the state of the service."""

from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import FileResponse
from starlette.staticfiles import StaticFiles

#: Folder of the page's scripts and styles.
FILES_PATH = "/page"

_FOLDER = Path(__file__).parent / "files"

_HEADERS = {
    "Cache-Control": "no-cache",  # otherwise a browser mixes the files of two versions
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

#: The page loads and sends nothing elsewhere, and writes no HTML from strings.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)

router = APIRouter()


class Files(StaticFiles):
    """The page's scripts and styles."""

    def __init__(self) -> None:
        super().__init__(directory=_FOLDER)

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """Return the response with a file."""
        response = super().file_response(*args, **kwargs)
        response.headers.update(_HEADERS)
        return response


@router.get("/", include_in_schema=False)
async def page(request: Request) -> Response:
    """Return the page to a browser; programs send POST to this path."""
    if "text/html" not in request.headers.get("accept", ""):
        raise HTTPException(405, headers={"Allow": "POST"})
    headers = {**_HEADERS, "Content-Security-Policy": _POLICY, "Vary": "Accept"}
    return FileResponse(_FOLDER / "index.html", headers=headers)
