"""Pictures of a list of web addresses, fetched when they are needed and kept in a folder.

    pictures.jsonl     {"url": "https://example.org/1.jpg", "text": "a red apple"}
    pictures.csv       url,text

A picture that does not come (no such page, too slow, too large, no picture at all) is a sample that cannot be read: it
ends the training with its address, or is left out and listed (`on_error="skip"`). It never becomes a black picture.

Sample i is row i, so that orders, held-out parts and resumption are those of a folder. Which pictures came is the
servers' doing; once known it is noted in the folder (web_cache.py), and does not change any more.
"""

import io
import os
from multiprocessing.pool import ThreadPool
from pathlib import Path

from keras_diffusion.configs.checks import (
    check_choice,
    check_flag,
    check_number,
    check_path,
    check_text,
    check_whole,
    clip,
    shown,
)
from keras_diffusion.data.captions import table_rows, texts_of_record
from keras_diffusion.data.image_file import MODES, colour_of, read_image, read_size
from keras_diffusion.data.sources import Source
from keras_diffusion.data.web_cache import WebCache
from keras_diffusion.data.web_file import NotFetched, fetch

SUFFIXES = (".jsonl", ".csv")
_URL_KEYS = ("url", "image_url")
_HELD = 4096  # pictures that were asked for ahead and not yet taken
_OUT_OF_REACH = 32  # addresses in a row without any answer, after which the network is taken to be down


class UrlList(Source):
    """Pictures on the web, with captions.

    Args:
        rows: path of a .jsonl or .csv file with "url" and perhaps "text" in each row; or a list of addresses, of pairs
            (address, caption) or of such dicts. A caption may be a list of several.
        cache: folder that keeps what was fetched, and what could not be.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA); every picture is converted.
        background: colour behind transparent pixels, as for `ImageFolder`.
        connections: number of pictures that are fetched at once, int ≥ 1.
        timeout, retries, backoff, most_bytes, user_agent: see `web_file.fetch`: 20 seconds for one try, two retries
            after 0.5 and 1 seconds, 32 MiB.
        cache_bytes: total of the pictures that are kept; others are fetched in each epoch.
        note_failures: whether a failure is noted for good, which keeps later epochs and resumed runs exact. `data.load`
            does so with `on_error="skip"`.

    Returns (of indexing):
        {"images": uint8 `(H, W, channels)`}; captions are given by `texts`.

    Raises:
        ValueError: a row without address, wrong options; when reading, `ValueError` for a picture that does not come,
            and RuntimeError when no server has answered for 32 addresses in a row.

    Example:

    >>> rows = [("https://example.org/1.jpg", "a red apple"), ("https://example.org/2.jpg", "a pear")]
    >>> kd.data.UrlList(rows, cache="fetched").texts([1])
    [('a pear',)]

    Reference: R. Beaumont, img2dataset, https://github.com/rom1504/img2dataset (rules for servers; the code is ours).
    """

    def __init__(
        self,
        rows,
        cache,
        channels=3,
        background="white",
        connections=16,
        timeout=20.0,
        retries=2,
        backoff=0.5,
        most_bytes=1 << 25,
        cache_bytes=50 << 30,
        user_agent=None,
        note_failures=True,
    ):
        self.channels = check_choice(
            "channels", channels, tuple(MODES), "channels must be 1 (grey), 3 (RGB) or 4 (RGBA)"
        )
        self.background = colour_of(background)
        self.connections = check_whole("connections", connections, 1, 256)
        self.note_failures = check_flag("note_failures", note_failures)
        self._options = {
            "timeout": check_number("timeout", timeout, above=0, most=3600),
            "retries": check_whole("retries", retries, 0, 20),
            "backoff": check_number("backoff", backoff, least=0, most=60),
            "most_bytes": check_whole("most_bytes", most_bytes, 1),
            "user_agent": check_text("user_agent", user_agent, optional=True),
        }
        self.keys, self._texts = _read_rows(rows)
        if cache is None:
            raise ValueError(
                "Pictures of web addresses are kept in a folder, so that each is fetched once. Received: cache=None. "
                "Name a folder, as in cache='fetched'."
            )
        self.cache = WebCache(check_path("cache", cache), int(check_number("cache_bytes", cache_bytes, least=0)))
        self._pool = (None, None)  # (process, its threads)
        self._started, self._unanswered = {}, []

    def __len__(self):
        return len(self.keys)

    def __getitem__(self, index):
        url = self.keys[index]
        return {"images": read_image(self._encoded(url), self.channels, self.background, name=url)}

    def size_of(self, index):
        return read_size(io.BytesIO(self._encoded(self.keys[index])), self.keys[index])

    @property
    def captions(self):
        """For each picture its caption, or a tuple of several, "" for none; None if no picture has one."""
        if self._texts is None:
            return None
        return [texts[0] if len(texts) == 1 else texts for texts in self._texts]

    def texts(self, indices):
        return None if self._texts is None else [self._texts[int(i)] for i in indices]

    def prefetch(self, indices):
        for index in indices:
            url = self.keys[int(index)]
            if url not in self._started and not self.cache.has(url):
                self._started[url] = self._threads().apply_async(self._bytes, (url,))
        while len(self._started) > _HELD:  # of batches that an error has ended
            self._started.pop(next(iter(self._started)), None)

    def __getstate__(self):
        return {**vars(self), "_pool": (None, None), "_started": {}}

    def _threads(self):
        """Threads of this process: a forked one has none of its parent's."""
        if self._pool[0] != os.getpid():
            self._pool, self._started = (os.getpid(), ThreadPool(self.connections)), {}
        return self._pool[1]

    def _encoded(self, url):
        """A picture's file, perhaps already on its way."""
        started = self._started.pop(url, None)
        return self._bytes(url) if started is None else started.get()

    def _bytes(self, url):
        """A picture's file, out of the folder or from the web."""
        data = self.cache.read(url)
        if data is not None:
            return data
        noted = self.cache.failure(url) if self.note_failures else None
        if noted is not None:
            raise ValueError(f"Cannot fetch {url}: {noted} (noted in {str(self.cache.path / 'failed')!r})")
        try:
            data = self._fetch(url)
        except NotFetched as error:
            self._failed(url, error)
            raise ValueError(f"Cannot fetch {url}: {error}. Take it off the list, or pass on_error='skip'.") from None
        self._unanswered = []
        self.cache.write(url, data)
        return data

    def _fetch(self, url):
        data = fetch(url, **self._options)
        try:
            read_image(data, self.channels, self.background)
        except ValueError as error:
            reason = clip(str(error.__cause__), 200)
            raise NotFetched(f"what comes cannot be read as a picture: {reason}") from None
        return data

    def _failed(self, url, error):
        if error.answered:
            self._unanswered = []
        else:
            self._unanswered.append(url)
        if self.note_failures:
            self.cache.note_failure(url, str(error))
        if len(self._unanswered) >= _OUT_OF_REACH:
            for each in self._unanswered:
                self.cache.forget_failure(each)
            raise RuntimeError(
                f"No server has answered for {len(self._unanswered)} addresses in a row, the last {url}: {error}. Is "
                "the network down? They are tried again next time."
            )


