"""What is due: hints for who claims, and for how long there is nothing to claim, read outside any lock."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection

from monitor_cli.dialect import decoded_rows, forced, is_mysql, now_text, statement
from monitor_cli.schema import callback, delivery

_DUE = f"ix_{delivery.name}_due_at"  # the index that the statements name


class Candidate(NamedTuple):
    """A delivery that seems due: a hint, from outside any lock."""

    id: int
    account_id: int
    destination: str


def candidates(
    conn: Connection,
    limit: int,
    full_pairs: Sequence[tuple[int, str]] = (),
    full: Collection[str] = (),
    other_than: Collection[int] = (),
    part: tuple[int, int] = (1, 0),
) -> list[Candidate]:
    """Of the deliveries that are due and free those that are so for the longest, in no order. `full_pairs` (account,
    destination) and the destinations `full` can take no more; accounts `other_than` these; of as many parts as `part`
    says first, the one with the number that it says then."""
    now = now_text(conn)
    values: dict[str, Any] = {"limit": limit}
    but = ""
    if part[0] > 1:
        values |= {"parts": part[0], "number": part[1]}
        but += " AND (d.id >> 6) % :parts = :number"  # on a cluster all of a node's ids may be odd
    if other_than:
        values["accounts"] = sorted(other_than)
        but += " AND c.account_id NOT IN (:accounts)"
    if full:
        values["places"] = sorted(full)
        but += " AND c.destination NOT IN :places"
    if full_pairs:
        values["pairs"] = sorted(full_pairs)
        but += " AND (c.account_id, c.destination) NOT IN :pairs"
    oldest = (
        f"FROM (SELECT d.id, c.account_id, c.destination FROM {delivery.name} d {forced(conn, _DUE)} "
        f"JOIN {callback.name} c ON c.id = d.callback_id WHERE d.due_at <= {now} AND d.lease_until <= {now}{but} "
        "ORDER BY d.due_at LIMIT :limit) due"
    )
    return decoded_rows(conn, Candidate, ("id", "account_id"), ("destination",), oldest, values)


def next_due(conn: Connection) -> int | None:
    """In how many milliseconds the next delivery comes due or free of a lease (0: now), None: there is none."""
    now, later = now_text(conn), "GREATEST" if is_mysql(conn) else "MAX"
    some = f"SELECT due_at, lease_until FROM {delivery.name} {forced(conn, _DUE)} WHERE due_at"
    soonest = (
        f"SELECT MIN({later}(due_at, lease_until)) - {now} FROM ("
        f"SELECT * FROM ({some} IS NOT NULL ORDER BY due_at LIMIT 500) oldest UNION ALL "
        f"SELECT * FROM ({some} > {now} ORDER BY due_at LIMIT 1) coming) found"  # behind however many that are held now
    )
    millis = conn.execute(statement(soonest, {})).scalar_one()
    return None if millis is None else max(0, millis)
