"""How the Scaling tab answers a request: read-only, and one plain sentence where something fails."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tensorboard.backend import http_util
from werkzeug import wrappers

log = logging.getLogger(__name__)


_A_YEAR = 365 * 24 * 3600  # seconds that a browser keeps a file whose address tells its version


def as_json(answer: dict[str, Any]) -> str:
    """The answer as JSON without NaN and without spaces."""
    return json.dumps(answer, allow_nan=False, separators=(",", ":"))


def json_route(answer: Callable[[wrappers.Request], dict[str, Any] | str]) -> Callable[..., Any]:
    """A read-only route that answers JSON without NaN, or one plain sentence and never a stack trace.

    Args:
        answer: Plain values, or JSON.
    """

    @wrappers.Request.application
    def route(request: wrappers.Request) -> Any:
        if request.method not in ("GET", "HEAD"):
            return _respond(request, "This address only answers GET.", "text/plain", 405)
        if request.headers.get("Sec-Fetch-Site") == "cross-site":
            # The page of another site could not read the answer, but have laws fitted.
            return _respond(request, "This address only answers TensorBoard's own page.", "text/plain", 403)
        try:
            found = answer(request)
            body = found if isinstance(found, str) else as_json(found)
        except Exception:
            log.exception("foretrain: %s could not be answered", request.path)
            return _respond(
                request, "foretrain could not answer: TensorBoard's log says why.", "text/plain", 500
            )
        return _respond(request, body, "application/json")

    return route


def file_route(path: Path, content_type: str) -> Callable[..., Any]:
    """A read-only route that answers one file, whose address changes whenever it does."""

    @wrappers.Request.application
    def route(request: wrappers.Request) -> Any:
        if request.method not in ("GET", "HEAD"):
            return _respond(request, "This address only answers GET.", "text/plain", 405)
        return _respond(request, path.read_bytes(), content_type, expires=_A_YEAR)

    return route


def _respond(
    request: wrappers.Request, body: str | bytes, content_type: str, code: int = 200, expires: int = 0
) -> Any:
    headers = [("Allow", "GET, HEAD")] if code == 405 else None
    return http_util.Respond(request, body, content_type, code=code, expires=expires, headers=headers)
