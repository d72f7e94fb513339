"""The suite's fixtures: real stores (`engine`, `database`), the real command line (`cli`), real HTTP servers
(`receiver`, `status_page`), rows (`world`), samples, and a guard that keeps every test on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import settings

from tests.support import network_guard

# Before anything of the product is imported: from here on nothing leaves this machine.
network_guard.install()

from tests.support.cli import Cli, Result  # noqa: E402
from tests.support.http import Receiver, StatusPage  # noqa: E402
from tests.support.mariadb import MariaDB, MariaDBMissing  # noqa: E402
from tests.support.stores import MySQLStores, RemoteServer, SQLiteStores, Store  # noqa: E402
from tests.support.world import World  # noqa: E402

settings.register_profile("suite", deadline=None)  # no test asserts a time
settings.load_profile("suite")

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT.parent / "shared" / "samples"
MYSQL_URL = os.environ.get("MONITOR_TEST_MYSQL_URL")
STORES = ["sqlite", "mariadb", *(["mysql"] if MYSQL_URL else [])]

# Nobody's settings and no proxy get into a test.
for _name in list(os.environ):
    if (_name.startswith("MONITOR_") and _name != "MONITOR_TEST_MYSQL_URL") or _name.lower().endswith("_proxy"):
        del os.environ[_name]


# --- several workers (make test: pytest-xdist) ------------------------------------------------------------------------


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` means: one more than cores, since the suite waits more than it works. Each has a MariaDB of its
    own, so there is a limit."""
    return min(len(os.sched_getaffinity(0)) + 1, 8)


# The files that take longest, longest first (`--durations=0` says): begun last, one would keep a worker busy alone.
LONGEST = (
    "test_fault.py",
    "test_callback_rules.py",
    "test_delivery_corners.py",
    "test_api_operation.py",
    "test_migrate_adoption.py",
    "test_api_server.py",
    "test_demo.py",
    "test_archive.py",
    "test_sync_lease.py",
    "test_admin_server.py",
    "test_api.py",
    "test_sync.py",
    "test_check.py",
    "test_migrate.py",
    "test_no_secrets.py",
    "test_planning.py",
    "test_upgrading.py",
    "test_many_workers.py",
    "test_wheel.py",
    "test_readme.py",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where the files go to several workers (each whole to one: --dist loadfile), the longest are begun first."""
    if hasattr(config, "workerinput"):
        place = {name: number for number, name in enumerate(LONGEST)}
        items.sort(key=lambda item: place.get(item.path.name, len(place)))


# --- the network guard ------------------------------------------------------------------------------------------------


def _fail_on_violations() -> None:
    if found := network_guard.taken():
        pytest.fail("the network guard refused: " + "; ".join(found), pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, object, object]:
    result = yield
    _fail_on_violations()
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    result = yield
    _fail_on_violations()
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None, object, object]:
    result = yield
    _fail_on_violations()
    return result


@pytest.fixture
def hosts() -> Iterator[dict[str, list[str]]]:
    """Names that resolve in this test, in this process and in those that `cli` starts: hosts["a.test"] = ["127.0.0.1"].
    Other names under .test, .example and .invalid do not exist."""
    yield network_guard.hosts
    network_guard.hosts.clear()


# --- stores -----------------------------------------------------------------------------------------------------------


def _left_out(reason: str) -> NoReturn:
    """Skip what this machine cannot run; where CI=true it must run, and is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"with CI=true nothing may be left out: {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    """A private MariaDB server for the session. A test that kills or stops one takes `own_mariadb`."""
    try:
        server = MariaDB()
    except MariaDBMissing as missing:
        _left_out(f"{missing}; on Debian: apt-get install mariadb-server-core")
    with server:
        yield server


@pytest.fixture
def own_mariadb(mariadb: MariaDB) -> Iterator[MariaDB]:
    """A server of this test's own: kill it, restart it."""
    with MariaDB() as server:
        yield server


@pytest.fixture(scope="session")
def _stores(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], object]:
    made: dict[str, SQLiteStores | MySQLStores] = {}

    def get(name: str) -> SQLiteStores | MySQLStores:
        if name not in made:
            if name == "sqlite":
                made[name] = SQLiteStores(tmp_path_factory.mktemp("template"))
            elif name == "mariadb":
                made[name] = MySQLStores(name, request.getfixturevalue("mariadb"))
            else:
                server = RemoteServer(MYSQL_URL or "")
                network_guard.allowed_hosts.add(server.host)
                made[name] = MySQLStores(name, server)
        return made[name]

    return get


@pytest.fixture(params=STORES)
def engine(request: pytest.FixtureRequest, tmp_path: Path, _stores: Callable[[str], SQLiteStores]) -> Iterator[Store]:
    """A fresh empty database on each store: `.name`, `.url`, `.database`, `.read()`, `.write()`."""
    stores = _stores(request.param)
    store = stores.empty(tmp_path)
    yield store
    stores.drop(store)


@pytest.fixture
def database(engine: Store, _stores: Callable[[str], SQLiteStores]) -> Store:
    """The same, upgraded to head."""
    _stores(engine.name).upgraded(engine)
    return engine


@pytest.fixture
def sqlite_database(tmp_path: Path, _stores: Callable[[str], SQLiteStores]) -> Iterator[Store]:
    """An upgraded SQLite database alone, for what has nothing to do with the store."""
    stores = _stores("sqlite")
    store = stores.empty(tmp_path)
    stores.upgraded(store)
    yield store
    stores.drop(store)


@pytest.fixture
def world(database: Store) -> World:
    """Builders of rows in `database`."""
    return World(database)


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture
def make_cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str | None], Cli]]:
    """make_cli(url): monitor-cli on another database than `cli`'s (None: none configured)."""
    made: list[Cli] = []

    def make(url: str | None) -> Cli:
        made.append(Cli(url, tmp_path_factory.mktemp("home")))
        return made[-1]

    yield make
    for cli in made:
        cli.close()


@pytest.fixture
def cli(database: Store, make_cli: Callable[[str | None], Cli]) -> Cli:
    """monitor-cli on `database`: cli("server", "list"), .process(…), .start(…)."""
    return make_cli(database.url)


@pytest.fixture
def run_process(cli: Cli) -> Callable[..., Result]:
    """The installed script as a process of its own: run_process("incident-sync").code."""
    return cli.process


# --- HTTP -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A customer's HTTP server."""
    with Receiver() as server:
        yield server


@pytest.fixture
def status_page() -> Iterator[StatusPage]:
    """A status page's HTTP server."""
    with StatusPage() as server:
        yield server


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of captured documents beside the checkout; tests that read it are left out where it is missing."""
    if not SAMPLES.is_dir():
        pytest.skip("the captured documents (shared/samples beside the checkout) are not on this machine")
    return SAMPLES
