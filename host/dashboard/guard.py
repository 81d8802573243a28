"""Who may read the dashboard: this machine, or who has the token; and no page of another site through a browser here."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Collection
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, RedirectResponse, Response

_Scope = dict[str, Any]
_Receive = Callable[[], Awaitable[Any]]
_Send = Callable[[Any], Awaitable[None]]
_App = Callable[[_Scope, _Receive, _Send], Awaitable[None]]
COOKIE = "boardfit-dashboard"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
#: Nothing from anywhere else; styles stand in the page. A report's own script is named by its hash.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src {scripts}; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


class Guard:
    """ASGI middleware. `hosts` are the names under which the page may be asked for, None for any, which needs a `token`.

    A name of another site that points here (DNS rebinding) is none of them, so its scripts read nothing. With a token every
    request must carry it: as a cookie, as `Authorization: Bearer TOKEN`, or once as `?token=`, which sets the cookie.
    """

    def __init__(
        self, app: _App, *, hosts: Collection[str] | None, token: str | None, scripts: Collection[str] = ()
    ) -> None:
        if hosts is None and token is None:
            raise ValueError("a dashboard that any host may ask for needs a token")
        self._app, self._hosts, self._token = app, hosts, token
        self._policy = POLICY.format(scripts=" ".join(["'self'", *scripts]))

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Answer what is refused, pass on the rest."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refused = self._refusal(scope, headers)
        if refused is not None:
            await refused(scope, receive, self._with_headers(send))
            return
        await self._app(scope, receive, self._with_headers(send))

    def _refusal(self, scope: _Scope, headers: Headers) -> Response | None:
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("the dashboard changes nothing: GET only", 405, {"allow": "GET, HEAD"})
        host = headers.get("host", "")
        if self._hosts is not None and host_of(host) not in self._hosts:
            return PlainTextResponse(
                f"this dashboard is not at {host!r}; use the address that it was started with", 421
            )
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return PlainTextResponse(f"a page of {origin} may not read the dashboard", 403)
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            return PlainTextResponse("a page of another site may not read the dashboard", 403)
        return self._without_token(scope, headers)

    def _without_token(self, scope: _Scope, headers: Headers) -> Response | None:
        if self._token is None:
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        asked = dict(query).get("token")
        if asked is not None and self._is_token(asked):
            rest = urlencode([(name, value) for name, value in query if name != "token"])
            # Away from the address line, where it would end in the history and in screenshots. Of leading slashes one stays: two
            # would begin the name of another host.
            path = "/" + scope["path"].lstrip("/")
            response = RedirectResponse(path + (f"?{rest}" if rest else ""), 303)
            response.set_cookie(COOKIE, asked, httponly=True, samesite="strict", path="/")
            return response
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._is_token(given.strip()):
            return None
        cookie = _cookie(headers.get("cookie", ""))
        if cookie is not None and self._is_token(cookie):
            return None
        return PlainTextResponse("open the address with its token, as host dashboard printed it", 401)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (self._token or "").encode())

    def _with_headers(self, send: _Send) -> _Send:
        more = [
            (b"content-security-policy", self._policy.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"cross-origin-resource-policy", b"same-origin"),
            (b"cache-control", b"no-store"),
        ]

        async def with_more(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        return with_more


def host_of(header: str) -> str:
    """Return the name or address in a Host header, without the port and the brackets of IPv6."""
    try:
        return (urlsplit(f"//{header}").hostname or "").lower()
    except ValueError:
        return ""


def _cookie(header: str) -> str | None:
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return None
    return None if found is None else found.value
