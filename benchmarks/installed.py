"""How much an installation of bnncc takes, and how soon a command answers: an earlier revision's, and HEAD's.

Each is installed by pip into an environment of its own, with what is newest of what its requirements allow, but for
PyTorch, whose version is that of its constraints.txt.  The size is that of all files that pip wrote, without byte code,
but for PyTorch and what that requires (CUDA's libraries on Linux, where the index has no other), which both have in
common.  `bnncc inspect` is run in turns; its CPU time, user's and system's, is the least.

    python benchmarks/installed.py REVISION [--runs N]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import io
import os
import re
import resource
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NETWORK = ROOT / "examples" / "fashion_mnist"
COMPILE = ("compile", f"{NETWORK}/net.py:make_net", "--weights", f"{NETWORK}/net.pth", "--input-shape", "1x1x28x28")
# PyTorch, and what it requires.
TORCH = re.compile(r"torch|triton|nvidia-.*|cuda-.*|sympy|mpmath|networkx|filelock|fsspec|setuptools")
PIP = re.compile(r"pip")


def install(tree: Path, folder: Path) -> Path:
    """Install bnncc from the sources in `tree` into an environment, `folder`; where its programs are."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    pip = [programs / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    constraints = (tree / "constraints.txt").read_text().splitlines()
    pins = folder / "constraints.txt"
    pins.write_text("\n".join(line for line in constraints if line.startswith("torch==")))
    subprocess.run([*pip, "--constraint", pins, tree], check=True)
    return programs


def installed_bytes(folder: Path) -> dict[str, int]:
    """The bytes of each distribution in the environment `folder`, the largest first, without PyTorch."""
    (packages,) = [*folder.glob("lib/python*/site-packages"), *folder.glob("Lib/site-packages")]
    sizes = {}
    for one in importlib.metadata.distributions(path=[str(packages)]):
        name = re.sub(r"[-_.]+", "-", one.name).lower()
        if not TORCH.fullmatch(name) and not PIP.fullmatch(name):
            paths = (Path(str(one.locate_file(file))) for file in one.files or ())
            sizes[name] = sum(path.stat().st_size for path in paths if path.is_file())
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def cpu_seconds(command: list[Path | str]) -> float:
    """The CPU time of a command that ends without an error."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=tempfile.gettempdir())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision")
    parser.add_argument("--runs", type=int, default=5, help="of `bnncc inspect`, each (5)")
    arguments = parser.parse_args()
    sides = (arguments.revision, "HEAD")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, side in enumerate(sides):
            archive = subprocess.run(["git", "archive", side], cwd=ROOT, capture_output=True, check=True).stdout
            with tarfile.open(fileobj=io.BytesIO(archive)) as content:
                content.extractall(folder / str(number), filter="data")
        programs = {
            side: install(folder / str(number), folder / f"environment-{number}") for number, side in enumerate(sides)
        }
        sizes = {side: installed_bytes(path.parent) for side, path in programs.items()}
        file = folder / "net.tflite"
        subprocess.run([programs["HEAD"] / "bnncc", *COMPILE, "--no-verify", "-o", file], check=True)
        seconds = dict.fromkeys(sides, float("inf"))
        for _ in range(arguments.runs):
            for side, path in programs.items():
                seconds[side] = min(seconds[side], cpu_seconds([path / "bnncc", "inspect", file]))
    for side in sides:
        total = sum(sizes[side].values())
        print(f"{side}: {total / 1e6:.1f} MB without PyTorch; bnncc inspect: {seconds[side]:.2f} s of CPU")
        print("   ", ", ".join(f"{one} {size / 1e6:.1f}" for one, size in list(sizes[side].items())[:8]))
    earlier, now = (sum(sizes[side].values()) for side in sides)
    print(f"size {now / earlier:.2f}, CPU time {seconds['HEAD'] / seconds[arguments.revision]:.2f} of it")


if __name__ == "__main__":
    main()
