"""A client of bertq's HTTP gateway in one file, for Python 2.7 and 3.

It needs only the standard library, so that you can copy it into any project:

    from bertq_http import BertHTTP

    client = BertHTTP("http://127.0.0.1:8125")
    vectors = client.encode([u"first do it", u"then do it right"])  # two lists of floats

On the command line it reads a sentence from each line, and writes a JSON list of numbers to each:

    python bertq_http.py http://127.0.0.1:8125 < sentences.txt
"""

from __future__ import print_function

import argparse
import json
import os
import ssl
import sys
import time
import warnings
from contextlib import closing
from itertools import islice

try:
    from http.client import HTTPException
    from urllib import request as urllib2
    from urllib.error import HTTPError, URLError
    from urllib.parse import urlsplit
except ImportError:  # Python 2
    import urllib2  # type: ignore[import-not-found, no-redef]
    from httplib import HTTPException  # type: ignore[import-not-found, no-redef]
    from urllib2 import HTTPError, URLError  # type: ignore[no-redef]
    from urlparse import urlsplit  # type: ignore[import-not-found, no-redef]

try:
    from typing import Any, Iterable, Iterator, List, Optional, Tuple  # noqa: F401
except ImportError:  # Python 2
    pass

__all__ = ["BertHTTP", "BertHTTPError"]

#: The types of text and of bytes: unicode and str in Python 2, str and bytes in Python 3.
_Text = type(b"".decode("ascii"))

#: Bytes of JSON after which a request takes no more sentences; the gateway refuses 32 MiB.
_MAX_BODY_BYTES = 8 * 1024 * 1024

#: Statuses of a gateway that has no capacity or no worker at the moment.
_RETRIED = (429, 503)

#: Seconds until such a request is sent again: without a valid Retry-After, and at least.
_DEFAULT_RETRY_SECONDS, _MIN_RETRY_SECONDS = 2.0, 0.1


class BertHTTPError(Exception):
    """The gateway cannot be reached, or has refused a request.

    Attributes:
        status: the HTTP status, or None without a valid answer.
        code: the gateway's code of the error, such as model_not_found, or None.
    """

    def __init__(self, message, status=None, code=None):
        # type: (str, Optional[int], Optional[str]) -> None
        super(BertHTTPError, self).__init__(message)
        self.status = status
        self.code = code


class BertHTTP(object):
    """A client of the gateway at ``url``; it has no state and may be shared by threads.

    Args:
        url: the gateway's address, such as http://127.0.0.1:8125.
        api_key: a key that the gateway accepts, if it asks for keys.
        timeout: seconds that a request may wait for the gateway's answer, and seconds for which it
            is repeated while the gateway has no capacity. The gateway's own limit is 60 s: wait a
            little longer, so that its reason arrives.
        model: the model's name; needed if the service has several.
        batch_size: maximum sentences of a request. Longer lists become several requests.
        proxies: proxies by scheme, as ``urllib`` takes them; {} for none. By default those of the
            environment, but none for an address of this machine.
        ca_file: file of the certificates to trust, in PEM; by default those of the system.
        truncate: the end to cut from sentences with more tokens than the model reads, "right" or
            "left"; "error" refuses them. By default, what the gateway is set to.
    """

    def __init__(
        self,
        url="http://127.0.0.1:8125",
        api_key=None,
        timeout=65.0,
        model=None,
        batch_size=256,
        proxies=None,
        ca_file=None,
        truncate=None,
    ):
        # type: (str, Optional[str], float, Optional[str], int, Any, Optional[str], Any) -> None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("url is %r: it must be like http://127.0.0.1:8125" % (url,))
        if "@" in parts.netloc:
            raise ValueError("url must not contain a user or a password: give api_key")
        if batch_size < 1:
            raise ValueError("batch_size is %r: it must be at least 1" % (batch_size,))
        if proxies is None and _is_loopback(parts.hostname):
            proxies = {}
        self._url = str(url).rstrip("/")
        self._headers = {"Content-Type": "application/json", "User-Agent": "bertq_http"}
        if api_key:
            self._headers["Authorization"] = "Bearer " + str(api_key)
        self._timeout = timeout
        self._options = {"model": model, "truncate": truncate}
        self._batch_size = batch_size
        self._opener = urllib2.build_opener(
            urllib2.ProxyHandler(proxies),
            urllib2.HTTPSHandler(context=ssl.create_default_context(cafile=ca_file)),
            _NoRedirect(),
        )

    def encode(self, texts, is_tokenized=False):
        # type: (Any, bool) -> List[Any]
        """Return the vectors of sentences: a list of floats for each, in their order.

        For the pooling strategy NONE it is a list of such lists, one for each token. A UserWarning
        says how many sentences were cut.

        Args:
            texts: a list of unicode strings, none of them blank; with ``is_tokenized`` a list of
                lists of tokens. In Python 2, a str must be UTF-8.
            is_tokenized: the tokens are looked up unchanged in the model's vocabulary.

        Raises:
            TypeError, ValueError: texts is not such a list; nothing was sent.
            BertHTTPError: the gateway cannot be reached, or refuses the request.
        """
        if isinstance(texts, (_Text, bytes)):
            raise TypeError("texts is one string: give a list, [text]")
        texts = list(texts)
        if not texts:
            raise ValueError("texts is empty: there is nothing to encode")
        coded = [_to_json(text, number, is_tokenized) for number, text in enumerate(texts)]
        options = ', "is_tokenized": %s' % json.dumps(bool(is_tokenized))
        for name, value in sorted(self._options.items()):
            if value is not None:
                options += ', "%s": %s' % (name, json.dumps(value))
        vectors = []  # type: List[Any]
        cut = 0
        for first, last in _slices(coded, self._batch_size):
            body = '{"texts": [%s]%s}' % (", ".join(coded[first:last]), options)
            where = "texts[%d:%d]: " % (first, last) if last - first < len(coded) else ""
            content, headers = self._ask("/encode", body.encode("ascii"), where)
            vectors += content["result"]
            cut += int(headers.get("X-Truncated-Inputs", "0").split(";")[0])
        if cut:
            message = "%d of %d sentences have more tokens than the model reads, and were cut"
            warnings.warn(message % (cut, len(texts)), UserWarning, 2)
        return vectors

    def models(self):
        # type: () -> List[Any]
        """Return the models of the service as dicts: id, dimensions, max_input_tokens and more."""
        found = self._ask("/v1/models")[0]["data"]  # type: List[Any]
        return found

    def status(self):
        # type: () -> Any
        """Return workers, queues and counters, as ``BertClient.server_status`` does."""
        return self._ask("/status/server")[0]

    def _ask(self, path, body=None, where=""):
        # type: (str, Optional[bytes], str) -> Tuple[Any, Any]
        """Return an answer and its headers; repeat the request while the gateway is busy."""
        until = _now() + self._timeout
        while True:
            request = urllib2.Request(self._url + path, body, self._headers)
            try:
                answer = self._opener.open(request, timeout=self._timeout)
                with closing(answer):
                    return json.loads(answer.read().decode("utf-8")), answer.headers
            except HTTPError as error:
                pause = _pause(error)
                failure = _refusal(error, where)
            except (URLError, HTTPException, EnvironmentError, ValueError) as error:
                pause = 0.0
                reason = getattr(error, "reason", None) or error
                failure = BertHTTPError("%sno answer from %s: %s" % (where, self._url, reason))
            # Outside of the except clauses, so that Python 3 shows one traceback instead of two.
            if failure.status not in _RETRIED or _now() + pause > until:
                raise failure
            time.sleep(pause)


class _NoRedirect(urllib2.HTTPRedirectHandler):
    """Refuse redirects: one to another machine would send the API key and the sentences there."""

    def redirect_request(self, *_args, **_options):  # type: ignore[no-untyped-def]
        """Return no request, so that the answer is an error."""


_now = getattr(time, "monotonic", time.time)


def _is_loopback(host):
    # type: (str) -> bool
    return host in ("localhost", "::1") or host.startswith("127.")


def _to_json(text, number, is_tokenized):
    # type: (Any, int, bool) -> str
    """Return a sentence, or a list of tokens, in JSON of ASCII characters."""
    if is_tokenized and not isinstance(text, (list, tuple)):
        raise TypeError("texts[%d] is no list of tokens, which is_tokenized asks for" % number)
    parts = text if is_tokenized else [text]
    if not parts:
        raise ValueError("texts[%d] has no token" % number)
    for part in parts:
        if not isinstance(part, (_Text, str)):
            raise TypeError("texts[%d] has a %s, no text" % (number, type(part).__name__))
        if not part.strip():
            raise ValueError("texts[%d] is blank" % number)
    return json.dumps(text)


def _slices(coded, batch_size):
    # type: (List[str], int) -> Iterator[Tuple[int, int]]
    """Return the first and last number of each request's sentences, the last one excluded."""
    first, size = 0, 0
    for number, text in enumerate(coded):
        size += len(text) + 2
        if number > first and (number - first == batch_size or size > _MAX_BODY_BYTES):
            yield first, number
            first, size = number, len(text) + 2
    yield first, len(coded)


def _pause(error):
    # type: (HTTPError) -> float
    """Return the seconds of Retry-After."""
    try:
        return max(_MIN_RETRY_SECONDS, float(error.headers["Retry-After"]))
    except (KeyError, TypeError, ValueError):  # missing, or a date
        return _DEFAULT_RETRY_SECONDS


def _refusal(error, where):
    # type: (HTTPError, str) -> BertHTTPError
    """Return the error of an answer, with the gateway's reason if there is one."""
    message, code = error.reason, None
    try:
        fault = json.loads(error.read().decode("utf-8"))["error"]
        message, code = fault["message"], fault["code"]
    except (KeyError, TypeError, ValueError, EnvironmentError, HTTPException):
        pass  # a proxy's answer
    finally:
        error.close()
    if not isinstance(message, str):  # Python 2
        message = message.encode("utf-8")
    return BertHTTPError("%sHTTP %d: %s" % (where, error.code, message), error.code, code)


def _lines(stream):
    # type: (Iterable[bytes]) -> Iterator[Any]
    """Return the lines of a stream, which must be UTF-8 and not blank."""
    for number, line in enumerate(stream, 1):
        try:
            text = line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise ValueError("line %d is not UTF-8: %s" % (number, error.reason))  # noqa: B904
        if not text.strip():
            raise ValueError("line %d is blank" % number)
        yield text


def main():
    # type: () -> None
    """Encode the lines of standard input."""
    parser = argparse.ArgumentParser(
        description="Encode the lines of standard input (UTF-8); write a JSON list for each.",
        epilog="The environment variable BERTQ_HTTP_API_KEY holds the API key.",
    )
    parser.add_argument("url", help="the gateway's address, such as http://127.0.0.1:8125")
    parser.add_argument("--model", help="the model's name, if the service has several")
    parser.add_argument("--timeout", type=float, default=65.0, metavar="SECONDS")
    parser.add_argument("--batch-size", type=int, default=256, metavar="LINES")
    parser.add_argument("--truncate", choices=("right", "left", "error"))
    given = parser.parse_args()
    warnings.simplefilter("always")
    warnings.formatwarning = lambda message, *_, **__: "bertq_http: %s\n" % message
    try:
        client = BertHTTP(
            given.url,
            os.environ.get("BERTQ_HTTP_API_KEY"),
            given.timeout,
            given.model,
            given.batch_size,
            truncate=given.truncate,
        )
        stdin = getattr(sys.stdin, "buffer", sys.stdin)  # type: Any
        lines = _lines(stdin)
        while True:
            texts = list(islice(lines, given.batch_size))
            if not texts:
                break
            for vector in client.encode(texts):
                print(json.dumps(vector))
            sys.stdout.flush()
    except (BertHTTPError, ValueError) as error:
        sys.exit("bertq_http: %s" % error)


if __name__ == "__main__":
    main()
