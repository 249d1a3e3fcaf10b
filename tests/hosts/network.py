"""Hosts on a network of their own, on one machine: Linux namespaces.

A host is a network and a host name. They belong to a process that does nothing else, and are gone
with it, and so is what joins them: nothing is named outside, nothing need be removed. The
machine's own network is not touched.

Needs ``unshare`` and ``nsenter`` (util-linux), ``ip`` (iproute2), and root or the right to make
user namespaces.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

_NETWORK = "10.213.7"

# Lives until its standard input is closed, as by the death of the test's process.
_BE_A_HOST = """
import socket, sys
socket.sethostname(sys.argv[1])
print("here", flush=True)
sys.stdin.read()
"""

# What ip says where the kernel has no bridges or veths, or gives us none.
_LACKING = ("not permitted", "not supported", "Unknown device type")


class Unavailable(Exception):
    """This machine lets nobody make namespaces, or not us; the text says why."""


class Host:
    """A host: commands can be run on it.

    Attributes:
        name: its host name.
        address: where others reach it; empty for the switch.
    """

    def __init__(self, name: str, beside: "Host | None" = None) -> None:
        """Make it; ``beside`` is a host by whose rights it is made."""
        self.name, self.address = name, ""
        # Who is not root can be it in a namespace of users, which all hosts share.
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
        # Both programs before it became this one by exec.
        return self._process.pid

    @property
    def enter(self) -> list[str]:
        """What comes before a command that shall run on this host; its process is the command's."""
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
        """End it. What still runs on it keeps its network until it ends."""
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

    def readdress(self, name: str, number: int) -> None:
        """Give a host another address in place of its own; ``number`` is the last of it."""
        host = self.hosts[name]
        host.ip(f"addr del {host.address}/24 dev eth0")
        self._address(host, number)

    def cut(self, name: str) -> None:
        """Cut a host off: what it sends, and what is sent to it, is lost without a word.

        As with a cable pulled at a switch further away: the host's own link stays up.
        """
        self._switch.ip(f"link set to-{name} nomaster")

    def join(self, name: str) -> None:
        """Put a host back that was cut off."""
        self._switch.ip(f"link set to-{name} master switch")

    def close(self) -> None:
        """End all hosts."""
        for host in (*self.hosts.values(), self._switch):
            host.close()
