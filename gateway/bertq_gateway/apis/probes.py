"""``/healthz``, ``/readyz`` and ``/metrics``, for orchestrators and monitoring."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from bertq.errors import BertqError
from bertq.state.health import MAX_BATCH_SECONDS
from bertq_gateway import errors
from bertq_gateway.state import State

router = APIRouter(tags=["operation"])


@router.get("/healthz", response_class=PlainTextResponse)
async def healthz() -> str:
    """Report that the gateway is alive."""
    return "ok"


@router.get(
    "/readyz",
    response_class=PlainTextResponse,
    responses={503: {"description": "No worker answers", "content": {"text/plain": {}}}},
)
async def readyz(request: Request) -> Response:
    """Report whether requests can be answered: a worker is alive, and its graph does not hang."""
    ready, reason = await find_ready(State.of(request))
    if reason:
        return PlainTextResponse(f"not ready: {reason}", 503, errors.headers(503))
    return PlainTextResponse(f"ready: {', '.join(ready)}")


@router.get("/metrics", response_class=PlainTextResponse, responses=errors.responses(401, 429))
async def metrics(request: Request) -> Response:
    """Return the gateway's counters in Prometheus' format."""
    return Response(State.of(request).metrics.text(), media_type=CONTENT_TYPE_LATEST)


async def find_ready(state: State) -> tuple[list[str], str]:
    """Return the names of the models that can answer; without any, also the reason."""
    try:
        workers = await state.models.workers()
    except BertqError as error:
        return [], str(errors.to_refused(error))
    ready = [worker for worker in workers if worker.work.batch_seconds <= MAX_BATCH_SECONDS]
    if not ready:
        return [], "all workers hang" if workers else "no worker is alive"
    return sorted({worker.public_name for worker in ready}), ""
