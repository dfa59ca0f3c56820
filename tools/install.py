"""Install requirements.lock and this project into the environment of the Python that runs this file.

Every file is checked against the lock's hashes. The lock covers two builds of torch: on Linux the default one
needs gigabytes of CUDA packages; the CPU build, which pip sees only where it was told to look, needs none. So
torch goes in first, as the CPU build if there is one, and the CUDA packages follow if torch asks for them.
"""

import re
import subprocess
import sys
import tempfile
from importlib.metadata import requires
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CUDA = re.compile(r"(nvidia|cuda|triton)\b")


def pip_install(*arguments: str, quiet: bool = False) -> bool:
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--no-deps", "--disable-pip-version-check"]
    return subprocess.run([*pip, *arguments], cwd=ROOT, capture_output=quiet).returncode == 0


def install_locked(requirements: list[str], quiet: bool = False) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder, "requirements.txt")
        wanted.write_text("\n".join(requirements))
        # Wheels only: building from source would fetch build tools that no hash covers.
        return pip_install("--require-hashes", "--only-binary=:all:", "-r", str(wanted), quiet=quiet)


def install() -> bool:
    # A requirement starts at the margin; its hashes are the indented lines below it.
    locked = re.findall(r"^\w.*(?:\n[ \t].*)*", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    torch = [block for block in locked if block.startswith("torch==")]
    torch_cpu = [re.sub(r"^torch==[\w.]+", r"\g<0>+cpu", block) for block in torch]
    rest = [block for block in locked if block not in torch]

    print("Installing torch (this can take minutes) ...", flush=True)
    if not (install_locked(torch_cpu, quiet=True) or install_locked(torch)):
        return False
    if not any(CUDA.match(requirement) for requirement in requires("torch") or []):
        rest = [block for block in rest if not CUDA.match(block)]
    print(f"Installing {len(rest)} more packages ...", flush=True)
    return install_locked(rest) and pip_install("--no-build-isolation", "--editable", ".")


if __name__ == "__main__":
    if not install():
        sys.exit("The installation failed; pip's message is above.")
