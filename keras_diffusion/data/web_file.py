"""Gets one file from the web, within limits of time and size.

Only http and https are followed, through redirects too: a list of addresses must not make a program read its own
machine's files. What the standard library leaves open is closed here: one deadline for all that a server sends, its
headers too, and not only for each part; the bodies of redirects are not read; a file that ends early is an error.
"""

import contextlib
import functools
import http.client
import re
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

from keras_diffusion.configs.checks import clip, shown
from keras_diffusion.version import __version__

_PART = 1 << 16
_LONGEST_WAIT = 30.0  # seconds, whatever a server asks for
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})  # states of a server that may pass
_OPT_OUT = frozenset({"noai", "noimageai"})


class NotFetched(ValueError):
    """A file that could not be had.

    Attributes:
        again: whether another try may succeed.
        answered: whether a server said anything.
        wait: seconds that the server asks to wait, a float.
    """

    def __init__(self, reason, again=False, answered=True, wait=0.0):
        super().__init__(reason)
        self.again, self.answered, self.wait = again, answered, wait


def fetch(url, timeout=20.0, retries=2, backoff=0.5, most_bytes=1 << 25, user_agent=None):
    """The bytes of a file on the web.

    Args:
        url: its address, http or https.
        timeout: seconds of one try, from the request to the last byte.
        retries: how often it is tried again after a failure that may pass: no answer, a file cut short, a busy server.
        backoff: seconds before the second try, doubled for each further one; longer if the server asks for it.
        most_bytes: a larger file is refused.
        user_agent: what the server is told about who asks. Default: the library and its version.

    Returns:
        bytes.

    Raises:
        NotFetched: a ValueError that says why.

    Example:

    >>> fetch("file:///etc/passwd")
    Traceback (most recent call last):
    NotFetched: only http and https are fetched, not 'file:///etc/passwd'
    """
    for tried in range(retries + 1):
        try:
            return _fetch_once(url, timeout, most_bytes, user_agent)
        except NotFetched as error:
            if not error.again or tried == retries:
                raise
            time.sleep(max(backoff * 2**tried, error.wait))
    raise AssertionError("unreachable")


def _fetch_once(url, timeout, most_bytes, user_agent):
    try:
        headers = {"User-Agent": user_agent or f"keras-diffusion/{__version__}", "Accept-Encoding": "identity"}
        request = urllib.request.Request(_checked(url), headers=headers)
        with _deadline(timeout) as passed, _opener().open(request, timeout=timeout) as response:
            return _body(response, passed, most_bytes)
    except urllib.error.HTTPError as error:
        error.close()
        reason = (str(error.reason) or "an error").splitlines()[0]
        raise NotFetched(
            f"the server answers {error.code} {clip(reason, 100)}", error.code in _AGAIN, wait=_wait(error.headers)
        ) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, NotFetched):
            raise
        raise _not_fetched(getattr(error, "reason", error)) from None


def _not_fetched(cause):
    """What the libraries raise as a `NotFetched`."""
    reason = clip(f"{type(cause).__name__}: {cause}", 200)
    if isinstance(cause, ValueError):  # also InvalidURL, which is an HTTPException
        return NotFetched(f"no address: {reason}")
    broken = isinstance(cause, http.client.HTTPException) and not isinstance(cause, http.client.RemoteDisconnected)
    return NotFetched(f"a broken answer: {reason}" if broken else f"no answer: {reason}", again=True, answered=broken)


def _body(response, passed, most_bytes):
    tags = set(re.split(r"[\s,:]+", " ".join(response.headers.get_all("X-Robots-Tag", [])).lower()))
    if _OPT_OUT & tags:
        raise NotFetched("the server asks not to train models on it (X-Robots-Tag)")
    announced = response.headers.get("Content-Length", "")
    length = int(announced) if re.fullmatch(r"\d{1,15}", announced) else None
    parts, size = [], 0
    while length is None or length <= most_bytes:
        part = response.read1(_PART)  # `read` with a size would not notice that the file is cut short
        if not part:
            break
        parts.append(part)
        size += len(part)
        if size > most_bytes:
            break
    if passed.is_set():
        raise NotFetched(f"too slow: {size:,} bytes in the time for all", again=True)
    if max(size, length or 0) > most_bytes:
        raise NotFetched(f"larger than {most_bytes:,} bytes")
    if length is not None and size < length:
        raise NotFetched(f"cut short: {size:,} of {length:,} bytes", again=True)
    return b"".join(parts)


def _checked(url):
    """An address with http or https, its other characters as ASCII."""
    if urllib.parse.urlsplit(url).scheme.lower() not in ("http", "https"):
        raise NotFetched(f"only http and https are fetched, not {shown(url)}")
    return urllib.parse.quote(url, safe="%/:=&?~#+!$,;'@()*[]")


def _wait(headers):
    """The seconds of Retry-After, within reason."""
    asked = (headers and headers.get("Retry-After")) or ""
    return min(float(asked), _LONGEST_WAIT) if re.fullmatch(r"\d{1,6}", asked) else 0.0


_connected = threading.local()


@contextlib.contextmanager
def _deadline(seconds):
    """Ends the connections that this thread opens in the block after so many seconds; yields an event that says so."""
    passed, _connected.sockets = threading.Event(), []
    sockets = _connected.sockets

    def end():
        passed.set()
        for each in sockets:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(each, socket.SHUT_RDWR)  # not SSLSocket's own, which is for its reader alone

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield passed
    except (OSError, http.client.HTTPException):
        if passed.is_set():  # it is what this has done to the connection
            raise NotFetched(f"too slow: no answer within {seconds:g} seconds", again=True, answered=False) from None
        raise
    finally:
        timer.cancel()


class _Connection(http.client.HTTPConnection):
    def connect(self):
        super().connect()
        _connected.sockets.append(self.sock)


class _SecureConnection(http.client.HTTPSConnection):
    def connect(self):
        super().connect()
        _connected.sockets.append(self.sock)


class _Http(urllib.request.HTTPHandler):
    def http_open(self, request):
        return self.do_open(_Connection, request)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, request):
        return self.do_open(_SecureConnection, request)


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, request, response, code, message, headers, url):
        response.close()  # its body, of any length, would be read first
        return super().redirect_request(request, response, code, message, headers, _checked(url))


@functools.cache
def _opener():
    """Handlers of http and https alone; the library's own also open files, data: and ftp."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _Http(),
        _Https(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener
