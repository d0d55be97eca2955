"""The tokens that `whook login` got, one for each server, in the user's configuration directory.

Owns the file `credentials.json`, which only its user may read (0600) and which is replaced whole. A token is
given out only for the very server that it came from. Must never put a token into a message.
"""

import os
import tempfile
from pathlib import Path

import msgspec

from whook_cli.config import user_file
from whook_cli.exits import Exit, ExitCode

FILE_NAME = "credentials.json"


class Login(msgspec.Struct, frozen=True):
    """One server's login."""

    token: str
    user: str
    auth_url: str

    def __repr__(self) -> str:
        return f"<Login of {self.user}>"


_decoder = msgspec.json.Decoder(dict[str, Login])


def credentials_file() -> Path:
    """Path of the file."""
    return user_file().with_name(FILE_NAME)


def read_logins() -> dict[str, Login]:
    """Return every login by its server. Raises `Exit` for a file that cannot be read."""
    path = credentials_file()
    try:
        return _decoder.decode(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise Exit(ExitCode.USAGE, f"cannot read {path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Exit(ExitCode.USAGE, f"{path} is damaged", hint="delete it and run whook login") from None


def stored_token(server: str) -> str | None:
    """Return the token for a server, if there was a login."""
    login = read_logins().get(server)
    return login.token if login is not None else None


def store_login(server: str, login: Login) -> None:
    """Keep a login, in place of an earlier one for the same server. Raises `Exit`."""
    _write(read_logins() | {server: login})


def forget_login(server: str) -> None:
    """Drop the login for a server. Raises `Exit`."""
    logins = read_logins()
    if logins.pop(server, None) is not None:
        _write(logins)


def _write(logins: dict[str, Login]) -> None:
    path = credentials_file()
    content = msgspec.json.format(msgspec.json.encode(logins), indent=2) + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # mkstemp makes it readable by its owner only; the rename makes it appear whole.
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{FILE_NAME}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Exit(ExitCode.USAGE, f"cannot write {path}: {error.strerror}") from error
