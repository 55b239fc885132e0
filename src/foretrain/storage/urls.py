"""Roots of studies: what a user may name as one, a directory or a URL, and the filesystem behind a URL."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_MANGLED = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/[^/]")
_PACKAGES = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs", "abfss"), "adlfs"),
    **dict.fromkeys(("sftp", "ssh"), "paramiko"),
    **dict.fromkeys(("hdfs", "arrow_hdfs"), "pyarrow"),
    **dict.fromkeys(("oci", "ocilake"), "ocifs"),
    "oss": "ossfs",
    "smb": "smbprotocol",
    "webdav": "webdav4",
}
BUCKETS = frozenset("s3 s3a gs gcs az abfs abfss oci ocilake oss tos tosfs memory".split())
"""Protocols of stores without folders: a bucket that is not there is not to be made by us."""
_READ_ONLY = frozenset("http https data git github gist zip tar libarchive reference".split())


def is_url(root: str | os.PathLike[str]) -> bool:
    """Whether a root is a URL, and not a path."""
    return isinstance(root, str) and "://" in root


def as_root(root: str | os.PathLike[str]) -> str:
    """A root as text: an absolute URL of an installed filesystem, or a path with `~` expanded.

    Nothing is contacted. `file://` and `local://` URLs become paths.

    Args:
        root: A directory, or a URL that fsspec knows.

    Raises:
        ValueError: If nothing can be kept there, with what to install or to pass instead.
    """
    text = os.fspath(root)
    if not isinstance(text, str):
        raise ValueError(_expected(root, "pass it as text, not as bytes"))
    if not isinstance(root, str) and _MANGLED.match(text):
        raise ValueError(_expected(text, "a path has one slash where a URL has two: pass it as text"))
    if "://" not in text:
        return text if not text else str(Path(text).expanduser())
    protocol, rest = _split(text)
    if protocol in ("file", "local"):
        if not rest.startswith("/"):
            raise ValueError(_expected(text, "write a directory as a path, or as file:///its/full/path"))
        return rest
    _check_installed(text, protocol)
    if protocol in _READ_ONLY:
        raise ValueError(_expected(text, f"nothing can be written to {protocol}://, pass another one"))
    if protocol in BUCKETS - {"memory"} and not rest.strip("/"):
        raise ValueError(_expected(text, f"name the bucket, as in {protocol}://bucket/folder"))
    if set(rest) & set("*?[]"):
        raise ValueError(_expected(text, "leave out the characters * ? [ ]"))
    return text.rstrip("/") if rest.strip("/") else text


def open_filesystem(url: str) -> tuple[Any, str]:
    """The filesystem behind a URL, and the URL's path in it. May import much, but contacts nothing.

    Raises:
        ValueError: As `as_root`.
    """
    as_root(url)
    import fsspec.core

    # An instance of our own: what it remembers of listings is ours to forget.
    filesystem, path = fsspec.core.url_to_fs(url, skip_instance_cache=True)
    return filesystem, str(path).rstrip("/")


def join(url: str, name: str) -> str:
    """The URL of a folder in the one of a URL."""
    return f"{url}{name}" if url.endswith("://") else f"{url.rstrip('/')}/{name}"


def without_secrets(url: str) -> str:
    """The URL as it may be printed: without a password in front of the host."""
    return re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1:***@", url)


def protocol_of(url: str) -> str:
    """The part of a URL before `://`, in lower case."""
    return _split(url)[0]


def _split(text: str) -> tuple[str, str]:
    match = _URL.fullmatch(text)
    if match is None or "::" in text:
        raise ValueError(_expected(text, "write protocol://folder, with one protocol"))
    return match[1].lower(), match[2]


def _check_installed(text: str, protocol: str) -> None:
    try:
        import fsspec
    except ImportError:
        raise ValueError(_expected(text, "pip install 'foretrain[fsspec]'")) from None
    try:
        fsspec.get_filesystem_class(protocol)
    except Exception as error:  # not known, not installed, or broken: importing it runs anyone's code
        if protocol in _PACKAGES:
            raise ValueError(_expected(text, f"pip install {_PACKAGES[protocol]} ({error})")) from error
        raise ValueError(
            _expected(text, f"pip install the package whose fsspec filesystem is {protocol}:// ({error})")
        ) from error


def _expected(root: object, advice: str) -> str:
    shown = without_secrets(root) if isinstance(root, str) else root
    return f"Expected a directory or a URL of an installed filesystem, got {shown!r}: {advice}."
