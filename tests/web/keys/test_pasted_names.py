"""The list of names that people paste: lines, cells of a spreadsheet and CSV, also mixed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webui.keys.pasted_names import read_names, write_names

PASTED = [
    ("Ada\nGrace", [("Ada", ""), ("Grace", "")]),
    ("Ada\tPhysics\r\nGrace\tCompilers\tNavy", [("Ada", "Physics"), ("Grace", "Compilers · Navy")]),
    ('Alan\tMaths\n"Doe, Jane",Chemistry', [("Alan", "Maths"), ("Doe, Jane", "Chemistry")]),
    ("Ada,Physics\nGrace;Compilers", [("Ada", "Physics"), ("Grace", "Compilers")]),
    ("Doe, Jane\nAcme, Inc.", [("Doe, Jane", ""), ("Acme, Inc.", "")]),
    ("Ada, ada@x.example\nDoe, Jane", [("Ada", "ada@x.example"), ("Doe, Jane", "")]),
    ("Müller; Hans\nAda", [("Müller; Hans", ""), ("Ada", "")]),
    ('"Doe, Jane", Chemistry', [("Doe, Jane", "Chemistry")]),
    ("Name,Note\nAda,Physics", [("Ada", "Physics")]),
    ("Name, Department\nAda, Physics", [("Ada", "Physics")]),
    ("\ufeffId;Nombre;Notas\n7;Ada;Física\n8;;", [("Ada", "Física")]),
    ("Name,Secret,Note,Id\nAda,roxy_x,Physics,key_1", [("Ada", "Physics")]),
    ("Ada;Physics\nÉmile;Maths\nZoe;", [("Ada", "Physics"), ("Émile", "Maths"), ("Zoe", "")]),
    ("Ada\tPhysics\nÉmile;Maths", [("Ada", "Physics"), ("Émile", "Maths")]),
    ("Name\tNote\nAda\tPhysics; old\nÉmile;Maths\nDoe, Jane",
     [("Ada", "Physics; old"), ("Émile", "Maths"), ("Doe, Jane", "")]),
    ("name\nDoe, Jane", [("Doe, Jane", "")]),
    ("Name", [("Name", "")]),
    ('"Ada ""the first"" L.";"two\nlines"', [('Ada "the first" L.', "two\nlines")]),
    ('Jane "JJ" Doe\n"JJ" Roe\n"open', [('Jane "JJ" Doe', ""), ('"JJ" Roe', ""), ('"open', "")]),
    ("Ada,\n,Physics\n \n\n", [("Ada", "")]),
    ("", []),
]  # fmt: skip


@pytest.mark.parametrize(("pasted", "names"), PASTED)
def test_a_pasted_list_is_read(pasted: str, names: list[tuple[str, str]]) -> None:
    assert read_names(pasted) == names


CELL = st.text(st.sampled_from('a b",;\tü'), max_size=8).map(str.strip)


@given(st.lists(st.tuples(CELL.filter(bool), CELL), max_size=5))
def test_what_the_preview_writes_is_read_as_the_same(names: list[tuple[str, str]]) -> None:
    assert read_names(write_names(names)) == names
