"""The stand-in for NVIDIA's library, built where a loader finds it; NVML_STUB says how it behaves."""

import shutil
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).parents[1] / "stubs/nvml.c"


def build_library(folder: Path) -> Path:
    """Build it; gives the folder for LD_LIBRARY_PATH."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "llama.cpp needs a compiler too"
    library = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, _SOURCE], check=True)
    return folder
