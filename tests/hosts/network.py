"""Hosts on a network of their own, on one machine: Linux namespaces.

A host is a network namespace and a host name. They belong to a process that does nothing else. When
it ends, the kernel removes them and the links between them, so there is nothing to clean up. The
machine's own network is not changed.

Needs ``unshare`` and ``nsenter`` (util-linux), ``ip`` (iproute2), and root or the right to make
user namespaces.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

_NETWORK = "10.213.7"

# Runs until its standard input is closed, also by the end of the test process.
_BE_A_HOST = """
import socket, sys
socket.sethostname(sys.argv[1])
print("here", flush=True)
sys.stdin.read()
"""

# Errors of ip where the kernel has no bridges or veths, or does not permit them.
_LACKING = ("not permitted", "not supported", "Unknown device type")


class Unavailable(Exception):
    """This machine does not permit namespaces; the message says why."""


class Host:
    """A host: commands can be run on it.

    Attributes:
        name: its host name.
        address: where others reach it; empty for the switch.
    """

    def __init__(self, name: str, beside: "Host | None" = None) -> None:
        """Make it, with the rights of the host ``beside`` if there is one."""
        self.name, self.address = name, ""
        # Other users are root in a user namespace, which all hosts share.
        user = [] if os.geteuid() == 0 else ["--user"]
        self._user = [*user, "--preserve-credentials"] if user else []
        command = ["unshare", "--net", "--uts"]
        if beside is None:
            command += [*user, "--map-root-user"] if user else []
        elif user:
            command = ["nsenter", "--target", str(beside._pid), *self._user, *command]
        self._process = subprocess.Popen(
            [*command, sys.executable, "-S", "-c", _BE_A_HOST, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            _, errors = self._process.communicate()
            raise Unavailable(errors.strip().splitlines()[-1])

    @property
    def _pid(self) -> int:
        # unshare and nsenter replaced themselves with this program by exec.
        return self._process.pid

    @property
    def enter(self) -> list[str]:
        """The start of a command line that runs a command on this host, under the same pid."""
        return ["nsenter", "--target", str(self._pid), *self._user, "--net", "--uts"]

    def ip(self, line: str) -> None:
        """Run ``ip`` on it."""
        done = subprocess.run(
            [*self.enter, "ip", *line.split()], capture_output=True, text=True, timeout=10
        )
        if done.returncode:
            lacking = any(reason in done.stderr for reason in _LACKING)
            raise (Unavailable if lacking else RuntimeError)(f"ip {line}: {done.stderr.strip()}")

    def rename(self, name: str) -> None:
        """Give it another host name."""
        script = f"import socket; socket.sethostname({name!r})"
        subprocess.run([*self.enter, sys.executable, "-S", "-c", script], check=True, timeout=10)

    def close(self) -> None:
        """End it. Processes on it keep its network until they end."""
        self._process.communicate()


class Network:
    """Hosts at a switch, from which each can be cut off.

    Attributes:
        hosts: by name.
    """

    def __init__(self, names: Sequence[str]) -> None:
        """Make hosts of these names.

        Raises:
            Unavailable: it cannot be done here.
        """
        for tool in ("unshare", "nsenter", "ip"):
            if shutil.which(tool) is None:
                raise Unavailable(f"there is no {tool}")
        self.hosts: dict[str, Host] = {}
        self._switch = Host("switch")
        try:
            self._switch.ip("link add switch type bridge")
            self._switch.ip("link set switch up")
            for number, name in enumerate(names, 1):
                self._add(number, name)
        except BaseException:
            self.close()
            raise

    def _add(self, number: int, name: str) -> None:
        host = self.hosts[name] = Host(name, self._switch)
        self._switch.ip(f"link add to-{name} type veth peer name eth0 netns {host._pid}")
        self._switch.ip(f"link set to-{name} master switch up")
        host.ip("link set lo up")
        host.ip("link set eth0 up")
        self._address(host, number)

    def _address(self, host: Host, number: int) -> None:
        host.address = f"{_NETWORK}.{number}"
        host.ip(f"addr add {host.address}/24 dev eth0")

    def change_address(self, name: str, number: int) -> None:
        """Replace the address of a host; ``number`` is the last part of the new one."""
        host = self.hosts[name]
        host.ip(f"addr del {host.address}/24 dev eth0")
        self._address(host, number)

    def cut(self, name: str) -> None:
        """Cut a host off: packets from it and to it are lost, and no error is reported.

        This is like a cable pulled at a distant switch: the host's own link stays up.
        """
        self._switch.ip(f"link set to-{name} nomaster")

    def join(self, name: str) -> None:
        """Put a host back that was cut off."""
        self._switch.ip(f"link set to-{name} master switch")

    def close(self) -> None:
        """End all hosts."""
        for host in (*self.hosts.values(), self._switch):
            host.close()
