"""The ASGI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from starlette.exceptions import HTTPException

import bertq
from bertq.errors import BertqError
from bertq_gateway import bert_as_service, errors, listing, openai, probes
from bertq_gateway.config import Config
from bertq_gateway.errors import ClientDisconnected, Refused
from bertq_gateway.guard import RequestGuard
from bertq_gateway.metrics import GatewayMetrics
from bertq_gateway.models import Models
from bertq_gateway.state import State

_DESCRIPTION = """
BERT vectors of sentences, from workers that take them from a queue.

`/v1/...` is what OpenAI's API has for embeddings; `/encode` and `/status/server` are those of
bert-as-service. Every error has the body that OpenAI's have.
"""


def create(config: Config) -> FastAPI:
    """Return the application; it connects to Redis on the first request."""
    metrics = GatewayMetrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        models = Models(config.redis_url, config.timeout_seconds, config.aliases)
        app.state.gateway = State(config, models, metrics)
        yield
        await models.close()

    app = FastAPI(
        title="bertq",
        description=_DESCRIPTION,
        version=bertq.__version__,
        lifespan=lifespan,
        redoc_url=None,
    )
    for module in (openai, listing, bert_as_service, probes):
        app.include_router(module.router)
    app.add_exception_handler(Refused, errors.on_refused)
    app.add_exception_handler(BertqError, errors.on_refused)
    app.add_exception_handler(RequestValidationError, errors.on_invalid)
    app.add_exception_handler(HTTPException, errors.on_http)
    app.add_exception_handler(ClientDisconnected, errors.on_disconnected)
    app.add_middleware(
        RequestGuard,
        keys=config.api_keys,
        max_body_bytes=config.max_body_bytes,
        max_requests=config.max_requests,
        metrics=metrics,
    )
    if config.cors:
        # Outside of the guard: the preflight request of a browser has no API key.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(config.cors),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
        )
    return app
