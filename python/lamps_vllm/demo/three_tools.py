# SPDX-License-Identifier: Apache-2.0
"""Three real tools: one quick, one that reads a database, one that waits for a server."""

from __future__ import annotations

import ast
import json
import operator
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp

CITIES = (
    ("Lisbon", "Portugal", 567131, 21.5),
    ("Oslo", "Norway", 717710, 4.0),
    ("Quito", "Ecuador", 2011388, 14.0),
    ("Nairobi", "Kenya", 4397073, 19.0),
)
_MOST_ROWS = 20
_LARGEST = 10**12
_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.USub: operator.neg,
}


def calculator(expression: str) -> str:
    """Computes with numbers, + - * / % and brackets. Raises ValueError for anything else."""
    return f"{_value(ast.parse(expression, mode='eval').body):g}"


def _value(node: ast.AST) -> float:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        value = node.value
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        value = _OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    elif isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
        value = _OPERATORS[type(node.op)](_value(node.operand))
    else:
        raise ValueError(f"cannot compute {ast.unparse(node)!r}")
    if abs(value) > _LARGEST:
        raise ValueError(f"{ast.unparse(node)} is out of range: at most {_LARGEST:g}")
    return value


def write_database(path: Path) -> None:
    """A table `cities` with name, country and people."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("create table cities (name text, country text, people integer)")
        rows = [city[:3] for city in CITIES]
        database.executemany("insert into cities values (?, ?, ?)", rows)


def query_tool(path: Path) -> Callable[[str], str]:
    """The tool `query` over a database file, which it can only read."""

    def query(sql: str) -> str:
        """The first rows that a SELECT finds, as JSON."""
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            return json.dumps(database.execute(sql).fetchmany(_MOST_ROWS))

    return query


@contextmanager
def weather_server(seconds: float) -> Iterator[str]:
    """A server on loopback that takes `seconds` for an answer; yields its address."""
    degrees = {name: celsius for name, _, _, celsius in CITIES}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(seconds)
            city = parse_qs(urlsplit(self.path).query).get("city", [""])[0]
            known = city in degrees
            body = json.dumps({"city": city, "celsius": degrees[city]} if known else {}).encode()
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def weather_tool(url: str) -> Callable[[str], Any]:
    """The tool `weather`, an `async` one, over the server at `url`."""

    async def weather(city: str) -> str:
        """The weather of a city now. Raises ValueError for a city nobody knows."""
        async with aiohttp.ClientSession() as http, http.get(url, params={"city": city}) as answer:
            if answer.status != 200:
                raise ValueError(f"no weather for {city!r}")
            return f"{(await answer.json())['celsius']} degrees"

    return weather


@contextmanager
def three_tools(folder: Path, seconds: float) -> Iterator[list[Callable[..., Any]]]:
    """`calculator`, `query` and `weather`; the last takes `seconds`. `folder` gets the database."""
    database = folder / "cities.sqlite"
    database.unlink(missing_ok=True)
    write_database(database)
    with weather_server(seconds) as url:
        yield [calculator, query_tool(database), weather_tool(url)]
