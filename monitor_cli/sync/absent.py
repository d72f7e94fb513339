"""What a source that lists only what is affected says about the servers that it does not name: they are operational.

With several sources a tag that none of them names may be any one's, and most keep the status of what is absent. So it
counts only for a server whose newest change is that source's, and for one that has no change yet of a source that is
still there, once all sources have been read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from monitor_cli.db import Connection
from monitor_cli.store import history
from monitor_cli.wrapping import Observation, Observed


def said_by_silence(
    conn: Connection, observed: Observed, unnamed: Mapping[str, Sequence[int]], *, all_read: bool
) -> dict[str, Observation]:
    """Of the tags that no source names (with their rows' ids) those that are operational for it. `all_read`: there
    are no sources but those that were read."""
    if not observed.absent or not unnamed:
        return {}
    alone = all_read and len(observed.unknown) == 1
    newest = {} if alone else history.last_sources(conn, [ids[0] for ids in unnamed.values()])
    found: dict[str, Observation] = {}
    for tag, ids in unnamed.items():
        source = newest.get(ids[0], "")
        own = observed.absent.get(source)
        if own and own.covers(tag):
            said: Observation | None = own.said
        else:
            said = observed.silence(tag) if all_read and source not in observed.unknown else None
        if said is not None:
            found[tag] = said
    return found
