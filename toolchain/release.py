"""Build what a release consists of, into dist/: sdist, wheel, SBOM, the container image where it can be built, sums.

    release.py [--no-image] [DIRECTORY]

The image needs buildah or docker; where there is neither that is said, and the rest is made all the same.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from sbom import SbomError, version, write_sbom

ROOT = Path(__file__).resolve().parent.parent
BUILD_LOCK = ROOT / "toolchain" / "build.lock"
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"
SUMS = "SHA256SUMS"


class ReleaseError(Exception):
    """A part of the release can't be made; the text says why."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-image", action="store_true", help="leave the container image out")
    parser.add_argument("directory", nargs="?", type=Path, default=ROOT / "dist")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(dir=ROOT) as scratch:
            made = build(Path(scratch), image=not options.no_image)
            publish(made, options.directory)
    except (ReleaseError, SbomError, OSError) as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    for path in sorted(options.directory.iterdir()):
        print(path)
    return 0


def build(folder: Path, *, image: bool) -> list[Path]:
    """Make all parts in `folder`."""
    command = ["uv", "build", "--quiet", "--out-dir", str(folder), "--no-create-gitignore"]
    run([*command, "--build-constraints", str(BUILD_LOCK), "--require-hashes", str(ROOT)])
    write_sbom(folder)
    builder = next((name for name in ("buildah", "docker") if shutil.which(name)), None)
    if image and builder is None:
        print("release: WITHOUT the container image: there is neither buildah nor docker here", file=sys.stderr)
    elif image and builder is not None:
        build_image(builder, folder / f"loosh-miner-{version()}-image.tar")
    return sorted(folder.iterdir())


def build_image(builder: str, archive: Path) -> None:
    """Build the CPU image and write it as an archive that `docker load` and `podman load` take."""
    name = f"loosh-miner:{version()}"
    run([builder, "build", "--file", str(DOCKERFILE), "--tag", name, str(ROOT)])
    if builder == "docker":
        run(["docker", "save", "--output", str(archive), name])
    else:
        run(["buildah", "push", "--quiet", name, f"docker-archive:{archive}:{name}"])


def publish(made: list[Path], directory: Path) -> None:
    """Put the parts and their sums in place: sums last, so that they speak of nothing half made."""
    directory.mkdir(parents=True, exist_ok=True)
    for earlier in directory.glob("loosh?miner-*"):
        earlier.unlink()
    lines: list[str] = []
    for path in made:
        lines.append(f"{sha256(path)}  {path.name}\n")
        shutil.move(path, directory / path.name)
    (directory / SUMS).write_text("".join(lines), encoding="ascii")


def sha256(path: Path) -> str:
    """Give the file's sum."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def run(command: list[str]) -> None:
    """Run a command, its words going to whoever watches. Errors: `ReleaseError`."""
    done = subprocess.run(command, check=False, cwd=ROOT)
    if done.returncode:
        raise ReleaseError(f"{' '.join(command[:2])} ended with {done.returncode}")


if __name__ == "__main__":
    sys.exit(main())
