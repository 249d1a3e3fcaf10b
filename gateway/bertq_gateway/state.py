"""State that the routes of one gateway share."""

from dataclasses import dataclass

from fastapi import Request

from bertq_gateway.config import Config
from bertq_gateway.errors import Refused
from bertq_gateway.metrics import GatewayMetrics
from bertq_gateway.models import Models


@dataclass(frozen=True)
class State:
    """The state of one application, from its start to its end."""

    config: Config
    models: Models
    metrics: GatewayMetrics

    @classmethod
    def of(cls, request: Request) -> "State":
        """Return the state of the application that receives a request."""
        state = request.app.state.gateway
        assert isinstance(state, cls)
        return state

    def check_batch(self, count: int, field: str) -> None:
        """Refuse a request with too many inputs.

        Raises:
            Refused: there are more than ``max_batch``.
        """
        if count > self.config.max_batch:
            raise Refused(
                413,
                f"{count} inputs: a request may have at most {self.config.max_batch}",
                "batch_too_large",
                field,
            )
