"""Runs the examples of Markdown pages as a reader would paste them: `python tests/pages.py README.md docs/lora.md`.

Each page gets an empty folder, beside links to what a checkout has, and an empty home. Its shell blocks run one after
the other; its Python blocks run as one script. Nothing but the standard library is needed, so any environment can be
tried: the one that a page asks for, above all. A block under the comment `<!-- not run: reason -->` is left out, and
the reason printed. `--keep docs/images` keeps the pictures of the page that lie under docs/images, such as
"visualization-film.png", from a file that the page wrote as "film.png".
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]*?) -->\s*)?^```(?P<language>\w+)\n(?P<code>.*?)^```", re.DOTALL | re.MULTILINE
)


def blocks(text, language):
    """(code, reason not to run it or None) of the blocks of a page in `language`."""
    return [(m["code"], m["reason"]) for m in _BLOCK.finditer(text) if m["language"] == language]


def pictures(page):
    """{name in docs/images: name that the page writes} of the pictures that a page shows and makes."""
    page = ROOT / page
    shown = re.findall(rf"\]\(images/({page.stem}-([\w-]+\.\w+))\)", page.read_text(encoding="utf-8"))
    return dict(shown)


def run_page(page, timeout=900, keep=None):
    """Runs the blocks of one page; returns the number of blocks run, or raises `subprocess.SubprocessError` at the
    first that fails. Pictures go to the folder `keep`, if that is given.
    """
    text = (ROOT / page).read_text(encoding="utf-8")
    done = 0
    with tempfile.TemporaryDirectory() as folder:
        home, work = Path(folder, "home"), Path(folder, "work")
        home.mkdir(), work.mkdir()
        for name in ("examples", "recipes", "legacy_tf", "tests"):
            (work / name).symlink_to(ROOT / name)
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        unset = {"KERAS_BACKEND", "KERAS_HOME", "PYTHONPATH"}
        environment = {**{k: v for k, v in os.environ.items() if k not in unset}, "HOME": str(home), "PATH": path}
        script = []
        for code, reason in blocks(text, "python"):
            script += [] if reason else [code]
        commands = [(["bash", "-euo", "pipefail", "-c", code], reason) for code, reason in blocks(text, "sh")]
        if script:
            commands = [([sys.executable, "-c", "\n".join(script)], None), *commands]
        for command, reason in commands:
            if reason:
                print(f"{page}: not run: {reason}", flush=True)
                continue
            started = time.perf_counter()
            result = subprocess.run(command, env=environment, cwd=work, capture_output=True, text=True, timeout=timeout)
            print(
                f"{page}: {command[-1].strip().splitlines()[0][:80]} … {time.perf_counter() - started:.0f} s",
                flush=True,
            )
            if result.returncode:
                print(command[-1], result.stdout[-4000:], result.stderr[-4000:], sep="\n")
                result.check_returncode()
            done += 1
        for name, written in pictures(page).items() if keep else ():
            shutil.copyfile(work / written, Path(keep, name))
    return done


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="+", help="paths from the top of the repository")
    parser.add_argument("--jobs", type=int, default=2, help="pages that run at the same time; default 2")
    parser.add_argument("--keep", type=Path, help="folder for the pictures that pages write and show")
    options = parser.parse_args()
    passed, failed = 0, []
    with ThreadPoolExecutor(options.jobs) as pool:
        runs = {page: pool.submit(run_page, page, keep=options.keep) for page in options.pages}
    for page, run in runs.items():
        try:
            passed += run.result()
        except subprocess.SubprocessError as error:
            failed.append(f"{page}: {error}"[:300])
    print("\n".join(failed))
    print(f"{passed} passed, {len(failed)} failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
