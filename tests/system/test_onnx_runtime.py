import os
import subprocess
import sys
from pathlib import Path


def test_nothing_is_left_in_the_home_folder_or_the_temporary_one(tmp_path: Path) -> None:
    """Of ONNX Runtime's telemetry, which would begin as it is imported."""
    for name in ("home", "tmp"):
        (tmp_path / name).mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp")}
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "home" / ".cache")}
    code = "import bnncc.ir.evaluate, sys; assert 'onnxruntime' in sys.modules"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert left == []
