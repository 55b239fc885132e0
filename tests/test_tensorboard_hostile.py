"""What the Scaling tab's server makes of hostile names, questions, payloads and pages."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

pytest.importorskip("tensorboard")
pytest.importorskip("torch")

from tensorboard.plugins import base_plugin
from werkzeug.test import Client

from foretrain.flags import Flag, FlagKind
from foretrain.tensorboard.metadata import report_tag
from foretrain.tensorboard.plugin import FOLDER, ScalingPlugin
from hostile_names import HOSTILE_NAMES
from tab_demo import demo

GOOD = demo.demo_report(demo.SIZES[0]).to_json()
ROUTES = ("/runs", "/law", "/frontier", "/answer", "/run")


class Data:
    """A data provider with a tensor for each run, whatever it is called and whatever it holds."""

    def __init__(self, tensors: dict[str, Any], metric: str = "m") -> None:
        self.tensors, self.tag = tensors, report_tag(metric)

    def list_tensors(self, ctx: Any, **asked: Any) -> Any:
        return {run: {self.tag: SimpleNamespace(max_step=1, max_wall_time=1.0)} for run in self.tensors}

    def read_tensors(self, ctx: Any, *, run_tag_filter: Any, **asked: Any) -> Any:
        return {run: {self.tag: [SimpleNamespace(numpy=self.tensors[run])]} for run in run_tag_filter.runs}

    def list_scalars(self, ctx: Any, **asked: Any) -> Any:
        return {}


class Page:
    """Asks the plugin as a page does; the answer has to be strict JSON."""

    def __init__(self, tensors: dict[str, Any], metric: str = "m") -> None:
        plugin = ScalingPlugin(base_plugin.TBContext(data_provider=Data(tensors, metric)))
        self.routes = {route: Client(app) for route, app in plugin.get_plugin_apps().items()}

    def open(self, route: str, query: str = "", **how: Any) -> Any:
        return self.routes[route].open(f"{route}{query}", **{"method": "GET", **how})

    def ask(self, route: str, query: str = "") -> Any:
        answer = self.open(route, query)
        assert answer.status_code == 200, answer.text
        assert answer.mimetype == "application/json"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"

        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is no JSON")

        return json.loads(answer.data, parse_constant=refuse)


def tensor(text: str | bytes) -> Any:
    return np.array(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text, dtype=object)


def test_the_names_are_fifty_different_ones() -> None:
    assert len(set(HOSTILE_NAMES)) == len(HOSTILE_NAMES) == 50


def test_every_hostile_name_is_only_a_name() -> None:
    tensors = {}
    for i, name in enumerate(HOSTILE_NAMES):
        flag = Flag(FlagKind.SPIKE, 1, name, {name[:20]: 1.0})
        report = replace(
            demo.demo_report(20_000 + 400 * i),
            run=name,
            study="s",
            flags=(flag,) if i % 2 else (),
            doubts=(name,),
        )
        tensors[name] = tensor(report.to_json())
    page = Page(tensors)
    view = page.ask("/runs")
    assert sorted(run["name"] for run in view["runs"]) == sorted(HOSTILE_NAMES)
    assert view["unreadable"] == []
    for i, name in enumerate(HOSTILE_NAMES):
        found = page.ask("/run", f"?run={quote(name, safe='')}")
        assert found["name"] == name
        assert [flag["message"][:50] for flag in found["flags"]] == ([name[:50]] if i % 2 else [])
    law = page.ask("/law", f"?version={view['version']}&exclude=0")
    assert law["left_out"][0][0] == view["runs"][0]["name"]
    assert {final["name"] for final in law["finals"]} <= set(HOSTILE_NAMES)


@pytest.mark.parametrize("place", ["study", "metric", "axis", "params_key"])
def test_hostile_words_of_a_report_are_only_words(place: str) -> None:
    for name in HOSTILE_NAMES:
        report = demo.demo_report(20_000)
        if place == "params_key":
            report = replace(report, conventions={name: name}, excluded={name: 1})
        else:
            report = replace(report, **{place: name})
        page = Page({"a": tensor(report.to_json())}, name if place == "metric" else "m")
        view = page.ask("/runs")
        assert [run["name"] for run in view["runs"]] == ["a"]
        if place in ("study", "metric"):
            found = page.ask("/runs", f"?{place}={quote(name, safe='')}")[place]
            assert found == name or found == f"{name[:399]}…"


DEEP = '{"version": 1, "x": ' + "[" * 100_000 + "]" * 100_000 + "}"
BAD = {
    "empty": tensor(""),
    "half": tensor(GOOD[: len(GOOD) // 2]),
    "no object": tensor("[]"),
    "null": tensor("null"),
    "number": tensor("7"),
    "no version": tensor("{}"),
    "later": tensor('{"version": 99}'),
    "version in words": tensor('{"version": "one"}'),
    "version unknown": tensor('{"version": null}'),
    "deep": tensor(DEEP),
    "too large": tensor(GOOD[:-1] + ', "x": "' + "y" * 300_000 + '"}'),
    "not unicode": tensor(b"\xff\xfe" + GOOD.encode()),
    "nul": tensor("\0" * 64),
    "a pickle": tensor(b"\x80\x04\x95\x0e\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94."),
    "gzip": tensor(b"\x1f\x8b\x08\x00" + bytes(60)),
    "two strings": np.array([GOOD, GOOD], dtype=object),
    "no string": np.array([], dtype=object),
    "a float": np.array(math.nan),
    "many floats": np.zeros((512, 512)),
    "bytes of floats": tensor(struct.pack("<8d", *range(8))),
    "points in words": tensor(
        '{"version": 1, "run": "a", "metric": "m", "axis": "x", "step": 1, "points": "abc"}'
    ),
    "points of three": tensor('{"version":1,"run":"a","metric":"m","axis":"x","step":1,"points":[[1,2,3]]}'),
    "a curve of words": tensor('{"version":1,"run":"a","metric":"m","axis":"x","step":1,"curve":"abc"}'),
    "a flag of nothing": tensor('{"version":1,"run":"a","metric":"m","axis":"x","step":1,"flags":[{}]}'),
}


def test_bad_payloads_are_listed_and_hide_no_other() -> None:
    page = Page({**BAD, "good": tensor(GOOD)})
    view = page.ask("/runs")
    assert [run["name"] for run in view["runs"]] == ["good"]
    assert {name for name, _ in view["unreadable"]} == set(BAD)
    for name, reason in view["unreadable"]:
        assert len(reason) <= 400, name
        assert "Traceback" not in reason and "/site-packages/" not in reason
    assert "at most 262144 bytes" in dict(view["unreadable"])["too large"]
    assert page.ask("/runs", "?along=flops")["along"] == "flops"
    for name in BAD:
        assert page.ask("/run", f"?run={quote(name)}") == {"gone": True}


POINTS = '"points": [[10, 2], [20, 1.5]]'
ODD = {
    "huge numbers": '"points": [[1e308, 1e308], [10, 2], [20, 1.5]], "params": 1' + "0" * 300,
    "numbers beyond any": '"points": [[1e999, -1e999], [10, 2], [20, 1.5]], "planned": 1e999',
    "not a number": '"points": [[NaN, Infinity], [10, 2], [20, 1.5]]',
    "keys twice": f'"points": [[1, 1]], {POINTS}',
    "true and false": f'{POINTS}, "params": true, "planned": false',
    "lists for words": f'{POINTS}, "state": ["a"], "status": {{"a": 1}}, "sentence": [[[]]]',
    "many of all": f'{POINTS}, "doubts": {json.dumps(["d"] * 5000)}, '
    f'"excluded": {json.dumps(dict.fromkeys(map(str, range(5000)), 1))}',
    "a curve without ends": f'{POINTS}, "curve": {{"x": [1, 2], "median": [], "lower": {{}}, "upper": {{}}}}',
    "a curve of odd length": f'{POINTS}, "curve": {{"x": [1, 2, 3], "median": [3, "a", null], '
    '"lower": {"0.9": [1]}, "upper": {"0.9": []}}',
    "a history of others": f'{POINTS}, "history": {{"counts": {{"tokens": [1]}}, "rates": [1, 2, 3]}}',
}


@pytest.mark.parametrize("what", ODD)
def test_odd_values_are_shown_as_far_as_they_make_sense(what: str) -> None:
    text = f'{{"version": 1, "run": "a", "metric": "m", "axis": "samples", "step": 1, {ODD[what]}}}'
    good = replace(demo.demo_report(demo.SIZES[0]), study="default")
    page = Page({"odd": tensor(text), "good": tensor(good.to_json())})
    view = page.ask("/runs")
    assert view["unreadable"] == []
    found = {run["name"]: run for run in view["runs"]}
    assert set(found) == {"odd", "good"}
    assert found["odd"]["points"][:2] == [[10, 2], [20, 1.5]]
    assert len(json.dumps(found["odd"])) < 4000
    for along in ("tokens", "flops", "params"):
        assert len(page.ask("/runs", f"?along={along}")["runs"]) == 2
    assert page.ask("/run", "?run=odd")["points"][:2] == [[10, 2], [20, 1.5]]
    for route in ("/law", "/frontier"):
        assert "outdated" not in page.ask(route, f"?version={view['version']}")


QUERIES = [
    *(
        "?",
        "?metric=",
        "?metric=%00",
        "?study=%ff%fe",
        "?axis=..%2f..",
        "?along=__proto__",
        "?metric=" + "m" * 100_000,
    ),
    *(
        "?version=",
        "?version=%0d%0aSet-Cookie:a=b",
        "?exclude=-1",
        "?exclude=1e9",
        "?exclude=99999999999999999999",
    ),
    *(
        "?exclude=" + "0," * 50_000,
        "?exclude=%D9%A1",
        "?exclude=a,b,,,",
        "?run=" + "r" * 100_000,
        "?run[]=a&run=b",
    ),
    *(
        "?compute=nan",
        "?compute=inf",
        "?compute=-1",
        "?compute=0",
        "?compute=1e999",
        "?compute=0x10",
        "?data=1_0",
    ),
    *(
        "?error=1e-400",
        "?params=" + "9" * 5000,
        "?params=1e400",
        "?points=-5",
        "?limit=1e9",
        "?metric=m&metric=n",
    ),
    *("?__class__=1", "?callback=alert", "?experiment=../..", "?a" * 2000),
]


def test_odd_questions_are_answered_with_plain_json() -> None:
    page = Page(
        {name: tensor(demo.demo_report(n).to_json()) for name, n in zip("abcd", demo.SIZES, strict=False)}
    )
    version = page.ask("/runs")["version"]
    for query in QUERIES:
        for route in ROUTES:
            answer = page.ask(route, query)
            assert "Traceback" not in json.dumps(answer), (route, query[:60])
        page.ask("/answer", f"{query}&version={version}")


@pytest.mark.parametrize(
    "header", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Origin": "null"}]
)
def test_nothing_is_opened_to_another_sites_page(header: dict[str, str]) -> None:
    page = Page({"a": tensor(GOOD)})
    plain = page.open("/runs")
    for route in (*ROUTES, f"{FOLDER}/index.js"):
        answer = page.open(route, headers=header)
        opened = [name for name, _ in answer.headers if name.lower().startswith("access-control")]
        assert opened == [], "without these a browser keeps the answer from the page that asked"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "evil.example" not in answer.text + str(answer.headers)
        assert "Set-Cookie" not in answer.headers
    assert page.open("/runs", headers=header).data == plain.data


def test_a_page_of_another_site_has_no_law_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page({"a": tensor(GOOD)})
    for route in ROUTES:
        refused = page.open(route, headers={"Sec-Fetch-Site": "cross-site"})
        assert (refused.status_code, refused.text) == (
            403,
            "This address only answers TensorBoard's own page.",
        )
        for own in ("same-origin", "none"):
            assert page.open(route, headers={"Sec-Fetch-Site": own}).status_code == 200


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get"]
)
def test_every_other_method_is_refused(method: str) -> None:
    page = Page({"a": tensor(GOOD)})
    for route in page.routes:
        answer = page.open(route, method=method, data=b"x" * 1000)
        allowed = method == "get"  # the test client writes methods in capitals, as browsers do
        assert answer.status_code == (200 if allowed else 405), route
        if not allowed:
            assert answer.text == "This address only answers GET."
            assert answer.headers["Allow"] == "GET, HEAD"
