"""The wheel works with no checkout at hand: built from a copy of the sources, installed into an environment of its own,
called from an empty directory. Nothing is downloaded: what it needs is taken from this environment."""

from __future__ import annotations

import configparser
import os
import shutil
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.support import network_guard

ROOT = Path(__file__).resolve().parent.parent
SOURCES = (
    "monitor_cli",
    "alembic",
    "man",
    "contrib",
    "crontab.example",
    "setup.cfg",
    "pyproject.toml",
    "README.md",
    "LICENSE",
)


def call(*command: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
    # Only for processes under the guard: setuptools' builds spawn nothing that talks to the network.
    guarded = network_guard.child_environment(str(cwd / ".violations"))
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**kept, **guarded, "HOME": str(cwd), "LANG": "C.UTF-8", "PIP_NO_INDEX": "1", **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert not (cwd / ".violations").exists()
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without the network from a copy: a build leaves files in the folder it builds from."""
    pytest.importorskip("setuptools", "77", reason="setuptools, which builds the wheel, is not in this environment")
    copy = tmp_path_factory.mktemp("sources")
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=ignored)
        else:
            shutil.copy(source, copy)
    made = tmp_path_factory.mktemp("wheel")
    options = ("--no-deps", "--no-build-isolation", "--wheel-dir", made)
    done = call(sys.executable, "-m", "pip", "wheel", "--quiet", *options, copy, cwd=copy)
    assert done.returncode == 0, done.stderr
    (wheel,) = made.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def script(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """monitor-cli of an environment that has the wheel, and this environment's other packages."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False, symlinks=True)
    packages = next(home.glob("lib/python*/site-packages"))
    # A plain path: .pth files over there, and so the editable install of the checkout, do not count here.
    (packages / "others.pth").write_text("\n".join(site.getsitepackages()))
    python = home / "bin" / "python"
    done = call(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        wheel,
        cwd=home,
    )
    assert done.returncode == 0, done.stderr
    return home / "bin" / "monitor-cli"


def test_every_module_and_migration_is_in_it(wheel: Path) -> None:
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "monitor_cli").rglob("*.py")}
    migrations = {
        f"monitor_cli/migrations/{path.relative_to(ROOT / 'alembic')}" for path in (ROOT / "alembic").rglob("*.py")
    }
    assert {name for name in inside if ".data/" not in name} == {*modules, *migrations, "monitor_cli/py.typed"}


def test_man_pages_and_samples_come_with_it(script: Path) -> None:
    """Beside bin/, where `man` looks with that bin on the PATH, and where docs/install.md says."""
    share = script.parent.parent / "share"
    pages = {file.name for file in (ROOT / "man").glob("*.1")}
    assert len(pages) > 10
    assert {file.name for file in (share / "man" / "man1").glob("monitor-cli*")} == pages
    samples = {file.relative_to(ROOT / "contrib"): file for file in (ROOT / "contrib").rglob("*.*") if file.is_file()}
    for place, file in {**samples, Path("crontab.example"): ROOT / "crontab.example"}.items():
        assert (share / "monitor-cli" / place).read_bytes() == file.read_bytes()


def test_setup_names_every_package() -> None:
    """`packages` is a list by hand, since `find:` cannot be combined with the migrations."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", "utf-8")
    named = set(setup["options"]["packages"].split())
    folders = {path.parent for path in (ROOT / "monitor_cli").rglob("*.py")}
    found = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert named == {*found, "monitor_cli.migrations", "monitor_cli.migrations.versions"}


def test_upgrades_a_database_from_an_empty_directory(script: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'data' / 'monitor.db'}"
    empty = tmp_path / "empty"
    empty.mkdir()
    where = call(
        script.parent / "python", "-c", "import monitor_cli; print(monitor_cli.__file__)", cwd=empty
    ).stdout.strip()
    assert Path(where).is_relative_to(script.parent.parent)
    for command in (["upgrade"], ["upgrade"], ["check"], ["downgrade", "--yes"], ["upgrade"], ["check"]):
        done = call(script, "db", *command, cwd=empty, MONITOR_DATABASE_URL=url)
        assert (done.returncode, done.stderr) == (0, "")
    assert list(empty.iterdir()) == []


def test_its_metadata_names_what_it_needs(wheel: Path) -> None:
    (name,) = (name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("/METADATA"))
    metadata = zipfile.ZipFile(wheel).read(name).decode().lower()
    for needed in ("click", "sqlalchemy", "pymysql[rsa]", "alembic", "pycurl"):
        assert f"requires-dist: {needed}" in metadata
