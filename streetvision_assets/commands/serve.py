"""`dagster dev` whose web server answers only the browser of whoever sits here.

Dagster's web server executes mutations that come by GET or from a form of any page that is open in the same
browser, and it answers under any host name. So an image in a page, a hostile page, or a name that a stranger
points at this machine (DNS rebinding) could wipe the history or launch runs. Here a request is refused

- under a host name that is not this machine's own (`--host` adds the one that it names);
- that a page from elsewhere sent, going by its `Origin` or its `Sec-Fetch-Site`; a link may be followed;
- that carries a GraphQL query in its address instead of in its body.

Dagster's own page needs none of that. Nobody is asked who they are: every user of this machine can reach it.

`dagster dev` starts its web server as `python -m dagster_webserver`. Both commands are run here as they
are, with one name replaced in each. Where a later Dagster lacks that name, this refuses to serve.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from starlette.applications import Starlette
    from starlette.types import ASGIApp, Receive, Scope, Send

_THIS = "streetvision_assets.commands.serve"
_WEBSERVER, _DAEMON = "dagster_webserver", "dagster._daemon"
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class OwnPageOnly:
    """Refuses what a page from elsewhere sent, and GraphQL that stands in an address."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403, or hand the request on."""
        fault = refusal(HTTPConnection(scope)) if scope["type"] in {"http", "websocket"} else ""
        answer = PlainTextResponse(f"{fault}\n", status_code=403) if fault else self._app
        await answer(scope, receive, send)


def refusal(request: HTTPConnection) -> str:
    """Return why a request is refused, in a sentence; empty where it is not."""
    headers = request.headers
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != headers.get("host"):
        return "Refused: the request comes from a page of another origin."
    followed = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("navigate", "document")
    if headers.get("sec-fetch-site", "none") not in {"none", "same-origin"} and not followed:
        return "Refused: the request comes from a page of another site."
    if request.url.path.endswith("/graphql") and "query" in request.query_params:
        return "Refused: GraphQL is taken from the body of a POST, never from an address."
    return ""


def _serve(arguments: Sequence[str]) -> None:
    """Run `dagster-webserver` with the guards around its app."""
    from dagster_webserver import cli

    hosts = [*_LOOPBACK, *(value for option, value in pairwise(arguments) if option == "--host")]

    def guard(create: Callable[..., Starlette]) -> Callable[..., Starlette]:
        def create_guarded(*args: Any, **options: Any) -> Starlette:
            app = create(*args, **options)
            app.add_middleware(OwnPageOnly)
            app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)
            return app

        return create_guarded

    _replace(cli, "create_app_from_workspace_process_context", guard)
    cli.cli(auto_envvar_prefix="DAGSTER_WEBSERVER")


def _develop() -> None:
    """Run `dagster dev`, with this module in place of the web server that it starts."""
    from dagster._cli import cli, dev

    ours = {_WEBSERVER: [_THIS, _WEBSERVER]}

    def guard(start: Callable[..., Any]) -> Callable[..., Any]:
        def start_guarded(command: Sequence[str], **options: Any) -> Any:
            if not {_WEBSERVER, _DAEMON} & set(command):
                raise RuntimeError(f"this `dagster dev` starts a server that nothing here guards: {command}")
            return start([part for word in command for part in ours.get(word, [word])], **options)

        return start_guarded

    _replace(dev, "open_ipc_subprocess", guard)
    cli(auto_envvar_prefix="DAGSTER_CLI")


def _replace(module: ModuleType, name: str, make: Callable[[Any], Any]) -> None:
    """Put what is made of a function in its place; AttributeError where this Dagster has no such function."""
    setattr(module, name, make(getattr(module, name)))


if __name__ == "__main__":
    if sys.argv[1] == _WEBSERVER:
        del sys.argv[1]
        _serve(sys.argv)
    else:
        _develop()
