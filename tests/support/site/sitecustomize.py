"""Guards the Python processes that tests start; Python imports this by itself from PYTHONPATH (see network_guard)."""

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location(
    "network_guard", Path(__file__).resolve().parent.parent / "network_guard.py"
)
assert _spec is not None
assert _spec.loader is not None
_guard = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_guard)
_guard.install()
