"""Why a connection failed, in a few words for a person.

Owns the walk from a library's exception to the operating system's reason. Used by `api`, `pool` and `session`
for their messages. Must never raise, and gives no more than one line.
"""

import os
import socket
import ssl

import trio

from whook_cli.text import printable, shorten

_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"})


def explain(error: BaseException) -> str:
    """Say what is at the bottom of `error`: refused, unknown name, untrusted certificate, and so on."""
    for each in _chain(error):
        if (reason := _one(each)) is not None:
            return reason
    return shorten(printable(str(error) or type(error).__name__), 200)


def _chain(error: BaseException) -> list[BaseException]:
    """Give the causes of `error`, deepest first; of a group the first member stands for all."""
    chain = [error]
    while len(chain) < 32:
        last = chain[-1]
        deeper = (
            last.exceptions[0] if isinstance(last, BaseExceptionGroup) else last.__cause__ or last.__context__
        )
        if deeper is None:
            break
        chain.append(deeper)
    return chain[::-1]


def _one(error: BaseException) -> str | None:
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted ({error.verify_message})"
        case ssl.SSLError() if error.reason in _NOT_TLS:
            return "it does not speak TLS"
        case ssl.SSLError():
            return f"TLS failed ({(error.reason or 'unknown').replace('_', ' ').lower()})"
        case socket.gaierror():
            return "there is no such host"
        case ConnectionRefusedError():
            return "connection refused"
        case TimeoutError():
            return "it does not answer"
        case trio.TooSlowError():
            return "it does not answer"
        case OSError(errno=int(number)):
            return os.strerror(number).lower()
        case _:
            return None
