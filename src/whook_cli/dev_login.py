"""The login that `whook dev` lends to other terminals while it runs, so that `whook events` works there.

Called by `commands`. The token is kept where `whook login` keeps its own, for this one server, and is
worthless as soon as `whook dev` has ended. It must never take the place of somebody's own login.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from whook_cli.about import complain
from whook_cli.credentials import Login, forget_login, read_logins, store_login
from whook_cli.exits import Exit

USER: Final = "whook dev"
"""Stands for the user, and tells a login that was lent by a process that was killed."""


@contextmanager
def lent_login(server: str, auth_url: str, token: str) -> Generator[None]:
    """Keep a token for `server` as long as the block runs. What goes wrong is only said."""
    lent = False
    try:
        known = read_logins().get(server)
        if known is None or known.user == USER:
            store_login(server, Login(token=token, user=USER, auth_url=auth_url))
            lent = True
    except Exit as error:
        complain(f"whook events will need a token in other terminals: {error.message}")
    try:
        yield
    finally:
        if lent:
            _forget(server, token)


def _forget(server: str, token: str) -> None:
    try:
        known = read_logins().get(server)
        if known is not None and known.token == token:  # else somebody has logged in meanwhile
            forget_login(server)
    except Exit as error:
        complain(error.message)
