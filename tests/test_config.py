"""Settings: where each value comes from, what is refused and how that is said, `config show` and `config check`, and
docs/configuration.md, which lists them all."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import pytest

from monitor_cli import config
from monitor_cli.config import Settings, Source
from tests.support.cli import Cli

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "configuration.md").read_text("utf-8")

SECRETS = ("pa55", "t0ken", "k3y")
FILE = """
database_url = "mysql+pymysql://cron:pa55@db.example/voice?ssl_key_password=pa55"
concurrency = 12
allow_networks = ["10.0.0.0/8", "fd00::/8"]
retry_schedule = [1, 2.5]

[[sources]]
name = "carrier"
url = "https://user:pa55@status.example.com/api?key=k3y"
headers = { Authorization = "Bearer t0ken" }
status_map = { partial_outage = "critical" }
"""


@pytest.fixture
def cli(make_cli: Callable[[str | None], Cli]) -> Cli:
    return make_cli(None)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], str]:
    """Writes a configuration file and gives its path."""

    def write(text: str) -> str:
        file = tmp_path / "monitor.toml"
        file.write_text(text, "utf-8")
        return str(file)

    return write


def shown(cli: Cli, *options: str, **more: Any) -> dict[str, dict[str, Any]]:
    """`config show --json`, by name."""
    found: dict[str, dict[str, Any]] = cli.ok(*options, "config", "show", "--json", **more).json
    return found


# --- precedence and origins -------------------------------------------------------------------------------------------


def test_flag_over_environment_over_file_over_default(write: Callable[[str], str]) -> None:
    path = write("concurrency = 1\nmax_seconds = 1\ntotal_timeout = 1\n")
    environ = {"MONITOR_CONCURRENCY": "2", "MONITOR_MAX_SECONDS": "2"}
    settings = config.load(path, environ, {"concurrency": 3, "max_seconds": None})
    assert (settings.concurrency, settings.max_seconds, settings.total_timeout) == (3, 2, 1)
    assert settings.connect_timeout == Settings.connect_timeout
    names = ("concurrency", "max_seconds", "total_timeout", "connect_timeout")
    found = ["flag", "environment MONITOR_MAX_SECONDS", f"file {path}", "default"]
    assert [settings.origins[name] for name in names] == found


def test_which_file_is_read(write: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other.toml"
    other.write_text("concurrency = 7")
    assert config.load(write("concurrency = 6"), {"MONITOR_CONFIG": str(other)}).concurrency == 6
    assert config.load(None, {"MONITOR_CONFIG": str(other)}).concurrency == 7
    monkeypatch.setattr(config, "SYSTEM_FILE", other)
    assert config.load(None, {}).concurrency == 7
    monkeypatch.setattr(config, "SYSTEM_FILE", tmp_path / "absent")
    assert config.load(None, {}).concurrency == Settings.concurrency


def test_database_url_file(write: Callable[[str], str], tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text("sqlite:///from-file.db\n")
    in_file = write(f'database_url_file = "{secret}"')
    settings = config.load(in_file, {})
    assert settings.database_url == "sqlite:///from-file.db"
    assert settings.origins["database_url"] == f"file {secret}"
    # Of the two names the one that was said closer by counts; in one place the URL itself.
    assert config.load(in_file, {"MONITOR_DATABASE_URL": "sqlite:///x.db"}).database_url == "sqlite:///x.db"
    in_file = write('database_url = "sqlite:///y.db"')
    assert config.load(in_file, {"MONITOR_DATABASE_URL_FILE": str(secret)}).database_url == "sqlite:///from-file.db"
    in_file = write(f'database_url = "sqlite:///y.db"\ndatabase_url_file = "{secret}"')
    assert config.load(in_file, {}).database_url == "sqlite:///y.db"


def test_a_credential_of_the_service_manager(write: Callable[[str], str], tmp_path: Path) -> None:
    """LoadCredential=database_url:…, closer than the file, farther than a variable; `config show` names it."""
    given = tmp_path / "credentials"
    given.mkdir()
    environ = {"CREDENTIALS_DIRECTORY": str(given)}
    path = write('database_url = "sqlite:///file.db"')
    assert config.load(path, environ).origins["database_url"] == f"file {path}"
    (given / "database_url").write_text("sqlite:///credential.db\n")
    (given / "concurrency").write_text("3")  # no secret: not looked for
    settings = config.load(path, environ)
    assert (settings.database_url, settings.concurrency) == ("sqlite:///credential.db", 256)
    assert settings.origins["database_url"] == f"credential {given / 'database_url'}"
    closer = {**environ, "MONITOR_DATABASE_URL": "sqlite:///variable.db"}
    assert config.load(path, closer).database_url == "sqlite:///variable.db"
    (tmp_path / "url").write_text("sqlite:///other.db")
    closer = {**environ, "MONITOR_DATABASE_URL_FILE": str(tmp_path / "url")}
    assert config.load(path, closer).database_url == "sqlite:///other.db"
    in_file = write(f'database_url_file = "{tmp_path / "url"}"')
    assert config.load(in_file, environ).database_url == "sqlite:///credential.db"


@pytest.mark.parametrize(
    ("content", "reason"), [(b" \n", "the file is empty"), (b"\xff", "is not UTF-8 text"), (None, "Is a directory")]
)
def test_a_credential_that_cannot_be_read_is_no_default(
    cli: Cli, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    if content is None:
        (tmp_path / "database_url").mkdir()
    else:
        (tmp_path / "database_url").write_bytes(content)
    result = cli("config", "show", env={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert (result.code, result.out) == (78, "")
    assert f"the credential database_url {tmp_path}/database_url: {reason}" in result.err


@pytest.mark.parametrize("start", ["$CREDENTIALS_DIRECTORY", "${CREDENTIALS_DIRECTORY}"])
def test_a_secret_s_file_may_be_a_credential(cli: Cli, write: Callable[[str], str], tmp_path: Path, start: str) -> None:
    path = write(f'database_url_file = "{start}/url"')
    (tmp_path / "url").write_text("sqlite:////var/lib/monitor.db")
    found = shown(cli, "--config", path, env={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert found["database_url"]["value"] == "sqlite:////var/lib/monitor.db"
    result = cli("--config", path, "config", "show")
    assert result.code == 78
    assert f"database_url_file {start}/url: $CREDENTIALS_DIRECTORY is set by a service manager alone" in result.err


def test_the_default_database_is_in_the_users_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/ops")
    assert config.load(None, {}).database_url == "sqlite:////home/ops/.local/share/monitor-cli/monitor.db"
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert config.load(None, {}).database_url == "sqlite:////data/monitor-cli/monitor.db"


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("concurency = 3", "unknown key 'concurency'\n  did you mean 'concurrency'?"),
        ("nonsense = 3", "unknown key 'nonsense'\n  known keys: database_url, "),
        ("concurrency = 0", "concurrency must be a whole number from 1 to 4096"),
        ("concurrency = true", "concurrency must be a whole number"),
        ('concurrency = "12x"', "concurrency must be a whole number"),
        ("concurrency = 1.5", "concurrency must be a whole number"),
        ("total_timeout = nan", "total_timeout must be a number from 0.1 to 120"),
        ('max_seconds = "soon"', "max_seconds must be a number"),
        ("incident_url = 3", "incident_url must be text"),
        ('allow_networks = ["10.0.0.1/8"]', "allow_networks must be networks as 10.1.0.0/16"),
        ("allow_networks = 3", "allow_networks must be a list"),
        ("retry_schedule = [-1]", "retry_schedule must be a number from 0"),
        ("retry_schedule = [5", "is not TOML: "),
        (
            'ca_file = "/nonexistent.pem"',
            "names a file that cannot be read: /nonexistent.pem: No such file or directory",
        ),
        ('database_url_file = "/nonexistent"', "database_url_file /nonexistent: No such file or directory"),
        ('database_url = "voice"', "database_url is not a URL"),
        ('database_url = "mysql+pymysql://a:pa55@h:port/voice"', "database_url is not a URL"),
        ('database_url = "postgresql://a:pa55@h/voice"', "names a store that is not supported: postgresql"),
        (
            'database_url = "mysql+pymysql:///voice?read_default_file=/nonexistent"',
            "read_default_file /nonexistent: No such file or directory",
        ),
        ("sources = 3", "sources must be [[sources]] tables"),
        ("[[sources]]\nname = 'a'", "[[sources]] number 1 has no url\n  each source needs a name and a url"),
        ("[[sources]]\nurl = 'https://a.example'", "[[sources]] number 1 has no name"),
        ("[[sources]]\nname = 'a'\nurl = 'https://a.example'\nurls = 3", "unknown key 'urls'\n  did you mean 'url'?"),
        ("[[sources]]\nname = 'a'\nurl = 'https://a.example'\n" * 2, "two sources of the name 'a'"),
        ("[[sources]]\nname = 'load'\nurl = 'https://a.example'", "sources has a source of the name 'load'"),
        ("[[sources]]\nname = 'a'\nurl = 'ftp://a.example'", "ftp://a.example"),
        ("[[sources]]\nname = 'a'\nurl = 'https://a.example'\nprovider = 'statuspag'", "did you mean 'statuspage'?"),
        ("[[sources]]\nname = 'a'\nurl = 'https://a.example'\nstatus_map = {x = 'bad'}", "maps 'x' to 'bad'"),
        ("[[sources]]\nname = 'a'\nurl = 'https://a.example'\nheaders = {x = 1}", "headers must be a table of text"),
        ("[[sources]]\nname = 'a'\nurl = 'https://a.example'\ntimeout = 0", "timeout must be a number from 0.1 to 600"),
    ],
)
def test_config_check_says_what_is_wrong_in_the_file(
    cli: Cli, write: Callable[[str], str], text: str, message: str
) -> None:
    result = cli("--config", write(text), "config", "check")
    assert (result.code, result.out) == (78, "")
    assert result.err.startswith("monitor-cli: ")
    assert message in result.err
    assert "pa55" not in result.err
    assert "Traceback" not in result.err


SEVERAL = """\
databse_url = "x"
confirm = 0
nonsense = 1
[[sources]]
name = "a"
provder = "gatus"
confirm = 2
[[sources]]
url = "https://b.example"
timeout = 0
"""


@pytest.mark.parametrize("command", [["config", "check"], ["config", "show"], ["status"]])
def test_all_that_is_wrong_is_said_at_once(cli: Cli, write: Callable[[str], str], command: list[str]) -> None:
    """Mended one by one, each further line of a configuration would cost another try."""
    file = write(SEVERAL)
    result = cli("--config", file, *command, env={"MONITOR_CONCURRENCY": "many"})
    assert (result.code, result.out) == (78, "")
    assert result.err.splitlines() == [
        "monitor-cli: 9 things in the configuration cannot be used:",
        f"  - {file}: unknown key 'databse_url' (did you mean 'database_url'?)",
        f"  - {file}: confirm must be a whole number from 1 to 1000",
        f"  - {file}: unknown key 'nonsense'",
        "  - [[sources]] number 1: unknown key 'provder' (did you mean 'provider'?)",
        "  - [[sources]] number 1: unknown key 'confirm' "
        "(confirm is a setting of the whole file: it has to stand above the first [[table]])",
        "  - [[sources]] number 1 has no url (each source needs a name and a url)",
        "  - [[sources]] number 2: timeout must be a number from 0.1 to 600",
        "  - [[sources]] number 2 has no name (each source needs a name and a url)",
        "  - the environment variable MONITOR_CONCURRENCY: concurrency must be a whole number from 1 to 4096",
    ]


def test_config_check_names_every_contradiction(cli: Cli, write: Callable[[str], str]) -> None:
    text = 'database_url = "voice"\ncapacity_warning = 0.9\ncapacity_critical = 0.8\nconnect_timeout = 20'
    result = cli("--config", write(text), "config", "check", env={"MONITOR_SECRET_KEY_FILE": "/nonexistent"})
    assert result.code == 78
    for words in ("4 things", "database_url is not a URL", "secret_key_file", "capacity_critical", "connect_timeout"):
        assert words in result.err
    assert cli("--config", write(text), "check").out.count("\n") == 1


def test_a_value_in_the_environment_is_named_by_its_variable(cli: Cli) -> None:
    result = cli("config", "check", env={"MONITOR_CONCURRENCY": "many"})
    assert result.code == 78
    message = "the environment variable MONITOR_CONCURRENCY: concurrency must be a whole number from 1 to 4096"
    assert result.err == f"monitor-cli: {message}\n"


@pytest.mark.parametrize("command", [["config", "show"], ["config", "check"], ["db", "upgrade"], ["callback-run"]])
def test_a_file_that_is_named_and_absent_is_refused_by_every_command(cli: Cli, command: list[str]) -> None:
    for options, env in ([["--config", "/nonexistent.toml"], {}], [[], {"MONITOR_CONFIG": "/nonexistent.toml"}]):
        result = cli(*options, *command, env=env)
        assert (result.code, result.out) == (78, "")
        assert "the configuration file /nonexistent.toml: No such file or directory" in result.err


def test_a_file_that_is_no_text(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    result = cli("--config", str(tmp_path / "binary"), "config", "check")
    assert result.code == 78
    assert "is not UTF-8 text" in result.err
    assert cli("--config", str(tmp_path), "config", "check").code == 78


def test_config_check_is_silent_where_all_can_be_used(cli: Cli, write: Callable[[str], str]) -> None:
    cli("config", "check").quiet()
    cli("--config", write(FILE), "config", "check").quiet()
    cli("config", "check", env={"MONITOR_UNRELATED_THING": "x", "MONITOR_SOURCES": "x"}).quiet()


def test_config_check_names_what_looks_misspelt_in_the_environment(cli: Cli) -> None:
    result = cli("config", "check", env={"MONITOR_ALOW_NETWORKS": "10.0.0.0/8"})
    assert result.code == 0
    assert result.err == "setting.unknown environment=MONITOR_ALOW_NETWORKS did_you_mean=MONITOR_ALLOW_NETWORKS\n"


# --- config show ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("capacity_warning = 0.9\ncapacity_critical = 0.8", ("capacity_critical (0.8)", "capacity_warning (0.9)")),
        ("connect_timeout = 20", ("connect_timeout (20)", "total_timeout (15)")),
    ],
)
def test_settings_that_contradict_each_other(
    cli: Cli, write: Callable[[str], str], text: str, keys: tuple[str, str]
) -> None:
    result = cli("--config", write(text), "config", "check")
    assert result.code == 78
    assert all(key in result.err for key in keys)
    cli("--config", write("capacity_critical = 0.8\nconnect_timeout = 15"), "config", "check").quiet()
    cli("--config", write("capacity_warning = 0.8"), "config", "check").quiet()


def test_a_limit_is_written_out(cli: Cli) -> None:
    result = cli("config", "check", env={"MONITOR_RETRY_SCHEDULE": "5,-1"})
    assert "from 0 to 2592000, in seconds" in result.err


def test_show_has_every_setting_with_its_origin(cli: Cli, write: Callable[[str], str]) -> None:
    path = write(FILE)
    rows = cli.ok("--config", path, "config", "show", "--json", env={"MONITOR_MAX_SECONDS": "9"}).json
    assert list(rows) == [f.name for f in config.names()]
    assert all(list(row) == ["value", "origin", "description"] for row in rows.values())
    found = {name: (row["value"], row["origin"]) for name, row in rows.items()}
    assert found["database_url"] == ("mysql+pymysql://cron:***@db.example/voice", f"file {path}")
    assert found["concurrency"] == (12, f"file {path}")
    assert found["max_seconds"] == (9, "environment MONITOR_MAX_SECONDS")
    assert found["allow_networks"] == (["10.0.0.0/8", "fd00::/8"], f"file {path}")
    assert found["retry_schedule"] == ([1, 2.5], f"file {path}")
    assert found["slow_lane"] == (2048, "default")
    (source,) = found["sources"][0]
    assert source["headers"] == {"Authorization": "***"}
    assert source["url"] == "https://status.example.com/api?…"
    assert source["status_map"] == {"partial_outage": "critical"}


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_show_shows_no_secret(cli: Cli, write: Callable[[str], str], tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "url").write_text("mysql://cron:pa55@db.example/voice")
    runs = [
        cli.ok("--config", write(FILE), "config", "show", *options),
        cli.ok("config", "show", *options, env={"MONITOR_DATABASE_URL_FILE": str(tmp_path / "url")}),
        cli.ok("config", "show", *options, env={"MONITOR_DATABASE_URL": "no://url of:pa55@ any kind"}),
        cli.ok("config", "show", *options, env={"MONITOR_INCIDENT_URL": "https://u:pa55@s.example/?k=k3y"}),
    ]
    for secret in SECRETS:
        assert secret not in "".join(run.out + run.err for run in runs)


def test_show_prints_a_table(cli: Cli, write: Callable[[str], str]) -> None:
    path = write(FILE)
    lines = cli.ok("--config", path, "config", "show").out.splitlines()
    assert lines[0].split() == ["NAME", "VALUE", "ORIGIN"]
    table = {line.split()[0]: line for line in lines[1:]}
    assert "carrier (auto: https://status.example.com/api?…)" in table["sources"]
    assert "10.0.0.0/8, fd00::/8" in table["allow_networks"]
    assert "  1, 2.5  " in table["retry_schedule"]
    assert table["max_seconds"].split() == ["max_seconds", "55", "default"]
    assert table["concurrency"].endswith(f"file {path}")


# --- docs/configuration.md --------------------------------------------------------------------------------------------


def table(heading: str) -> dict[str, list[str]]:
    """The rows of the table below a heading, by their first cell."""
    section = re.split(rf"^## {heading}$", PAGE, flags=re.MULTILINE)[1].partition("\n## ")[0]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in re.findall(r"^\|.*\|$", section, re.M)]
    return {row[0].strip("`"): row[1:] for row in rows[2:]}


def default(f: Field[Any]) -> str:
    value = f.default if f.default is not MISSING else None
    if isinstance(value, tuple):
        return ",".join(f"{item:g}" for item in value)
    return f"{value:g}" if isinstance(value, int | float) else value or ""


COMPUTED = {
    "database_url": "`~/.local/share/monitor-cli/monitor.db`",
    "archive_dir": "`~/.local/share/monitor-cli/archive`",
}


def test_the_page_lists_every_setting() -> None:
    rows, placed = table("Settings"), {"database_url": "monitor.db", "archive_dir": "archive"}
    assert list(rows) == [f.name for f in config.names()], "docs/configuration.md: a row for each setting, in order"
    for f in config.names():
        environment, said, meaning = rows[f.name]
        assert environment == ("" if f.name == "sources" else f"`{config.env_name(f.name)}`")
        assert said == (f"`~/.local/share/monitor-cli/{placed[f.name]}`" if f.name in placed else default(f)), f.name
        assert meaning


def test_the_page_lists_every_key_of_a_source() -> None:
    rows = table("Sources")
    assert list(rows) == [f.name for f in fields(Source)]
    for f in fields(Source):
        assert rows[f.name][0] == default(f), f.name


def test_the_files_shown_in_the_docs_can_be_read(cli: Cli, tmp_path: Path) -> None:
    examples = [block for page in ("README.md", "docs/configuration.md") for block in toml_of(ROOT / page)]
    assert len(examples) == 2
    for text in examples:
        for path in re.findall(r"/etc/monitor-cli/[\w.-]+", text):
            (tmp_path / Path(path).name).write_text("[client]\n" if path.endswith(".cnf") else "sqlite:///x.db")
        (tmp_path / "config.toml").write_text(text.replace("/etc/monitor-cli", str(tmp_path)))
        cli("--config", str(tmp_path / "config.toml"), "config", "check").quiet()


def toml_of(page: Path) -> list[str]:
    return re.findall(r"```toml\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


def test_an_option_file_that_is_none_is_refused_without_a_word_of_it(make_cli: Any, tmp_path: Path) -> None:
    (tmp_path / "my.cnf").write_text("password=hunter2\n[client]\n")
    result = make_cli(f"mysql+pymysql://127.0.0.1:1/x?read_default_file={tmp_path}/my.cnf")("account", "list")
    assert result.code == 78
    assert "no MySQL option file" in result.err
    assert "hunter2" not in result.err


def test_the_embedded_database_is_its_owners_alone(make_cli: Any, tmp_path: Path) -> None:
    make_cli(f"sqlite:///{tmp_path}/own.db").ok("db", "upgrade")
    assert (tmp_path / "own.db").stat().st_mode & 0o777 == 0o600
