"""Options that were not given as flags: from the environment, ./whook.toml and the user's whook.toml.

Owns the order (flag, `WHOOK_...`, ./whook.toml, user's configuration directory), the reading of the files and
the rule on tokens. `app` hands the two layers to cyclopts, which converts and validates what they add exactly
as if it had been a flag. Must never put a token, or any other value of a file, into an error message.
"""

import difflib
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from cyclopts import App, Argument, ArgumentCollection, CycloptsError, Token
from cyclopts.config import Env

from whook_cli.options import DEFAULT_SERVER, KEYS

FILE_NAME = "whook.toml"
PREFIX = "WHOOK_"


def user_file() -> Path:
    """Path of the user's own configuration file: `XDG_CONFIG_HOME`, or what the platform has instead."""
    from platformdirs import user_config_path  # 16 ms that `whook --help` need not pay

    return user_config_path("whook", appauthor=False, roaming=True) / FILE_NAME


def read_file(path: Path) -> dict[str, str]:
    """Read a configuration file as option name to text; a file that is not there holds nothing.

    Raises `CycloptsError` with one line that names file, key and mend.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise CycloptsError(msg=f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CycloptsError(msg=f"{path} is not UTF-8 text (byte {error.start})") from error
    except tomllib.TOMLDecodeError as error:
        raise CycloptsError(msg=f"{path} is not TOML: {error}") from error
    return {key: _as_text(path, key, value) for key, value in content.items()}


def _as_text(path: Path, key: str, value: object) -> str:
    if key not in KEYS:
        near = difflib.get_close_matches(key.replace("_", "-").lower(), sorted(KEYS), n=1)
        mend = f'did you mean "{near[0]}"?' if near else 'the keys are the long options, without "--"'
        raise CycloptsError(msg=f'{path}: unknown key "{key}"; {mend}')
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    kind = "a table" if isinstance(value, dict) else "a list" if isinstance(value, list) else "a date or time"
    raise CycloptsError(msg=f'{path}: "{key}" is {kind}; write a text, a number, true or false')


class Environment(Env):
    """`WHOOK_...` variables; one that is set to nothing counts as not set."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        super().__init__(PREFIX, command=False)
        self._environ = environ

    def __call__(self, _app: App, _commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        """Give each option without a flag the value of its variable (cyclopts calls this)."""
        for key, argument in _options(arguments):
            name = PREFIX + key.upper().replace("-", "_")
            if (value := self._environ.get(name, "")) and not argument.tokens:
                argument.append(Token(keyword=name, value=value, source="the environment"))


class Files:
    """./whook.toml, then the user's whook.toml, with the rule on where a token may go.

    A directory somebody else wrote (a cloned repository) may hold a whook.toml. It may say which project and
    which server; but a token that does not come from that file itself goes to that server only if the user
    named the server too, as a flag, in the environment or in the user's own file.
    """

    def __init__(
        self,
        local: Callable[[], Path] = lambda: Path(FILE_NAME),
        user: Callable[[], Path] = user_file,
    ) -> None:
        self._local = local
        self._user = user

    def __call__(self, _app: App, _commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        """Give each option without a value the one of the first file that has it (cyclopts calls this)."""
        options = dict(_options(arguments))
        if not options:  # a broken file must not keep `whook version` from answering
            return
        local_path, user_path = self._local(), self._user()
        local, user = read_file(local_path), read_file(user_path)
        for path, values in ((local_path, local), (user_path, user)):
            for key, value in values.items():
                if (argument := options.get(key)) is not None and not argument.tokens:
                    argument.append(Token(keyword=key, value=value, source=str(path)))
        if "server" in options and "token" in options:
            trusted = user.get("server", DEFAULT_SERVER)
            self._check_token(options["server"], options["token"], str(local_path), trusted)

    @staticmethod
    def _check_token(server: Argument, token: Argument, local: str, trusted: str) -> None:
        if not server.tokens or not token.tokens:
            return
        chosen, secret = server.tokens[0], token.tokens[0]
        if chosen.source != local or secret.source in (local, "cli"):
            return
        if chosen.value.rstrip("/") != trusted.rstrip("/"):
            raise CycloptsError(
                msg=f"{local} names the server {chosen.value!r}, but the token comes from {secret.source}; "
                f"to send it there, say so with --server or WHOOK_SERVER"
            )


def _options(arguments: ArgumentCollection) -> Iterator[tuple[str, Argument]]:
    """Each argument that has a name of its own, with its key: `--host-header` is host-header."""
    for argument in arguments:
        if argument.parse and (key := argument.name.lstrip("-").lower()) in KEYS:
            yield key, argument
