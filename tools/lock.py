"""Write requirements.lock: every dependency of every extra, for all platforms, pinned and with its hashes.

The lock names no index, so anyone's mirror will do. torch's CPU build shares its version with the CUDA build
but not its files: where pip can see a CPU build, its hash joins the list and either one installs. Extra
arguments go to uv (``--upgrade`` to move to newer versions).
"""

import json
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
TORCH = re.compile(r"^torch==(\S+)((?:\s*\\\s+--hash=sha256:\w+)+)", re.MULTILINE)


def compile_lock(arguments: list[str]) -> None:
    uv = Path(sysconfig.get_path("scripts"), "uv")
    command = [str(uv), "pip", "compile", "pyproject.toml", "--output-file", LOCK.name, "--quiet"]
    command += ["--all-extras", "--universal", "--generate-hashes", "--no-annotate"]
    command += ["--no-emit-index-url", "--no-emit-find-links", "--custom-compile-command", "make lock"]
    subprocess.run([*command, *arguments], cwd=ROOT, check=True)


def torch_hashes(text: str) -> tuple[str, set[str]]:
    found = TORCH.search(text)
    return (found[1], set(re.findall(r"sha256:\w+", found[2]))) if found else ("", set())


def cpu_build_hashes(version: str) -> set[str]:
    """The hash of the CPU wheel that pip would install here, if its configuration leads to one."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--report", "-", "--no-deps"]
    command += ["--ignore-installed", "--only-binary=:all:", f"torch=={version}+cpu"]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        return set()
    (torch,) = json.loads(result.stdout)["install"]
    return {f"sha256:{torch['download_info']['archive_info']['hashes']['sha256']}"}


def main() -> None:
    old_version, old_hashes = torch_hashes(LOCK.read_text() if LOCK.exists() else "")
    compile_lock(sys.argv[1:])
    text = LOCK.read_text()
    version, hashes = torch_hashes(text)
    if not version:
        sys.exit("uv's answer does not pin torch to one version for all platforms; see requirements.lock.")
    hashes |= cpu_build_hashes(version)
    if version == old_version:  # a machine that sees no CPU build must not drop its hash
        hashes |= old_hashes
    lines = [f"torch=={version}", *(f"    --hash={digest}" for digest in sorted(hashes))]
    LOCK.write_text(TORCH.sub(lambda _: " \\\n".join(lines), text))


if __name__ == "__main__":
    main()
