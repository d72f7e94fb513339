"""contrib/: systemd's units are right and narrow, nginx shows the world /v1/ alone, logrotate takes its file."""

from __future__ import annotations

import configparser
import getpass
import grp
import http.client
import os
import re
import shlex
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from monitor_cli import config
from tests.support.certificates import self_signed
from tests.support.cli import Cli
from tests.support.ports import free_port
from tests.support.world import World
from tools.commandtree import described

ROOT = Path(__file__).resolve().parent.parent
CONTRIB = ROOT / "contrib"
UNITS = sorted((CONTRIB / "systemd").glob("*.*"), key=lambda path: path.name)
SERVICES = [path for path in UNITS if path.suffix == ".service"]
HARDENING = (CONTRIB / "systemd" / "monitor-cli-.service.d" / "hardening.conf").read_text("utf-8")


def _program(name: str) -> str:
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


# --- systemd ----------------------------------------------------------------------------------------------------------


def lines(file: Path, key: str) -> list[str]:
    """The values of a unit's setting, those of lines that are commented out too."""
    return re.findall(rf"^#?{key}=(.*)$", file.read_text("utf-8"), re.MULTILINE)


def test_the_units_are_there() -> None:
    names = {path.stem.removeprefix("monitor-cli-") for path in SERVICES}
    assert {"incident-sync", "callback-run", "callback-watch", "serve-api"} <= names
    for timer in (path for path in UNITS if path.suffix == ".timer"):
        assert timer.with_suffix(".service") in SERVICES


@pytest.mark.parametrize("unit", SERVICES, ids=lambda path: path.stem)
def test_a_unit_calls_what_there_is(unit: Path) -> None:
    commands = {command.path: command for command in described()}
    (start,) = lines(unit, "ExecStart")
    program, name, *rest = shlex.split(start)
    assert program == "/opt/monitor-cli/bin/monitor-cli"
    known = {option for option, _ in commands[name].options}
    for word in rest:
        if word.startswith("--"):
            assert any(word in re.split(r"[ ,]+", option) for option in known), word
    (documented,) = lines(unit, "Documentation")
    page = re.fullmatch(r"man:([\w-]+)\(1\)", documented)
    assert page
    assert (ROOT / "man" / f"{page[1]}.1").is_file()


def test_credentials_are_secret_settings() -> None:
    secret = {f.name for f in config.names() if f.metadata["secret"]}
    found = [value for unit in SERVICES for value in lines(unit, "LoadCredential")]
    assert "database_url" in {value.partition(":")[0] for value in found}
    assert {value.partition(":")[0] for value in found} <= secret


def test_each_service_is_hardened() -> None:
    read = configparser.ConfigParser(strict=False, allow_no_value=True)
    read.optionxform = str  # type: ignore[assignment,method-assign]
    read.read_string(HARDENING)
    has = dict(read["Service"])
    for key in ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "DynamicUser", "MemoryDenyWriteExecute"):
        assert has[key] == "yes"
    assert has["ProtectSystem"] == "strict"
    assert has["CapabilityBoundingSet"] == ""
    assert "AF_INET6" in str(has["RestrictAddressFamilies"])
    assert "SystemCallFilter=@system-service\nSystemCallFilter=~@privileged" in HARDENING
    assert all(unit.name.startswith("monitor-cli-") for unit in UNITS if unit.is_file())  # the drop-in is theirs


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A system's tree with the units, what they call, and the targets that they name."""
    targets = Path("/usr/lib/systemd/system")
    _program("systemd-analyze")
    if not (targets / "sysinit.target").exists():
        pytest.skip("systemd's own units are not on this machine")
    tree = tmp_path_factory.mktemp("root")
    program = tree / "opt" / "monitor-cli" / "bin" / "monitor-cli"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    shutil.copytree(CONTRIB / "systemd", tree / "etc" / "systemd" / "system")
    own = tree / "usr" / "lib" / "systemd" / "system"
    own.mkdir(parents=True)
    for target in targets.glob("*.target"):
        shutil.copy(target, own, follow_symlinks=True)
    return tree


