"""Receivers that are not the bottleneck: nginx (plain, over TLS, or taking 50 ms), and one that notes when."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ECHO = Path("/usr/lib/nginx/modules/ngx_http_echo_module.so")  # a timer in nginx's own loop, no process for it
_CONF = """
load_module {echo};
worker_processes 1; daemon off; pid {dir}/pid; error_log {dir}/error.log crit;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 1000000; client_body_temp_path {dir}; proxy_temp_path {dir};
  fastcgi_temp_path {dir}; uwsgi_temp_path {dir}; scgi_temp_path {dir};
  server {{
    listen 0.0.0.0:{http} backlog=4096; listen 0.0.0.0:{https} ssl backlog=4096;
    ssl_certificate {dir}/cert.pem; ssl_certificate_key {dir}/key.pem;
    location / {{ return 200 "ok"; }}
  }}
  server {{
    listen 0.0.0.0:{slow} backlog=4096;
    location / {{ echo_read_request_body; echo_sleep 0.05; echo ok; }}
  }}
}}
"""


class Nginx:
    """A private nginx on loopback: `base(case)` gives where "http", "https" or "50ms" is, and the CA file to trust."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.http, self.https, self.slow = directory, _free_port(), _free_port(), _free_port()

    def base(self, case: str) -> tuple[str, str | None]:
        if case == "50ms":
            return f"http://127.0.0.1:{self.slow}", None
        if case == "https":
            return f"https://127.0.0.1:{self.https}", str(self.directory / "cert.pem")
        return f"http://127.0.0.1:{self.http}", None


@contextmanager
def nginx() -> Iterator[Nginx]:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if not program or not _ECHO.exists():
        raise SystemExit("nginx is missing; on Debian: apt-get install nginx-light libnginx-mod-http-echo")
    with tempfile.TemporaryDirectory() as directory:
        front = Nginx(Path(directory))
        names = ",".join(f"IP:127.0.{1 + i // 100}.{1 + i % 100}" for i in range(200))
        subprocess.run(
            [
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=receiver",
                "-addext",
                f"subjectAltName=IP:127.0.0.1,{names}",
                "-keyout",
                f"{directory}/key.pem",
                "-out",
                f"{directory}/cert.pem",
            ],
            check=True,
            capture_output=True,
        )
        conf = Path(directory) / "nginx.conf"
        conf.write_text(_CONF.format(echo=_ECHO, dir=directory, http=front.http, https=front.https, slow=front.slow))
        Path(directory).chmod(0o755)
        process = subprocess.Popen([program, "-c", str(conf), "-p", directory, "-g", "user root;"])
        try:
            _wait_for(front.http)
            yield front
        finally:
            process.terminate()
            process.wait(30)


class TimingReceiver:
    """A minimal HTTP/1.1 server on asyncio in a thread: reads a request and its body, notes when the n-th request to
    /hook/ID came (at[(ID, n)] in time.monotonic() seconds), says 200."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._port = _free_port()
        self.base = f"http://127.0.0.1:{self._port}"
        self.at: dict[tuple[int, int], float] = {}
        self._count: Counter[int] = Counter()

    def __enter__(self) -> TimingReceiver:
        threading.Thread(target=self._run, daemon=True).start()
        _wait_for(self._port)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)

    def wait(self, count: int, seconds: float) -> None:
        """Until so many have come, so long at most."""
        ends = time.monotonic() + seconds
        while len(self.at) < count and time.monotonic() < ends:
            time.sleep(0.05)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(asyncio.start_server(self._serve, "0.0.0.0", self._port, backlog=4096))
        self._loop.run_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = 0
                for line in head.split(b"\r\n"):
                    if line[:15].lower() == b"content-length:":
                        length = int(line[15:])
                if length:
                    await reader.readexactly(length)
                self._note(head.split(b" ", 2)[1].decode())
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _note(self, target: str) -> None:
        key = int(target.rsplit("/", 1)[1])
        self._count[key] += 1
        self.at[key, self._count[key]] = time.monotonic()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"nothing listens on port {port}")
