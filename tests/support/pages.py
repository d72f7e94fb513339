"""Status pages of our own, made after the formats as they are documented: what each product serves where, and what its
components are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from monitor_cli.types import Type

OPERATIONAL, WARNING, CRITICAL = Type.OPERATIONAL, Type.WARNING, Type.CRITICAL
ULID = "01ABCDEFGHJKMNPQRSTVWXYZ"  # and two more


@dataclass(frozen=True)
class Page:
    """A page: `serves` documents at paths; `documents` are the ones that matter. `expected`: of each component its
    word, its type (None: the row keeps its status), and the title of what names it."""

    provider: str
    serves: dict[str, Any]
    documents: list[Any]
    expected: dict[str, tuple[str, Type | None, str | None]]
    urls: tuple[str, ...]  # paths that can be given, the page's address first
    only_affected: bool = False
    unknown: set[str] = field(default_factory=set)


def ulid(name: str) -> str:
    return ULID + name


# --- Statuspage and incident.io ---------------------------------------------------------------------------------------

STATUSPAGE_SUMMARY = {
    "page": {"id": "kctbh9vrtdwd", "name": "Voice", "url": "https://status.voice.example"},
    "status": {"indicator": "minor", "description": "Partly degraded"},
    "components": [
        {
            "id": "g0000000000g",
            "name": "Asia",
            "status": "partial_outage",
            "group": True,
            "components": ["a1b2c3d4e5f6"],
        },
        {"id": "a1b2c3d4e5f6", "name": "Mumbai", "status": "major_outage", "group": False, "group_id": "g0000000000g"},
        {"id": "b1b2c3d4e5f6", "name": "Delhi", "status": "under_maintenance", "group": False, "group_id": None},
        {"id": "c1b2c3d4e5f6", "name": "Pune", "status": "operational", "group": False, "group_id": None},
        {"id": "d1b2c3d4e5f6", "name": "Goa", "status": "smouldering", "group": False, "group_id": None},
    ],
    "incidents": [
        {
            "id": "i1b2c3d4e5f6",
            "name": "Calls fail",
            "status": "identified",
            "components": [{"id": "a1b2c3d4e5f6"}, {"id": "c1b2c3d4e5f6"}],
        }
    ],
    "scheduled_maintenances": [
        {"id": "m1b2c3d4e5f6", "name": "Next week", "status": "scheduled", "components": [{"id": "d1b2c3d4e5f6"}]}
    ],
}
STATUSPAGE = Page(
    "statuspage",
    {"/api/v2/summary.json": STATUSPAGE_SUMMARY},
    [STATUSPAGE_SUMMARY],
    {
        "g0000000000g": ("partial_outage", WARNING, None),
        "a1b2c3d4e5f6": ("major_outage", CRITICAL, "Calls fail"),
        "b1b2c3d4e5f6": ("under_maintenance", WARNING, None),
        "c1b2c3d4e5f6": ("operational", OPERATIONAL, "Calls fail"),
        "d1b2c3d4e5f6": ("smouldering", WARNING, None),
    },
    ("/", "/api/v2/summary.json"),
    unknown={"smouldering"},
)

_LISTED = [
    {"id": ulid(f"{n:02}"), "name": f"Component {n}", "status": "operational", "position": n, "page_id": ulid("PG")}
    for n in range(36)
]
_LISTED[30]["status"] = "full_outage"
_LISTED[31]["status"] = "degraded_performance"
INCIDENTIO_SUMMARY = {
    "page": {"id": ulid("PG"), "name": "Voice", "url": "https://status.voice.example/"},
    "status": {"indicator": "major", "description": "Partial outage"},
    "components": _LISTED[25::-1][:25],  # cut, and in an order of its own
    "incidents": None,
}
INCIDENTIO_LIST = {"components": _LISTED}
INCIDENTIO = Page(
    "incidentio",
    {"/api/v2/summary.json": INCIDENTIO_SUMMARY, "/api/v2/components.json": INCIDENTIO_LIST},
    [INCIDENTIO_LIST],
    {
        **{ulid(f"{n:02}"): ("operational", OPERATIONAL, None) for n in range(36)},
        ulid("30"): ("full_outage", CRITICAL, None),
        ulid("31"): ("degraded_performance", WARNING, None),
    },
    ("/", "/api/v2/components.json", "/api/v2/summary.json"),
)

INCIDENTIO_WIDGET = {
    "page_title": "Voice",
    "page_url": "https://status.voice.example",
    "ongoing_incidents": [
        {
            "id": ulid("I1"),
            "name": "Calls fail",
            "status": "monitoring",
            "url": "https://status.voice.example/incidents/1",
            "current_worst_impact": "partial_outage",
            "affected_components": [
                {"id": ulid("01"), "name": "Mumbai", "current_status": "full_outage"},
                {"id": ulid("02"), "name": "Delhi", "current_status": "operational"},
                {"id": ulid("03"), "name": "Pune", "group_name": "West"},
            ],
        }
    ],
    "in_progress_maintenances": [
        {"id": ulid("M1"), "name": "New racks", "affected_components": [{"id": ulid("04"), "name": "Goa"}]}
    ],
    "scheduled_maintenances": [
        {
            "id": ulid("M2"),
            "name": "Next week",
            "affected_components": [{"id": ulid("05"), "current_status": "under_maintenance"}],
        }
    ],
}
INCIDENTIO_AFFECTED = Page(
    "incidentio",
    {"/api/v1/summary": INCIDENTIO_WIDGET},
    [INCIDENTIO_WIDGET],
    {
        ulid("01"): ("full_outage", CRITICAL, "Calls fail"),
        ulid("02"): ("operational", OPERATIONAL, "Calls fail"),
        ulid("03"): ("partial_outage", WARNING, "Calls fail"),
        ulid("04"): ("under_maintenance", WARNING, "New racks"),
    },
    ("/", "/api/v1/summary"),
    only_affected=True,
)

_PROXY = {
    "summary": {
        "id": ulid("PG"),
        "components": [{"id": ulid(f"{n:02}"), "name": f"Component {n}"} for n in range(4)],
        "structure": {"items": []},
        "affected_components": [{"component_id": ulid("03"), "status": "degraded_performance"}],
        "ongoing_incidents": [
            {
                "name": "Calls fail",
                "status": "monitoring",
                "affected_components": [
                    {"component_id": ulid("01"), "status": "full_outage", "current_status": "operational"},
                    {"component_id": ulid("02"), "status": "full_outage", "current_status": "partial_outage"},
                ],
            }
        ],
        "scheduled_maintenances": [],
    }
}
INCIDENTIO_PROXY = Page(
    "incidentio",
    {"/proxy/status.voice.example": _PROXY},
    [_PROXY],
    {
        ulid("00"): ("operational", OPERATIONAL, None),
        ulid("01"): ("operational", OPERATIONAL, "Calls fail"),
        ulid("02"): ("partial_outage", WARNING, "Calls fail"),
        ulid("03"): ("degraded_performance", WARNING, None),
    },
    ("/proxy/status.voice.example",),
)

# --- Instatus ---------------------------------------------------------------------------------------------------------

INSTATUS_SUMMARY = {
    "page": {"name": "Voice", "url": "https://voice.instatus.com", "status": "HASISSUES"},
    "activeIncidents": [
        {
            "name": "Calls fail",
            "started": "Sat Jun 11 2022 18:55:50 GMT+0000 (Coordinated Universal Time)",
            "status": "IDENTIFIED",
            "impact": "MAJOROUTAGE",
            "url": "https://voice.instatus.com/1",
        }
    ],
}
INSTATUS_LIST = {
    "components": [
        {"id": "c1", "name": "Mumbai", "description": "", "status": "OPERATIONAL", "group": None},
        {"id": "c2", "name": "Delhi", "description": "", "status": "MINOROUTAGE", "group": "Asia"},
        {
            "id": "c3",
            "name": "Pune",
            "description": "",
            "status": "PARTIALOUTAGE",
            "group": {"id": "g", "name": "Asia"},
        },
        {"id": "c4", "name": "Goa", "description": "", "status": "MAJOROUTAGE", "group": None},
        {"id": "c5", "name": "Surat", "description": "", "status": "UNDERMAINTENANCE", "group": None},
        {"id": "c6", "name": "Agra", "description": "", "status": "DEGRADEDPERFORMANCE", "group": None},
    ]
}
INSTATUS = Page(
    "instatus",
    {"/summary.json": INSTATUS_SUMMARY, "/v3/summary.json": INSTATUS_SUMMARY, "/v3/components.json": INSTATUS_LIST},
    [INSTATUS_LIST],
    {
        "c1": ("OPERATIONAL", OPERATIONAL, None),
        "c2": ("MINOROUTAGE", WARNING, None),
        "c3": ("PARTIALOUTAGE", WARNING, None),
        "c4": ("MAJOROUTAGE", CRITICAL, None),
        "c5": ("UNDERMAINTENANCE", WARNING, None),
        "c6": ("DEGRADEDPERFORMANCE", WARNING, None),
    },
    ("/", "/v3/components.json", "/summary.json", "/v3/summary.json"),
)
_BARE = [
    {
        "id": "p1",
        "name": "Asia",
        "status": "OPERATIONAL",
        "isParent": True,
        "children": [
            {"id": "p2", "name": "Mumbai", "status": "MAJOROUTAGE", "isParent": False, "children": []},
            {"id": "p3", "name": "Delhi", "status": "ODD", "isParent": False, "children": None},
        ],
    }
]
INSTATUS_BARE = Page(
    "instatus",
    {"/v2/components.json": _BARE},
    [_BARE],
    {
        "p1": ("OPERATIONAL", OPERATIONAL, None),
        "p2": ("MAJOROUTAGE", CRITICAL, None),
        "p3": ("ODD", WARNING, None),
    },
    ("/", "/v2/components.json"),
    unknown={"ODD"},
)

# --- Cachet -----------------------------------------------------------------------------------------------------------


def cachet_v2(data: list[dict[str, Any]], page: int = 1, pages: int = 1, place: str = "components") -> dict[str, Any]:
    following = f"http://cachet.internal/api/v1/{place}?page={page + 1}" if page < pages else None
    return {
        "meta": {
            "pagination": {
                "total": len(data),
                "count": len(data),
                "per_page": 20,
                "current_page": page,
                "total_pages": pages,
                "links": {"next_page": following, "previous_page": None},
            }
        },
        "data": data,
    }


def _component_v2(key: int, status: Any, **more: Any) -> dict[str, Any]:
    return {
        "id": key,
        "name": f"Component {key}",
        "status": status,
        "group_id": 0,
        "enabled": True,
        "order": 0,
        "status_name": "Irgendwie",
        "tags": {"": ""},
        **more,
    }


CACHET_V2_FIRST = cachet_v2([_component_v2(1, "1"), _component_v2(2, 2, group_id=7)], 1, 2)
CACHET_V2_SECOND = cachet_v2(
    [
        _component_v2(3, "3"),
        _component_v2(4, 4),
        _component_v2(5, 0),
        _component_v2(6, 9),
        _component_v2(7, 4, enabled=False),
    ],
    2,
    2,
)


def _incident_v2(key: int, component: int, status: int, name: str, **more: Any) -> dict[str, Any]:
    return {"id": key, "component_id": component, "name": name, "status": status, "message": "…", "visible": 1, **more}


CACHET_V2_INCIDENTS = cachet_v2(
    [
        _incident_v2(4, 4, 1, "Calls fail", latest_status=2, permalink="https://cachet.example/incidents/4"),
        _incident_v2(3, 4, 1, "Older", occurred_at="2026-01-01 00:00:00"),
        _incident_v2(2, 3, 1, "Over", latest_status=4),
        _incident_v2(1, 1, 0, "Next week"),
        _incident_v2(5, 0, 1, "About nothing"),
    ],
    place="incidents",
)
CACHET_V2 = Page(
    "cachet",
    {
        "/api/v1/components": CACHET_V2_FIRST,
        "/api/v1/components?page=2": CACHET_V2_SECOND,
        "/api/v1/components?per_page=100&sort=id&page=2": CACHET_V2_SECOND,
        "/api/v1/incidents": CACHET_V2_INCIDENTS,
    },
    [CACHET_V2_FIRST, CACHET_V2_SECOND, CACHET_V2_INCIDENTS],
    {
        "1": ("operational", OPERATIONAL, None),
        "2": ("performance_issues", WARNING, None),
        "3": ("partial_outage", WARNING, None),
        "4": ("major_outage", CRITICAL, "Calls fail"),
        "5": ("unknown", WARNING, None),
        "6": ("Irgendwie", WARNING, None),
    },
    ("/", "/api/v1/components"),
    unknown={"Irgendwie"},
)


def _component_v3(key: int, status: int, latest: int | None = None, **more: Any) -> dict[str, Any]:
    own: dict[str, Any] = {"id": key, "name": f"Component {key}", "status": {"human": "Wie", "value": status}}
    if latest is not None:
        own["latest_status"] = {"human": "Wie", "value": latest}
    return {"id": str(key), "type": "components", "attributes": {**own, "enabled": True, **more}}


CACHET_V3_FIRST = {
    "data": [_component_v3(1, 1, 1), _component_v3(2, 1, 4)],
    "links": {"first": "http://localhost/api/components?page=1", "next": "http://localhost/api/components?page=2"},
    "meta": {"current_page": 1, "per_page": 15},
}
CACHET_V3_SECOND = {
    "data": [
        _component_v3(3, 6),
        _component_v3(4, 5, 5),
        {"id": "5", "type": "components", "attributes": {"id": 5, "name": "Old form", "status": 3}},
        _component_v3(6, 4, enabled=False),
    ],
    "links": {"first": "http://localhost/api/components?page=1", "next": None},
    "meta": {"current_page": 2, "per_page": 15},
}


def _incident_v3(key: int, status: int, name: str, *components: int) -> dict[str, Any]:
    return {
        "id": str(key),
        "type": "incidents",
        "attributes": {"id": key, "name": name, "status": {"human": "Wie", "value": status}},
        "relationships": {"components": {"data": [{"id": str(c), "type": "components"} for c in components]}},
    }


CACHET_V3_INCIDENTS = {
    "data": [_incident_v3(9, 0, "Calls fail", 2, 3), _incident_v3(8, 4, "Over", 1), _incident_v3(7, 2, "Older", 2)],
    "links": {"next": None},
    "meta": {"current_page": 1},
}
CACHET_V3 = Page(
    "cachet",
    {
        "/api/components": CACHET_V3_FIRST,
        "/api/components?page=2": CACHET_V3_SECOND,
        "/api/components?per_page=100&sort=id&page=2": CACHET_V3_SECOND,
        "/api/incidents": CACHET_V3_INCIDENTS,
    },
    [CACHET_V3_FIRST, CACHET_V3_SECOND, CACHET_V3_INCIDENTS],
    {
        "1": ("operational", OPERATIONAL, None),
        "2": ("major_outage", CRITICAL, "Calls fail"),
        "3": ("under_maintenance", WARNING, "Calls fail"),
        "4": ("unknown", WARNING, None),
        "5": ("partial_outage", WARNING, None),
    },
    ("/", "/api/components"),
)

# --- Better Stack and Status.io ---------------------------------------------------------------------------------------


def _resource(key: str, status: str) -> dict[str, Any]:
    attributes = {
        "public_name": f"Resource {key} ",
        "status": status,
        "status_page_section_id": 7,
        "availability": 0.99,
    }
    return {"id": key, "type": "status_page_resource", "attributes": attributes}


def _report(title: str, kind: str, state: str, *resources: tuple[str, str]) -> dict[str, Any]:
    affected = [{"status_page_resource_id": key, "status": status} for key, status in resources]
    own = {
        "title": title,
        "report_type": kind,
        "aggregate_state": state,
        "ends_at": None,
        "affected_resources": affected,
    }
    return {"id": "9", "type": "status_report", "attributes": own}


_INDEX = {
    "data": {"id": "1", "type": "status_page", "attributes": {"aggregate_state": "downtime"}},
    "included": [
        {"id": "7", "type": "status_page_section", "attributes": {"name": "Asia"}},
        _resource("101", "operational"),
        _resource("102", "degraded"),
        _resource("103", "downtime"),
        _resource("104", "maintenance"),
        _resource("105", "not_monitored"),
        _report("Calls fail", "manual", "downtime", ("103", "downtime"), ("102", "resolved")),
        _report("Over", "manual", "resolved", ("102", "resolved")),
        _report("New racks", "maintenance", "maintenance", ("104", "maintenance"), ("101", "maintenance")),
        {"id": "8", "type": "status_update", "attributes": {"message": "…"}},
    ],
}
BETTERSTACK = Page(
    "betterstack",
    {"/index.json": _INDEX},
    [_INDEX],
    {
        "101": ("operational", OPERATIONAL, None),
        "102": ("degraded", WARNING, None),
        "103": ("downtime", CRITICAL, "Calls fail"),
        "104": ("maintenance", WARNING, "New racks"),
        "105": ("not_monitored", None, None),
    },
    ("/", "/index.json"),
)

PAGE_ID = "51f6f2088643809b7200000d"


def _statusio(key: str, code: int, word: str, **more: Any) -> dict[str, Any]:
    return {"id": key, "name": f"Name of {key}", "status": word, "status_code": code, **more}


_RESULT = {
    "result": {
        "status_overall": {"status": "Service Disruption", "status_code": 500, "updated": "2026-01-01T00:00:00.000Z"},
        "status": [
            _statusio("a1", 100, "Operational", containers=[_statusio("c1", 100, "Operational")]),
            _statusio(
                "a2", 200, "Planned Maintenance", containers=[_statusio("c1", 400, "Partial Service Disruption")]
            ),
            _statusio("a3", 300, "Degraded Performance", containers=[]),
            _statusio("a4", 500, "Panne", containers=[_statusio("c2", 500, "Panne")]),
            _statusio("a5", 600, "Security Event", containers=None),
            _statusio("a6", 700, "Strange"),
        ],
        "incidents": [
            {
                "_id": "i1",
                "name": "Calls fail",
                "datetime_open": "2026-01-02T00:00:00.000Z",
                "components_affected": [{"_id": "a4", "name": "x"}],
                "containers_affected": [{"_id": "c2", "name": "y"}],
            }
        ],
        "maintenance": {
            "active": [{"_id": "m1", "name": "New racks", "components_affected": [{"_id": "a2"}]}],
            "upcoming": [{"_id": "m2", "name": "Next week", "components_affected": [{"_id": "a1"}]}],
        },
    }
}
STATUSIO = Page(
    "statusio",
    {f"/1.0/status/{PAGE_ID}": _RESULT},
    [_RESULT],
    {
        "a1": ("Operational", OPERATIONAL, None),
        "c1": ("Partial Service Disruption", WARNING, None),
        "a2": ("Planned Maintenance", WARNING, "New racks"),
        "a3": ("Degraded Performance", WARNING, None),
        "a4": ("Panne", CRITICAL, "Calls fail"),
        "c2": ("Panne", CRITICAL, "Calls fail"),
        "a5": ("Security Event", WARNING, None),
        "a6": ("Strange", WARNING, None),
    },
    (f"/pages/{PAGE_ID}", f"/1.0/status/{PAGE_ID}"),
    unknown={"Strange"},
)

# --- Google -----------------------------------------------------------------------------------------------------------


def google_incident(impact: str, *products: str, end: Any = None, begin: str = "2026-01-01T00:00:00+00:00") -> Any:
    incident: dict[str, Any] = {
        "id": "inc",
        "number": "1",
        "begin": begin,
        "external_desc": f"{impact} of {', '.join(products)}",
        "status_impact": impact,
        "most_recent_update": {"status": "AVAILABLE"},
        "service_key": "zall",
        "affected_products": [{"id": key, "title": f"Title {key}", "current_title": "New"} for key in products],
        "uri": "incidents/inc",
    }
    if end is not None:
        incident["end"] = end
    return incident


GOOGLE_INCIDENTS = [
    google_incident("SERVICE_OUTAGE", "vm", "sql"),
    google_incident("SERVICE_DISRUPTION", "sql", "dns", begin="2026-02-01T00:00:00+00:00"),
    google_incident("SERVICE_INFORMATION", "iam"),
    google_incident("SERVICE_OUTAGE", "run", end="2026-01-01T01:00:00+00:00"),
]
GOOGLE_INCIDENTS[2]["end"] = None
_AFFECTED = {
    "vm": ("SERVICE_OUTAGE", CRITICAL, "SERVICE_OUTAGE of vm, sql"),
    "sql": ("SERVICE_OUTAGE", CRITICAL, "SERVICE_OUTAGE of vm, sql"),
    "dns": ("SERVICE_DISRUPTION", WARNING, "SERVICE_DISRUPTION of sql, dns"),
    "iam": ("SERVICE_INFORMATION", OPERATIONAL, "SERVICE_INFORMATION of iam"),
}
GOOGLE = Page(
    "google-cloud",
    {"/incidents.json": GOOGLE_INCIDENTS},
    [GOOGLE_INCIDENTS],
    _AFFECTED,
    ("/", "/incidents.json"),
    only_affected=True,
)
_PRODUCTS = {"products": [{"title": f"Title {key}", "id": key} for key in ("iam", "run", "vm")]}
WORKSPACE = Page(
    "google-cloud",
    {"/appsstatus/dashboard/incidents.json": GOOGLE_INCIDENTS, "/appsstatus/dashboard/products.json": _PRODUCTS},
    [_PRODUCTS, GOOGLE_INCIDENTS],
    {**_AFFECTED, "run": ("operational", OPERATIONAL, None)},
    ("/appsstatus/dashboard", "/appsstatus/dashboard/", "/appsstatus/dashboard/incidents.json"),
    only_affected=True,
)

# --- Uptime Kuma, Upptime, Gatus --------------------------------------------------------------------------------------


def _beats(*status: int) -> list[Any]:
    return [
        {"status": one, "time": f"2026-01-01 00:0{n}:00.000", "msg": "", "ping": None} for n, one in enumerate(status)
    ]


KUMA_PAGE = {
    "config": {"slug": "voice", "title": "Voice"},
    "incidents": [{"id": 1, "style": "danger", "title": "About everything"}],
    "publicGroupList": [
        {"id": 1, "name": "Asia", "weight": 1, "monitorList": [{"id": n, "name": f"M {n}"} for n in (1, 2, 3, 4, 5)]},
        {"id": 2, "name": "Empty", "weight": 2, "monitorList": []},
    ],
    "maintenanceList": [],
}
KUMA_BEATS = {
    "heartbeatList": {
        "1": _beats(0, 0, 1),
        "2": _beats(1, 1, 0),
        "3": _beats(1, 2),
        "4": _beats(0, 3),
        "5": [],
        "6": [0, *_beats(0, 1), 0],
        "7": _beats(8),
    },
    "uptimeList": {"1_24": 0.5},
}
KUMA = Page(
    "uptime-kuma",
    {"/api/status-page/voice": KUMA_PAGE, "/api/status-page/heartbeat/voice": KUMA_BEATS},
    [KUMA_PAGE, KUMA_BEATS],
    {
        "1": ("up", OPERATIONAL, None),
        "2": ("down", CRITICAL, None),
        "3": ("pending", WARNING, None),
        "4": ("maintenance", WARNING, None),
        "5": ("no beats", None, None),
        "6": ("up", OPERATIONAL, None),
        "7": ("status 8", WARNING, None),
    },
    ("/status/voice", "/status/Voice/", "/api/status-page/voice", "/api/status-page/heartbeat/voice"),
    unknown={"status 8"},
)
KUMA_HOST = Page(
    "uptime-kuma",
    {**KUMA.serves, "/api/entry-page": {"type": "statusPageMatchedDomain", "statusPageSlug": "voice"}},
    KUMA.documents,
    KUMA.expected,
    ("/",),
    unknown={"status 8"},
)


def _site(slug: str, status: str) -> dict[str, Any]:
    return {
        "name": f"Site {slug}",
        "url": "https://x.example",
        "slug": slug,
        "status": status,
        "uptime": "99.9%",
        "time": 1,
    }


_SITES = [_site("mumbai", "up"), _site("delhi", "down"), _site("pune", "degraded"), _site("goa", "asleep")]
UPPTIME = Page(
    "upptime",
    {"/voice/status/master/history/summary.json": _SITES},
    [_SITES],
    {
        "mumbai": ("up", OPERATIONAL, None),
        "delhi": ("down", CRITICAL, None),
        "pune": ("degraded", WARNING, None),
        "goa": ("asleep", WARNING, None),
    },
    ("/voice/status/master", "/voice/status/master/history/summary.json"),
    unknown={"asleep"},
)


def _endpoint(group: str, name: str, *success: bool, **more: Any) -> dict[str, Any]:
    results = [{"status": 200, "hostname": "h", "duration": 1, "success": one} for one in success]
    return {"name": name, "group": group, "key": f"{group}_{name}", "results": results, **more}


_ENDPOINTS = [
    _endpoint("asia", "mumbai", False, True),
    _endpoint("asia", "delhi", True, False),
    _endpoint("", "pune"),
    _endpoint("asia", "goa", results=None),
]
_GATUS = {
    "asia_mumbai": ("up", OPERATIONAL, None),
    "asia_delhi": ("down", CRITICAL, None),
    "_pune": ("?", None, None),
    "asia_goa": ("?", None, None),
}
GATUS = Page(
    "gatus",
    {"/api/v1/endpoints/statuses": _ENDPOINTS},
    [_ENDPOINTS],
    _GATUS,  # type: ignore[arg-type]
    ("/", "/api/v1/endpoints/statuses", "/api/v1/endpoints/statuses?page=1&pageSize=20"),
)
_OLD = {
    key: {name: value for name, value in entry.items() if name != "key"}
    for key, entry in zip(_GATUS, _ENDPOINTS, strict=True)
}
GATUS_OLD = Page(
    "gatus", {"/api/v1/statuses": _OLD}, [_OLD], _GATUS, ("/", "/api/v1/statuses")  # type: ignore[arg-type]
)  # fmt: skip

# --- Statuspal and monitor --------------------------------------------------------------------------------------------


def _service(key: int, kind: str | None, children: Any = None) -> dict[str, Any]:
    return {"id": key, "name": f"Service {key}", "parent_id": None, "current_incident_type": kind, "children": children}


STATUSPAL_STATUS = {"status_page": {"name": "Voice", "url": "voice.example", "current_incident_type": "major"}}
STATUSPAL_SUMMARY = {
    **STATUSPAL_STATUS,
    "services": [
        _service(1, None, [_service(2, "minor", [_service(3, "major", [])]), _service(4, "scheduled")]),
        _service(5, "custom-type"),
    ],
    "incidents": [
        {"id": 8, "title": "Calls fail", "type": "major", "service_ids": [3], "starts_at": "2026-01-02T00:00:00"},
        {"id": 9, "title": "Over", "type": "major", "service_ids": [1], "ends_at": "2026-01-01T00:00:00"},
    ],
    "maintenances": [{"id": 7, "title": "New racks", "type": "scheduled", "service_ids": [4], "ends_at": "2036-01-01"}],
    "upcoming_maintenances": [{"id": 6, "title": "Next week", "type": "scheduled", "service_ids": [1, 2]}],
}
STATUSPAL = Page(
    "statuspal",
    {
        "/api/v2/status_pages/voice/status": STATUSPAL_STATUS,
        "/api/v2/status_pages/voice/summary": STATUSPAL_SUMMARY,
    },
    [STATUSPAL_SUMMARY],
    {
        "1": ("operational", OPERATIONAL, None),
        "2": ("minor", WARNING, None),
        "3": ("major", CRITICAL, "Calls fail"),
        "4": ("scheduled", WARNING, "New racks"),
        "5": ("custom-type", WARNING, None),
    },
    (
        "/api/v2/status_pages/voice",
        "/api/v2/status_pages/voice/summary",
        "/api/v2/status_pages/voice/status",
    ),
    unknown={"custom-type"},
)


def _region(code: str, kind: str, *numbers: str) -> dict[str, Any]:
    return {"region": f"r{code}", "region_code": code, "type": kind, "service": "all", "numbers": list(numbers)}


MONITOR_JSON = {
    "status": "200",
    "message": "OK",
    "data": {
        "incidents": [
            _region("", "critical", "+1"),
            _region("KA-IN", "critical", "+2", "+3"),
            _region("KA-IN", "operational", "+4"),
            _region("MH-IN", "operational", "+5"),
            _region("TN-IN", "warning", "+6"),
        ]
    },
}
MONITOR = Page(
    "monitor",
    {"/v1/?method=monitor": MONITOR_JSON, "/v1/?api_key=SECRET&method=monitor": MONITOR_JSON},
    [MONITOR_JSON],
    {
        "KA-IN": ("critical", CRITICAL, None),
        "MH-IN": ("operational", OPERATIONAL, None),
        "TN-IN": ("warning", WARNING, None),
    },
    ("/", "/v1/", "/v1/?api_key=SECRET", "/?api_key=SECRET", "/v1/?api_key=SECRET&method=monitor"),
)

PAGES = {
    name.lower(): page
    for name, page in sorted(globals().items())
    if isinstance(page, Page)
}  # fmt: skip
