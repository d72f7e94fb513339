"""The commands of a Markdown page, and a shell that runs them as a newcomer would type them.

```console blocks: each line that starts with `$ ` is a command (with its continuation lines after a backslash, and its
here-document); the rest is output. ```sh blocks: the whole block is one. A block right after

    <!-- not run: reason -->

is not run; its monitor-cli commands must still exist with the options given.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.support.ports import free_port

_FENCE = re.compile(r"^\s*(`{3,}|~{3,})\s*([\w-]*)\s*$")
_NOT_RUN = re.compile(r"^\s*<!-- not run:\s*(\S.*?)\s*-->\s*$")
_HEREDOC = re.compile(r"<<-?\s*['\"]?(\w+)['\"]?")
_PORT = re.compile(r"(?<=localhost:)\d{4,5}|(?<=127\.0\.0\.1:)\d{4,5}|(?<=--port )\d{4,5}|(?<=http\.server )\d{4,5}")
_SERVE = re.compile(r"\bmonitor-cli serve-api\b(?!.*--port)")
_DEFAULT_PORT = "8080"


class Command(NamedTuple):
    """One command of a page: its text, its line there, and why it is not run (None: it is)."""

    text: str
    line: int
    not_run: str | None


class Failure(AssertionError):
    """A command of the page did not do."""


def commands(page: str) -> list[Command]:
    """The commands of the page's console, sh and crontab blocks, in order (a crontab's lines are never run)."""
    found: list[Command] = []
    for language, first, lines, reason in _blocks(page):
        if language == "console":
            found += _typed(lines, first, reason)
        elif language in ("sh", "bash") and lines:
            found.append(Command("\n".join(lines), first, reason))
        elif language == "crontab":
            jobs = [(n, line) for n, line in enumerate(lines, first) if line.strip() and not line.startswith("#")]
            found += [Command(line, n, "cron runs it") for n, line in jobs]
    return found


def _blocks(page: str) -> Iterator[tuple[str, int, list[str], str | None]]:
    """Each fenced block: language, line of its first line, lines, reason of the comment right before it."""
    reason: str | None = None
    fence = language = ""
    lines: list[str] = []
    for number, line in enumerate(page.splitlines(), 1):
        if fence:
            if line.strip() == fence:
                yield language, number - len(lines), lines, reason
                fence, reason = "", None
            else:
                lines.append(line)
        elif match := _FENCE.match(line):
            fence, language, lines = match[1], match[2], []
        elif match := _NOT_RUN.match(line):
            reason = match[1]
        elif line.strip():
            reason = None


def _typed(lines: Sequence[str], first: int, reason: str | None) -> list[Command]:
    found = []
    rest = iter(enumerate(lines, first))
    for number, line in rest:
        if not line.lstrip().startswith("$ "):
            continue
        text = line.lstrip()[2:]
        while text.endswith("\\"):
            _, more = next(rest, (0, ""))
            text += "\n" + more.removeprefix("> ")
        if heredoc := _HEREDOC.search(text):
            for _, more in rest:
                more = more.removeprefix("> ")
                text += "\n" + more
                if more.strip() == heredoc[1]:
                    break
        found.append(Command(text, number, reason))
    return found


def calls(text: str, program: str = "monitor-cli") -> list[list[str]]:
    """The argument lists of each call of monitor-cli in a command line."""
    lexer = shlex.shlex(text.replace("\\\n", " "), posix=True, punctuation_chars="();<>|&\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, "#"
    found: list[list[str]] = []
    current: list[str] | None = None
    for word in lexer:
        if word and set(word) <= set("();<>|&\n"):
            current = None
        elif current is not None:
            current.append(word)
        elif word == program or word.endswith("/" + program):
            current = []
            found.append(current)
    return found


def with_free_ports(found: Sequence[Command]) -> list[Command]:
    """The same commands with each port number replaced by one that is free here: 8080 may be somebody's."""
    ports: dict[str, str] = {}

    def free(match: re.Match[str]) -> str:
        return ports.setdefault(match[0], str(free_port()))

    explicit = [c._replace(text=_SERVE.sub(rf"\g<0> --port {_DEFAULT_PORT}", c.text)) for c in found]
    return [c._replace(text=_PORT.sub(free, c.text)) for c in explicit]


