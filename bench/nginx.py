"""nginx as the local server behind the real CLI: the cheapest there is, and the one peers are measured with.

Used by `throughput` where nginx is installed (Debian: `nginx-light`). One process, on a free port, which
reads and throws away what is posted to it and answers 200 with two bytes.
"""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.process import BenchError, Child

_CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder};
    proxy_temp_path {folder};
    fastcgi_temp_path {folder};
    uwsgi_temp_path {folder};
    scgi_temp_path {folder};
    client_max_body_size 0;
    keepalive_requests 1000000000;
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{ default_type application/json; return 200 "{{}}"; }}
    }}
}}
"""
_START = 10.0
"""Seconds in which it must listen."""


def program() -> str:
    """Give the path of nginx, "" where it is not installed."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin") or ""


@contextmanager
def running() -> Iterator[tuple[Child, int]]:
    """Run nginx; the block gets the process and its port. Raises BenchError when it is not installed."""
    if not program():
        raise BenchError("nginx is not installed")
    with TemporaryDirectory(prefix="whook-bench-") as folder:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        path = Path(folder) / "nginx.conf"
        path.write_text(_CONFIGURATION.format(folder=folder, port=port), "utf-8")
        command = ("-c", str(path), "-p", folder, "-e", "stderr")
        with Child(*command, name="nginx", program=program()) as child:
            _wait(child, port)
            yield child, port


def _wait(child: Child, port: int) -> None:
    ends = time.monotonic() + _START
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > ends:
                raise BenchError(f"nginx does not listen\n{child.complaints()}") from None
            time.sleep(0.02)
        else:
            return
