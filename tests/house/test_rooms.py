"""Rooms import downwards only, stay small and say what they are; the map in the docs is theirs."""

from __future__ import annotations

from pathlib import Path

import pytest
from house import guards, rooms
from house.guards import ROOT, Module

GOOD_ROOM = '"""Do a thing.\n\nIn: one thing.\nOut: another.\n"""\n'


def test_every_module_lies_in_a_listed_room() -> None:
    assert list(rooms.unlisted(guards.product())) == []


def test_a_module_outside_the_rooms_is_found() -> None:
    found = list(rooms.unlisted([*guards.product(), Module("server.stray", "")]))
    assert found == ["server.stray lies in no room; list its room in tests/house/rooms.py"]
    assert "server.cli is listed as a room and does not exist" in rooms.unlisted([])


def test_rooms_import_only_rooms_below_them() -> None:
    faults = [fault for module in guards.product() for fault in rooms.wrong_way(module)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("server.store.key", "from server.keys.key_ring import KeyRing"),
        ("server.accounting.admission", "from server import services"),
        ("workers.catalog.catalog", "from workers.providers.formats import TRANSLATORS"),
        ("webui.shell.pages", "def f():\n    import webui.chat.chat_page"),
        ("server.demo.upstream", "from workers.catalog.catalog import Catalog"),
    ],
)
def test_an_import_of_a_higher_room_is_found(name: str, text: str) -> None:
    assert len(list(rooms.wrong_way(Module(name, text)))) == 1


def test_no_folder_is_crowded() -> None:
    assert list(rooms.crowded(rooms.source_files())) == []


def test_a_crowded_folder_is_found() -> None:
    files = [Path("room") / f"module_{number}.py" for number in range(12)]
    assert list(rooms.crowded([*files, Path("room/__init__.py")])) == []
    assert len(list(rooms.crowded([*files, Path("room/one_more.py")]))) == 1


def test_every_room_says_what_it_does_and_what_comes_in_and_out() -> None:
    faults = [
        fault for room in rooms.packages(guards.product()) for fault in rooms.undescribed(room)
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "text",
    [
        "",
        '"""Do a thing."""\n',
        '"""Do a thing.\n\nOut: another.\nIn: one thing.\n"""\n',
        GOOD_ROOM + "import asyncio\n",
    ],
)
def test_a_room_without_its_three_lines_is_found(text: str) -> None:
    assert list(rooms.undescribed(Module("server.store", GOOD_ROOM))) == []
    assert list(rooms.undescribed(Module("server.store", text)))


def test_the_map_in_the_documentation_is_made_of_the_rooms_docstrings() -> None:
    drawn = rooms.room_map(guards.product())
    text = (ROOT / "docs" / "architecture.md").read_text()
    assert drawn in text, "put this map into docs/architecture.md:\n\n" + drawn
