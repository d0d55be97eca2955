"""The way of one exchange to the local server and back: streamed both ways, byte for byte.

Owns the local client, which adds, decodes and reorders nothing: head and body travel as they came, only the
base path of `--forward` stands in front of the target and, with `--host-header rewrite`, the Host header has
another value. `handler` calls `Forwarder.forward` in the exchange's own task. A small request and its answer
take one task, one send and one receive. Must never hold a body whole, nor raise for what a local server does.
"""

from whook.http1 import encode_request_head
from whook.link import Exchange
from whook.wire import Request, ResetCode, Response
from whook_cli.attempt import Attempt, Opened
from whook_cli.pool import LocalUnreachable, Pool
from whook_cli.records import RequestRecord
from whook_cli.respond import Answer, problem
from whook_cli.upload import Upload


class Forwarder:
    """Carries exchanges to one local server; tells `opened` of responses that may take long."""

    def __init__(self, pool: Pool, *, rewrite_host: bool = False, opened: Opened) -> None:
        self._pool = pool
        self._url = pool.target.url
        self._join = pool.target.join
        self._host = pool.target.authority if rewrite_host else None
        self._opened = opened

    async def forward(self, exchange: Exchange, record: RequestRecord) -> None:
        """Forward one exchange, noting in `record` what happened. Raises `ExchangeReset`."""
        try:
            upload = Upload(exchange, record, self._head(exchange.request))
        except ValueError as error:
            record.error = f"the server sent a malformed request: {error}"
            exchange.reset(ResetCode.PROTOCOL, record.error)
            return
        connection = self._pool.take()
        while True:
            if connection is None:
                try:
                    connection = await self._pool.connect()
                except LocalUnreachable as error:
                    await self._unreachable(exchange, record, str(error))
                    return
            attempt = Attempt(exchange, record, connection, upload, self._opened)
            try:
                await attempt.run()
                if attempt.reusable:
                    self._pool.give_back(connection)
                    return
            finally:
                if not attempt.reusable:
                    connection.close()
            if not attempt.failure:
                return
            if not (connection.reused and attempt.untouched and upload.replayable):
                break
            # The server closed an idle connection just as the request went out (RFC 9112 section 9.3.1).
            connection = None
        await self._failed(exchange, record, attempt)

    async def _unreachable(self, exchange: Exchange, record: RequestRecord, reason: str) -> None:
        record.error = reason
        title = "The local server cannot be reached"
        detail = f"The webhook went through the tunnel, but its client {reason}."
        await answer(exchange, record, problem("local-unreachable", title, detail, record.event_id))

    async def _failed(self, exchange: Exchange, record: RequestRecord, attempt: Attempt) -> None:
        record.error = f"{self._url} {attempt.failure}"
        if attempt.head_sent:
            exchange.reset(ResetCode.LOCAL_FAILED, record.error)
            return
        detail = f"The local server at {record.error}."
        await answer(
            exchange, record, problem("local-failed", "The local server failed", detail, record.event_id)
        )

    def _head(self, request: Request) -> bytes:
        headers = request.headers
        if self._host is not None:
            host = self._host
            headers = [(n, host if n.lower() == b"host" else v) for n, v in headers]
        return encode_request_head(request.method, self._join(request.target), headers)


async def answer(exchange: Exchange, record: RequestRecord, made: Answer) -> None:
    """Send an answer made here. Raises `ExchangeReset`."""
    body = b"" if exchange.request.method == b"HEAD" else made.body
    record.status = made.status
    record.response_bytes = len(body)
    if (details := record.details) is not None:
        details.response_reason = made.reason
        details.response_headers = made.headers
        details.response_body.add(body)
    exchange.send_head(Response(made.status, made.reason, made.headers), end=not body)
    if body:
        await exchange.send_data(body, end=True)
