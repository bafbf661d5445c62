"""A wheel named vllm whose `vllm serve` runs the engine stub, as strict about its start as the real one is offline."""

import base64
import hashlib
import re
import shutil
import zipfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
VERSION: Final = "0.33.0"
_CLI: Final = '''
"""`vllm serve`: refuses what vLLM refuses, then answers as it does."""

import argparse
import os
import sys
from pathlib import Path

from vllm import engine


def main():
    parser = argparse.ArgumentParser(prog="vllm")
    serve = parser.add_subparsers(dest="verb", required=True).add_parser("serve")
    serve.add_argument("model")
    for flag in ("revision", "served-model-name", "host", "port", "max-model-len", "gpu-memory-utilization"):
        serve.add_argument("--" + flag, required=True)
    for flag in ("tensor-parallel-size", "max-num-seqs", "tool-call-parser", "generation-config", "chat-template"):
        serve.add_argument("--" + flag)
    for flag in ("enable-prefix-caching", "enable-auto-tool-choice"):
        serve.add_argument("--" + flag, action="store_true")
    given = parser.parse_args()
    if os.environ.get("HF_HUB_OFFLINE") != "1":
        sys.exit("would download")
    hub = Path(os.environ["HF_HOME"], "hub")
    folder = hub / ("models--" + given.model.replace("/", "--")) / "snapshots" / given.revision
    if not (folder / "config.json").is_file():
        sys.exit(f"OSError: {given.model}: not in the cache, and outgoing traffic is disabled ({folder})")
    for name in ("VLLM_CACHE_ROOT", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"):
        Path(os.environ[name]).mkdir(parents=True, exist_ok=True)
    sys.argv = ["vllm", "--forever", "--host", given.host, "--port", given.port, "--model", given.served_model_name]
    sys.argv += ["--max-model-len", given.max_model_len, "--refuse-sum"]
    engine.main()
'''


def wheelhouse(folder: Path, wheels: Path) -> Path:
    """Put the wheel and what the engine stub needs into `folder/wheels`; gives the hashed lock beside it."""
    target = folder / "wheels"
    target.mkdir(parents=True)
    wheel = _wheel(target)
    lines = [f"vllm=={VERSION} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"]
    runtime = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    for name in ("msgspec", "uvloop"):
        shutil.copy(next(wheels.glob(f"{name}-*.whl")), target)
        found = re.search(rf"^{name}==(?:.*\\\n)*.*$", runtime, re.MULTILINE)
        assert found
        lines.append(found[0])
    lock = folder / "vllm.lock"
    lock.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return lock


def _wheel(folder: Path) -> Path:
    info = f"vllm-{VERSION}.dist-info"
    needs = "Requires-Dist: msgspec\nRequires-Dist: uvloop\n"
    files = {
        "vllm/__init__.py": "",
        "vllm/cli.py": _CLI,
        "vllm/engine.py": (ROOT / "tests" / "stubs" / "engine.py").read_text(encoding="utf-8"),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\nvllm = vllm.cli:main\n",
    }
    rows = [f"{name},sha256={_digest(text)},{len(text.encode())}" for name, text in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,"]) + "\n"
    path = folder / f"vllm-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(zipfile.ZipInfo(name), text)
    return path


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