def analyze(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [_program("systemd-analyze"), *args]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_systemd_has_no_complaint(root: Path) -> None:
    found = [unit.name for unit in UNITS if unit.is_file()]
    done = analyze("verify", "--man=no", f"--root={root}", *found, cwd=root / "etc" / "systemd" / "system")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("unit", SERVICES, ids=lambda path: path.stem)
def test_systemd_finds_it_hardened(root: Path, unit: Path) -> None:
    """Exposure 2.0 of 10 at most; a plain unit has 9.6, and the network that these need is 0.5 by itself."""
    done = analyze("security", "--offline=yes", "--threshold=20", f"--root={root}", unit.name, cwd=root)
    if "unrecognized option" in done.stderr or "Unknown" in done.stderr:
        pytest.skip("this systemd-analyze cannot judge units that are not loaded")
    assert done.returncode == 0, done.stdout[-200:] + done.stderr


# --- nginx ------------------------------------------------------------------------------------------------------------

KEY = "a-customers-key"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return self_signed("status-api.example.com", tmp_path)


@pytest.fixture
def upstream(cli: Cli, world: World) -> int:
    """A serve-api process with one account; its port."""
    account = world.account("acme", key=KEY)
    world.server(channel=1)
    world.number(account, "+1", channel=1)
    port = free_port()
    cli.start("serve-api", "--port", str(port), "--workers", "1")
    _wait(port)
    return port


def _wait(port: int) -> None:
    end = time.monotonic() + 60
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            return
        except OSError:
            assert time.monotonic() < end, f"nothing answers on port {port}"
            time.sleep(0.05)
        finally:
            connection.close()


def put_in(text: str, *pairs: tuple[str, str]) -> str:
    for before, after in pairs:
        assert before in text, before
        text = text.replace(before, after)
    return text


@pytest.fixture
def nginx(tmp_path: Path, certificate: Path, upstream: int) -> Iterator[int]:
    """nginx with our sample, its ports and paths those of this test; its port."""
    program = _program("nginx")
    port = free_port()
    site = put_in(
        (CONTRIB / "nginx.conf").read_text("utf-8"),
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("listen [::]:443 ssl;", ""),
        ("127.0.0.1:8080;", f"127.0.0.1:{upstream};"),
        ("/etc/ssl/certs/status-api.example.com.pem", str(certificate)),
        ("/etc/ssl/private/status-api.example.com.key", str(certificate)),
        ("/var/log/nginx/", f"{tmp_path}/"),
    )
    (tmp_path / "site.conf").write_text(site)
    temporary = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"daemon off;\nmaster_process off;\npid {tmp_path}/pid;\nerror_log {tmp_path}/main.log;\n"
        f"events {{}}\nhttp {{\n{temporary}include {tmp_path}/site.conf;\n}}\n"
    )
    command = [program, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-e", str(tmp_path / "first.log")]
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True, timeout=60, check=False)
    assert tested.returncode == 0, tested.stderr
    assert "[warn]" not in tested.stderr
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as running:
        yield port
        running.terminate()


@pytest.fixture
def ask(nginx: int) -> Callable[..., tuple[int, bytes]]:
    return asker(nginx)


