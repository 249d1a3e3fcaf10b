"""The services of the compose file in containers of runc, from images that buildah has built.

They share a network without a way out. Everything else is as Docker would have it: the image's file
system, user and variables, no capabilities, memory for ``/tmp``, volumes.
"""

import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.compose.services import Services

#: Keeps a network alive whose only interface, the loopback, is up.
NETWORK = """
import fcntl, signal, socket, struct
SIOCSIFFLAGS, IFF_UP_AND_RUNNING = 0x8914, 0x41
with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP_AND_RUNNING))
print("up", flush=True)
signal.pause()
"""
CLONE_NEWNET = 0x40000000
#: Sizes and options of these mounts are Docker's.
MOUNTS = [
    ("/proc", "proc", []),
    ("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
    ("/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
    ("/dev/shm", "tmpfs", ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ("/sys", "sysfs", ["nosuid", "noexec", "nodev", "ro"]),
]
TMPFS = ["nosuid", "noexec", "nodev", "mode=1777"]


def run(*command: str) -> str:
    """Run a command and return its output; fail with what it has printed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def image_config(image: str) -> dict[str, Any]:
    """Return the configuration of an image, as Docker has it."""
    config: dict[str, Any] = json.loads(run("buildah", "inspect", "--type", "image", image))
    return dict(config["Docker"]["config"])


class Containers(Services):
    """The services in containers."""

    def __init__(self, directory: Path, model: Path, images: Mapping[str, str]) -> None:
        """Make a network.

        Args:
            directory: for everything that is written.
            model: directory of the model.
            images: replacements for images of the compose file.
        """
        super().__init__(directory, model)
        self.images = {
            name: images.get(service["image"], service["image"])
            for name, service in self.services.items()
        }
        self._mounted: list[str] = []
        self._network = subprocess.Popen(
            ["unshare", "--net", sys.executable, "-c", NETWORK],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._network.stdout is not None
        assert self._network.stdout.readline() == b"up\n"
        self._thread = ThreadPoolExecutor(1, initializer=self._enter_network)
        (directory / "hosts").write_text("127.0.0.1 localhost redis\n")

    @property
    def _network_path(self) -> str:
        return f"/proc/{self._network.pid}/ns/net"

    def _enter_network(self) -> None:
        """Move this thread, and all that it starts, into the containers' network."""
        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = os.open(self._network_path, os.O_RDONLY)
        failed = libc.setns(descriptor, CLONE_NEWNET)
        os.close(descriptor)
        if failed:
            raise OSError(ctypes.get_errno(), "setns")

    def call(self, function: Callable[[], Any]) -> Any:
        return self._thread.submit(function).result()

    def environ(self, name: str) -> dict[str, str]:
        return dict(os.environ)

    def command(self, name: str) -> list[str]:
        bundle = self.directory / name
        if bundle.exists():
            shutil.rmtree(bundle)
        bundle.mkdir()
        (bundle / "config.json").write_text(json.dumps(self._specification(name)))
        return [*self._runc, "run", "--bundle", str(bundle), name]

    def command_inside(self, name: str, command: list[str]) -> list[str]:
        return [*self._runc, "exec", name, *command]

    @property
    def _runc(self) -> list[str]:
        return ["runc", "--root", str(self.directory / "runc")]

    def _mount(self, image: str) -> Path:
        """Return a file system of an image."""
        container = run("buildah", "from", "--pull-never", image).strip()
        self._mounted.append(container)
        return Path(run("buildah", "mount", container).strip())

    def _specification(self, name: str) -> dict[str, Any]:
        """Return the configuration of a container, as the OCI's runtime specification has it."""
        service, image = self.services[name], image_config(self.images[name])
        root = self._mount(self.images[name])
        assert service["cap_drop"] == ["ALL"]
        uid, gid = _ids(root, service.get("user") or image["User"])
        mounts = [
            {"destination": destination, "type": kind, "source": kind, "options": options}
            for destination, kind, options in MOUNTS
        ]
        mounts += [
            {"destination": path, "type": "tmpfs", "source": "tmpfs", "options": TMPFS}
            for path in service["tmpfs"]
        ]
        binds = [(self.directory / "hosts", "/etc/hosts", True)]
        for volume in service.get("volumes", ()):
            if isinstance(volume, dict):
                binds.append((Path(volume["source"]), volume["target"], volume["read_only"]))
            else:
                volume_name, _, target = volume.partition(":")
                source = self.directory / volume_name
                source.mkdir(exist_ok=True)
                owner = (root / target.lstrip("/")).stat()
                os.chown(source, owner.st_uid, owner.st_gid)  # as Docker does for a new volume
                binds.append((source, target, False))
        mounts += [
            {"destination": target, "type": "bind", "source": str(source),
             "options": ["bind", "ro" if read_only else "rw"]}
            for source, target, read_only in binds
        ]  # fmt: skip
        environ = [f"{key}={value}" for key, value in service["environment"].items()]
        return {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": uid, "gid": gid},
                "args": [*(image.get("Entrypoint") or ()), *service["command"]],
                "env": [*image["Env"], *environ],
                "cwd": image.get("WorkingDir") or "/",
                "capabilities": {},
                "noNewPrivileges": "no-new-privileges:true" in service["security_opt"],
            },
            "root": {"path": str(root), "readonly": service["read_only"]},
            "hostname": name,
            "mounts": mounts,
            "linux": {
                "namespaces": [
                    *({"type": kind} for kind in ("pid", "ipc", "uts", "mount")),
                    {"type": "network", "path": self._network_path},
                ],
            },
        }

    def status(self, name: str) -> dict[str, str]:
        """Return what Linux says about a service's first process (``/proc/PID/status``)."""
        lines = Path(f"/proc/{self._pid(name)}/status").read_text().splitlines()
        return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}

    def writable(self, name: str) -> set[str]:
        """Return where a service can write, apart from ``/dev`` and ``/proc``."""
        lines = Path(f"/proc/{self._pid(name)}/mounts").read_text().splitlines()
        mounts = [line.split()[1:4:2] for line in lines]
        return {
            path
            for path, options in mounts
            if "rw" in options.split(",") and not path.startswith(("/dev", "/proc"))
        }

    def command_line(self, name: str) -> str:
        """Return the command line of a service's first process."""
        return Path(f"/proc/{self._pid(name)}/cmdline").read_text().replace("\0", " ")

    def _pid(self, name: str) -> int:
        return int(json.loads(run(*self._runc, "state", name))["pid"])

    def end(self) -> None:
        for name in self.processes:
            subprocess.run([*self._runc, "delete", "--force", name], check=False)
        super().end()
        self._thread.shutdown()
        self._network.kill()
        self._network.communicate()
        if self._mounted:
            run("buildah", "rm", *self._mounted)


def _ids(root: Path, user: str) -> tuple[int, int]:
    """Return the user and group id of a user in a file system: a number, or a name."""
    for line in (root / "etc/passwd").read_text().splitlines():
        name, _, uid, gid, *_ = line.split(":")
        if user in (name, uid):
            return int(uid), int(gid)
    raise LookupError(user)
