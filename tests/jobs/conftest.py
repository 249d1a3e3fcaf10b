"""A stub worker and a client, as the tests of the client have them."""

from tests.client.conftest import client, stub

__all__ = ["client", "stub"]