def asker(port: int) -> Callable[..., tuple[int, bytes]]:
    """Asks the proxy on this port, once it answers."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def ask(target: str, method: str = "GET", body: str | None = None, **headers: str) -> tuple[int, bytes]:
        end = time.monotonic() + 30
        while True:
            connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context)
            try:
                with suppress(ConnectionRefusedError):
                    connection.request(method, target, body, headers)
                    answer = connection.getresponse()
                    return answer.status, answer.read()
            finally:
                connection.close()
            assert time.monotonic() < end, "the proxy does not answer"
            time.sleep(0.05)

    return ask


def test_nginx_shows_v1_alone_and_keeps_keys_out_of_its_logs(
    ask: Callable[..., tuple[int, bytes]], tmp_path: Path
) -> None:
    good = f"api_key={KEY}&method=monitor"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for answer in (ask(f"/v1/?{good}"), ask(f"/v1?{good}"), ask("/v1/", "POST", good, **form)):
        assert answer[0] == 200
        assert b'"+1"' in answer[1]
    assert ask("/v1/?method=monitor", **{"x-api-key": KEY})[0] == 200
    assert ask("/v1/?api_key=wrong&method=monitor")[0] == 401
    for path in (
        "/metrics",
        "/healthz",
        "/readyz",
        "/openapi.json",
        "/",
        "/v1/x",
        "/v1/../metrics",
        "/v1/%2e%2e/metrics",
    ):
        assert ask(path)[0] == 404, path
    logged = "".join(file.read_text() for file in tmp_path.glob("*.log"))
    assert '"GET /v1/" 200' in logged
    assert KEY not in logged


# --- Apache -----------------------------------------------------------------------------------------------------------

MODULES = ("mpm_event", "authz_core", "ssl", "proxy", "proxy_http", "reqtimeout")


@pytest.fixture
def apache(tmp_path: Path, certificate: Path, upstream: int) -> Iterator[int]:
    """Apache with the virtual host of docs/serving.md, its ports and paths those of this test; its port."""
    program, modules, port = _program("apache2"), Path("/usr/lib/apache2/modules"), free_port()
    page = (ROOT / "docs" / "serving.md").read_text("utf-8")
    (sample,) = re.findall(r"^```apache\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    site = put_in(
        sample,
        ("*:443", f"127.0.0.1:{port}"),
        ("127.0.0.1:8080", f"127.0.0.1:{upstream}"),
        ("/etc/ssl/certs/status-api.example.com.pem", str(certificate)),
        ("/etc/ssl/private/status-api.example.com.key", str(certificate)),
    )
    loads = "".join(f"LoadModule {name}_module {modules}/mod_{name}.so\n" for name in MODULES)
    main = f"ServerName localhost\nPidFile {tmp_path}/pid\nMutex file:{tmp_path} default\n"
    main += f"Define APACHE_LOG_DIR {tmp_path}\nErrorLog {tmp_path}/main.log\nListen 127.0.0.1:{port}\n"
    user = "User nobody\n" if os.getuid() == 0 else ""
    (tmp_path / "apache.conf").write_text(f"ServerRoot {tmp_path}\n{loads}{main}{user}{site}")
    command = [program, "-X", "-f", str(tmp_path / "apache.conf")]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        yield port
        running.terminate()


def test_apache_shows_v1_alone_and_keeps_keys_out_of_its_logs(apache: int, tmp_path: Path) -> None:
    ask, good = asker(apache), f"api_key={KEY}&method=monitor"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for answer in (ask(f"/v1/?{good}"), ask(f"/v1?{good}"), ask("/v1/", "POST", good, **form)):
        assert answer[0] == 200
        assert b'"+1"' in answer[1]
    for path in ("/metrics", "/healthz", "/readyz", "/openapi.json", "/", "/v1/x", "/v1/../metrics"):
        assert ask(path)[0] == 404, path
    assert ask(f"/v1/%zz?{good}")[0] == 400  # Apache complains of it itself
    status, body = ask("/v1/", "POST", "a" * 1_000_000, **form)
    assert (status, b"longer than 16384 bytes" in body) == (400, True)
    logged = "".join(file.read_text() for file in tmp_path.glob("*.log"))
    assert '"GET /v1/" 200' in logged
    assert KEY not in logged


# --- logrotate --------------------------------------------------------------------------------------------------------


def test_logrotate_takes_its_file_and_turns_it(tmp_path: Path) -> None:
    program = _program("logrotate")
    group = grp.getgrgid(os.getgid()).gr_name
    logs = tmp_path / "log"
    logs.mkdir(mode=0o750)
    text = (CONTRIB / "logrotate.conf").read_text("utf-8")
    text = put_in(text, ("monitor adm", f"{getpass.getuser()} {group}"), ("/var/log/monitor-cli", str(logs)))
    file = tmp_path / "logrotate.conf"
    file.write_text(text)
    file.chmod(0o644)
    (logs / "callback-run.log").write_text('{"event": "error"}\n')
    command = [program, "--force", "--state", str(tmp_path / "state"), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (logs / "callback-run.log").read_text() == ""
    assert (logs / "callback-run.log.1").read_text() == '{"event": "error"}\n'
