"""The ASGI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

import bertq
from bertq.errors import BertqError
from bertq_gateway import errors, manual, page
from bertq_gateway.apis import (
    bert_as_service,
    cohere,
    listing,
    openai,
    probes,
    rerank,
    tei,
    tei_tokens,
)
from bertq_gateway.batches import batch_routes, file_routes
from bertq_gateway.batches.service import Batches
from bertq_gateway.config import Config
from bertq_gateway.errors import ClientDisconnected, Refused
from bertq_gateway.exact_paths import ExactPaths
from bertq_gateway.guard import DOCS_FILES_PATH, ErrorBoundary, HeadAsGet, RequestGuard
from bertq_gateway.metrics import GatewayMetrics
from bertq_gateway.models import Models
from bertq_gateway.state import State

_DESCRIPTION = """
BERT vectors of sentences, from workers that take them from a queue.

`/v1/embeddings`, `/v1/models`, `/v1/files` and `/v1/batches` are those of OpenAI's API, `/encode`
and `/status/server` those of bert-as-service. There are also the APIs of text-embeddings-inference
and Cohere, and the reranking of Jina and Voyage. Every error has the form of the API that its path
belongs to. Files and batches need the option `--batch-dir`.
"""


def create(config: Config) -> FastAPI:
    """Return the application; it connects to Redis on the first request."""
    metrics = GatewayMetrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        models = Models(config.redis_url, config.timeout_seconds, config.aliases, config.cache_rows)
        if config.cache_rows:
            metrics.add_cache(lambda: models.cache_info)
        app.state.gateway = State(config, models, metrics)
        batches = Batches(config.batches, app.state.gateway) if config.batches else None
        app.state.batches = batches
        yield
        if batches is not None:
            await batches.close()
        await models.close()

    app = FastAPIOffline(
        title="bertq",
        description=_DESCRIPTION,
        version=bertq.__version__,
        lifespan=lifespan,
        redoc_url=None,
        static_url=DOCS_FILES_PATH,
        # Otherwise the page sends the schema to a public validator, unless it is at localhost.
        swagger_ui_parameters={"validatorUrl": None},
    )
    # The guard checks keys; this puts a field for the key into the manual.
    key = [Depends(HTTPBearer(auto_error=False))] if config.api_keys else []
    apis = (
        openai, listing, file_routes, batch_routes, tei, tei_tokens, cohere, rerank,
        bert_as_service,
    )  # fmt: skip
    for module in apis:
        app.include_router(module.router, dependencies=key)
    app.include_router(probes.router)
    app.router.routes.insert(
        0, ExactPaths(route for module in apis for route in module.router.routes)
    )
    # Instead of FastAPI's own route.
    app.router.routes[:] = [
        route for route in app.routes if getattr(route, "path", "") != manual.DOCUMENT_PATH
    ]
    app.include_router(manual.router)
    app.include_router(page.router)
    app.mount(page.FILES_PATH, page.Files())
    app.add_exception_handler(Refused, errors.on_refused)
    app.add_exception_handler(BertqError, errors.on_refused)
    app.add_exception_handler(RequestValidationError, errors.on_invalid)
    app.add_exception_handler(HTTPException, errors.on_http)
    app.add_exception_handler(ClientDisconnected, errors.on_disconnected)
    app.add_middleware(ErrorBoundary)
    app.add_middleware(
        RequestGuard,
        keys=config.api_keys,
        max_body_bytes=config.max_body_bytes,
        max_file_bytes=None if config.batches is None else config.batches.max_file_bytes,
        max_requests=config.max_requests,
        timeout_seconds=config.timeout_seconds,
        metrics=metrics,
    )
    if config.cors:
        # Before the guard: the preflight request of a browser has no API key.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(config.cors),
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            # Any: OpenAI's library sends more headers with every version.
            allow_headers=["*"],
            expose_headers=["Retry-After", "X-Model-Fingerprint", "X-Truncated-Inputs"],
        )
    app.add_middleware(HeadAsGet)
    return app
