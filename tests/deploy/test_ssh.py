"""`bnncc deploy user@host` against an OpenSSH server on loopback, which this file starts; the host is this machine."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from bnncc.bundle import write_bundle
from bnncc.bundle.manifest import MANIFEST, write_manifest
from bnncc.runtime import library_path
from bnncc.targets import find_target
from tests.bundle import example
from tests.needs import debian, need, need_zig

# Debian's sshd is not in the path of users, and wants to be called by its whole path.
SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
SFTP = Path("/usr/lib/openssh/sftp-server")
SERVER = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
PidFile {folder}/sshd.pid
AuthorizedKeysFile {folder}/user_key.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp {sftp}
ForceCommand {folder}/session
"""
# What the server runs for every connection: the home directory is one of this test.
SESSION = """\
#!/bin/sh
cd {folder}/home && exec sh -c "$SSH_ORIGINAL_COMMAND"
"""
CLIENT = """\
UserKnownHostsFile {folder}/known_hosts
IdentitiesOnly yes
"""


@dataclass(frozen=True)
class Server:
    """A running sshd; environment: its client finds the server's key and nothing of the user's."""

    folder: Path
    port: int
    environment: dict[str, str]

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def deploy(self, *arguments: object, address: str = "") -> subprocess.CompletedProcess[str]:
        address = address or f"{getpass.getuser()}@127.0.0.1"
        start = "from bnncc.cli import main; main()"
        command = [sys.executable, "-c", start, "deploy", address, *map(str, arguments)]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    need(SSHD and SFTP.is_file(), debian("sshd", "openssh-server"))
    need(shutil.which("scp"), debian("scp", "openssh-client"))
    assert SSHD is not None
    folder = tmp_path_factory.mktemp("sshd")
    (folder / "home").mkdir()
    for key in ("host_key", "user_key", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "sshd_config").write_text(SERVER.format(folder=folder, port=port, sftp=SFTP))
    (folder / "session").write_text(SESSION.format(folder=folder))
    (folder / "session").chmod(0o755)
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'host_key.pub').read_text()}")
    (folder / "ssh_config").write_text(CLIENT.format(folder=folder))
    tools = folder / "tools"
    tools.mkdir()
    for name in ("ssh", "scp"):
        (tools / name).write_text(f'#!/bin/sh\nexec {shutil.which(name)} -F {folder}/ssh_config "$@"\n')
        (tools / name).chmod(0o755)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd of root separates its privileges
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=subprocess.DEVNULL)
    try:
        _wait_for(port, process)
        path = f"{tools}:{os.environ['PATH']}"
        yield Server(folder, port, {**os.environ, "PATH": path, "PYTHONPATH": ":".join(filter(None, sys.path))})
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(100):
        assert process.poll() is None, "sshd did not start"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("sshd does not listen")


def renew_manifest(folder: Path) -> None:
    """The digests of the files that are there now."""
    write_manifest(folder, json.loads((folder / MANIFEST).read_text()))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for a Raspberry Pi, with this machine's delegate in it, as the host of the test is this machine."""
    need_zig()
    folder = tmp_path_factory.mktemp("bundle") / "fashion net"
    write_bundle(example.model(), find_target("raspberry-pi-4"), folder, data=str(example.IMAGES))
    shutil.copyfile(library_path(), folder / "libbnncc_runtime.so")
    renew_manifest(folder)
    return folder


def test_the_host_s_own_figures_are_printed(server: Server, bundle: Path) -> None:
    options = ("--port", server.port, "--identity", server.folder / "user_key", "--python", sys.executable)
    done = server.deploy(bundle, *options, "--threads", 1)
    assert done.returncode == 0, done.stderr
    assert "same class        64 of 64 images" in done.stdout
    assert "check             passed" in done.stdout
    assert "median of 50 runs" in done.stdout
    remote = server.home / "bnncc" / "fashion-net"
    for path in bundle.iterdir():
        assert (remote / path.name).read_bytes() == path.read_bytes()
    again = server.deploy(bundle, *options)  # over the files that are there
    assert again.returncode == 0, again.stderr


def test_other_outputs_on_the_host_exit_with_1(server: Server, bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "wrong"
    shutil.copytree(bundle, folder)
    arrays = dict(np.load(folder / "check.npz"))
    arrays["outputs"] = -arrays["outputs"]
    np.savez(folder / "check.npz", **arrays)
    renew_manifest(folder)
    options = ("--port", server.port, "--identity", server.folder / "user_key", "--python", sys.executable)
    done = server.deploy(folder, *options)
    assert done.returncode == 1
    assert "check             FAILED" in done.stdout
    assert "something else on the device" in done.stderr


def test_a_host_without_the_packages_says_how_to_install_them(server: Server, bundle: Path) -> None:
    python = server.folder / "bare python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    options = ("--port", server.port, "--identity", server.folder / "user_key", "--python", python)
    done = server.deploy(bundle, *options)
    assert done.returncode == 2
    assert "pip install -r requirements.txt numpy pillow" in done.stderr


def test_an_unknown_key_is_refused_without_asking_for_a_password(server: Server, bundle: Path) -> None:
    done = server.deploy(bundle, "--port", server.port, "--identity", server.folder / "stranger")
    assert done.returncode == 2
    assert "Permission denied" in done.stderr
    assert "failed with status 255" in done.stderr


def test_an_address_is_no_option_of_ssh(server: Server, bundle: Path) -> None:
    done = server.deploy(bundle, address="--")
    assert done.returncode == 2
    done = server.deploy("--", "-oProxyCommand=false", bundle, address="--port=22")
    assert done.returncode == 2
    assert "write user@host" in done.stderr


def test_names_that_ssh_or_a_shell_could_read_otherwise_stay_names(
    server: Server, bundle: Path, tmp_path: Path
) -> None:
    """A bundle in a folder, from a folder and beside files with such names; each would leave the file `mark`."""
    mark = tmp_path / "mark"
    parent = tmp_path / f"-oProxyCommand=touch {mark};a"
    folder = parent / f"-x:b'$(touch {mark.name})`touch {mark.name}`"
    shutil.copytree(bundle, folder)
    for name in ("-oProxyCommand=touch mark", "host:file", ";touch mark", "$(touch mark)"):
        (folder / name).write_text("")
    options = ("--port", server.port, "--identity", server.folder / "user_key", "--python", sys.executable)
    start = "from bnncc.cli import main; main()"
    address = f"{getpass.getuser()}@127.0.0.1"
    command = [sys.executable, "-c", start, "deploy", *map(str, options), address, "."]
    done = subprocess.run(command, env=server.environment, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "4 of " in done.stderr
    (remote,) = [path for path in (server.home / "bnncc").iterdir() if "touch" in path.name]
    assert {path.name for path in remote.iterdir()} == {path.name for path in bundle.iterdir()}
    assert not list(tmp_path.rglob("mark"))
    assert not list(server.home.rglob("mark"))
