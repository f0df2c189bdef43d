"""What came from the web, in a folder: pictures by the hash of their address, and a note for each that did not come.

    cache/pictures/3f/3f29…            the bytes, as the server sent them
    cache/failed/3f/3f29….json         {"url": …, "error": …}

Notes make a training exact: a sample that once failed fails in every later epoch and in a resumed run, even if its
server is back, so that the same other one stands in for it. To try again, delete the folder `failed`.

When the folder is full nothing is deleted: every epoch visits every picture once, so that of two pictures the older one
is needed first, and a cache that throws away the oldest would always have just lost what comes next.
"""

import hashlib
import json
import os
import tempfile
import warnings
from pathlib import Path

from keras_diffusion.runtime.files import read_json, write_errors


class WebCache:
    """Files by address.

    Args:
        path: the folder; made when the first file is written.
        most_bytes: no further pictures are kept beyond this total.
    """

    def __init__(self, path, most_bytes):
        self.path, self.most_bytes = Path(path).expanduser(), most_bytes
        self._size = None  # of all pictures; counted before the first is written

    def read(self, url):
        """The bytes of a picture that was kept, or None."""
        try:
            return self._place("pictures", url).read_bytes()
        except FileNotFoundError:
            return None

    def has(self, url):
        """Whether a picture was kept, or a failure noted."""
        return self._place("pictures", url).exists() or self._note(url).exists()

    def write(self, url, data):
        """Keeps a picture, unless the folder is full."""
        if self._size is None:
            self._size = sum(file.stat().st_size for file in self.path.glob("pictures/*/*") if file.is_file())
        if self._size + len(data) > self.most_bytes:
            if self._size <= self.most_bytes:
                self._size = self.most_bytes + 1
                warnings.warn(
                    f"{str(self.path)!r} is full, with {self.most_bytes:,} bytes of pictures: further ones are fetched "
                    "in each epoch. Raise cache_bytes.",
                    stacklevel=2,
                )
            return
        _write(self._place("pictures", url), data)
        self._size += len(data)

    def failure(self, url):
        """Why a picture did not come, a str, if that was noted, or None."""
        try:
            return str(read_json(self._note(url)).get("error", "unknown"))
        except FileNotFoundError:
            return None

    def note_failure(self, url, error):
        """Notes why a picture did not come."""
        _write(self._note(url), json.dumps({"url": url, "error": error}).encode())

    def forget_failure(self, url):
        """Deletes such a note."""
        self._note(url).unlink(missing_ok=True)

    def _note(self, url):
        return self._place("failed", url).with_suffix(".json")

    def _place(self, kind, url):
        name = hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()
        return self.path / kind / name[:2] / name


def _write(path, data):
    """Writes a file whole or not at all, also where several threads fetch one address at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".tmp-{os.getpid()}-", dir=path.parent)
    try:
        with write_errors(path), open(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