def run(
    found: Sequence[Command], home: Path, env: Mapping[str, str], timeout: float = 180, *, keep_ports: bool = False
) -> str:
    """Run the commands one after another in one shell, which starts in `home`; its output. A server put into the
    background (`monitor-cli serve-api &`) is waited for until its port answers, and ends with the shell. `keep_ports`:
    the ports in them are real ones.
    Raises Failure at the first command that ends non-zero, or at `timeout` seconds in total."""
    script = home / ".commands.sh"
    progress = home / ".progress"
    typed = found if keep_ports else with_free_ports(found)
    script.write_text("\n".join(_script(typed, progress)), "utf-8")
    with (home / ".output").open("w+b") as output:
        shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc", str(script)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**env, "HOME": str(home)},
            cwd=home,
            start_new_session=True,
        )
        try:
            code: int | None = shell.wait(timeout)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end_group(shell)
        said = (home / ".output").read_text("utf-8", errors="replace")
    if code != 0:
        reached = progress.read_text().split() if progress.exists() else ["0"]
        command = found[int(reached[-1])]
        how = f"ended with {code}" if code is not None else f"did not end in {timeout} s"
        raise Failure(f"line {command.line}: {command.text}\n{how}; the output so far:\n{said[-3000:]}")
    return said


def _script(found: Sequence[Command], progress: Path) -> Iterator[str]:
    yield "set -o pipefail"
    for number, command in enumerate(found):
        yield f"echo {number} >> {shlex.quote(str(progress))}"
        yield command.text
        yield "_code=$?; [ $_code -eq 0 ] || exit $_code"
        if command.text.rstrip().endswith("&") and (port := _PORT.search(command.text)):
            yield f"_pid=$!; for _i in $(seq 300); do (: < /dev/tcp/127.0.0.1/{port[0]}) 2>/dev/null && break"
            yield "kill -0 $_pid 2>/dev/null || exit 1; sleep 0.1; done"
    yield "exit 0"


def _end_group(shell: subprocess.Popen[bytes]) -> None:
    """End the shell and all that it left behind: asked first, killed after three seconds."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(shell.pid, number)
        end = time.monotonic() + 3
        while _has_members(shell) and time.monotonic() < end:
            time.sleep(0.02)


def _has_members(shell: subprocess.Popen[bytes]) -> bool:
    shell.poll()
    try:
        os.killpg(shell.pid, 0)
    except ProcessLookupError:
        return False
    return True


def environment(home: Path, base: Mapping[str, str]) -> dict[str, str]:
    """What the shell gets: the installed monitor-cli first on PATH; programs that know proxies cannot leave the
    machine; a curl of our own where the machine has none."""
    tools = home / ".bin"
    tools.mkdir()
    if shutil.which("curl") is None:
        (tools / "curl").write_text(f"#!{sys.executable}\n{_CURL}", "utf-8")
        (tools / "curl").chmod(0o755)
    nowhere = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https", "all")}
    path = os.pathsep.join([str(Path(sys.executable).parent), base.get("PATH", os.defpath), str(tools)])
    return {**base, **nowhere, "no_proxy": "127.0.0.1,localhost", "PATH": path}


# As much of curl as a README types: -s -S -f -i -G, -H, -d, --data-urlencode, -X, -o, -w is not there.
_CURL = """
import argparse, sys, urllib.error, urllib.parse, urllib.request
p = argparse.ArgumentParser()
for short, long in (("-s", "--silent"), ("-S", "--show-error"), ("-f", "--fail"), ("-i", "--include"), ("-G", "--get")):
    p.add_argument(short, long, action="store_true")
p.add_argument("-H", "--header", action="append", default=[])
p.add_argument("-d", "--data", action="append", default=[])
p.add_argument("--data-urlencode", action="append", default=[])
p.add_argument("-X", "--request")
p.add_argument("-o", "--output")
p.add_argument("url")
a = p.parse_args()
pairs = [item.partition("=") for item in a.data_urlencode]
data = "&".join([*a.data, *(k + "=" + urllib.parse.quote(v, safe="") for k, _, v in pairs)])
url = a.url + ("?" + data if a.get and data else "")
body = data.encode() if data and not a.get else None
request = urllib.request.Request(url, body, dict(h.split(": ", 1) for h in a.header), method=a.request)
try:
    answer = urllib.request.urlopen(request, timeout=30)
except urllib.error.HTTPError as error:
    if a.fail:
        sys.exit(22)
    answer = error
except OSError:
    sys.exit(7)
out = open(a.output, "wb") if a.output else sys.stdout.buffer
if a.include:
    out.write(f"HTTP/1.1 {answer.status}\\n{answer.headers}".encode())
out.write(answer.read())
"""