def is_url_list(source):
    """Whether a source is a list of addresses: a .jsonl or .csv file, or a list that begins with one."""
    if isinstance(source, str | Path):
        return Path(source).suffix.lower() in SUFFIXES
    if not isinstance(source, list | tuple) or not source:
        return False
    first = source[0]
    if isinstance(first, dict):
        return any(key in first for key in _URL_KEYS)
    first = first[0] if isinstance(first, tuple | list) and first else first
    return isinstance(first, str) and first.lower().startswith(("http://", "https://"))


def _read_rows(rows):
    """Addresses, a list of str, and captions, a list of tuples, or None if there are none."""
    if isinstance(rows, str | Path):
        path = Path(rows).expanduser()
        if not path.is_file():
            raise ValueError(f"A list of addresses is a .jsonl or .csv file. Received: {str(rows)!r}, which is no file")
        found = [_read_row(row, f"line {number} of {path}") for number, row in table_rows(path)]
    else:
        found = [_read_row(row, f"row {number}") for number, row in enumerate(rows)]
    if not found:
        raise ValueError(f"A list of addresses needs at least one. Received: none in {shown(rows)}")
    urls, texts = zip(*found)
    return list(urls), [several or ("",) for several in texts] if any(texts) else None


def _read_row(row, what):
    """(address, captions or None) of one row."""
    if isinstance(row, str):
        row = {"url": row}
    elif isinstance(row, tuple | list) and len(row) == 2:
        row = {"url": row[0], "text": row[1]}
    named = {str(key).lower(): value for key, value in row.items()} if isinstance(row, dict) else {}
    url = next((named[key] for key in _URL_KEYS if named.get(key)), None)
    if not isinstance(url, str):
        raise ValueError(
            "A row of a list of addresses has “url” and perhaps “text”; in Python it may also be an address, or a pair "
            f"(address, caption). Received: {shown(row)} in {what}"
        )
    return url.strip(), texts_of_record(named, what)
