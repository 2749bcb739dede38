"""Cases of the search, for the server's folding and for the page's: both must find the same.

Each is a text, a query, and the excerpt with its marks in [brackets]; None: a word is missing.
"""

from __future__ import annotations

LONG = "Before all else there are a good many words, and then the oven needs to be hot. "
FILLER = "and so on " * 30


def wide(text: str) -> str:
    """Return letters in full width."""
    return "".join(chr(ord(letter) + 0xFEE0) for letter in text)


SEARCH_CASES: list[tuple[str, str, str | None]] = [
    ("The quince is a fruit.", "QUINCE fruit", "The [quince] is a [fruit]."),
    ("The quince is a fruit.", "plum", None),
    ("quince", "quince plum", None),
    # Case and width.
    (f"{wide('Full')} width", "full", f"[{wide('Full')}] width"),
    ("plain half", wide("plain"), "[plain] half"),
    ("ｶﾞｲﾄﾞ", "ガイド", "[ｶﾞｲﾄﾞ]"),
    ("Die Straße", "STRASSE", "Die [Straße]"),
    ("STRASSE", "straße", "[STRASSE]"),
    ("ΟΔΟΣ οδος", "οδός οδος", None),
    ("ΟΔΟΣ και", "οδος", "[ΟΔΟΣ] και"),
    ("İstanbul", "i̇stanbul", "[İstanbul]"),
    ("Cafe\u0301 noir", "café", "[Cafe\u0301] noir"),
    ("Café noir", "cafe\u0301", "[Café] noir"),
    ("\u1112\u1161\u11ab\u1100\u1173\u11af", "한글", "[\u1112\u1161\u11ab\u1100\u1173\u11af]"),
    ("ﬁne print", "fine", "[ﬁne] print"),
    # Words begin like words, if any does; all of them are marked.
    ("Start with art, not with a cart.", "art", "Start with [art], not with a cart."),
    ("Start the cart.", "art", "St[art] the c[art]."),
    ("my_needle and sewing-needle", "needle", "my_[needle] and sewing-[needle]"),
    ("C++ and c", "c++", "[C++] and c"),
    ("a%b_c!d", "%b_", "a[%b_]c!d"),
    # Scripts without gaps: any letter may begin a word.
    ("東京都の天気", "京", "東[京]都の天気"),
    ("東京と京都", "京", "東[京]と[京]都"),
    ("ภาษาไทยง่าย", "ไทย", "ภาษา[ไทย]ง่าย"),
    ("使用Python3编程", "python3", "使用[Python3]编程"),
    # An excerpt begins a little before its mark, at a word.
    (LONG, "oven", "…and then the [oven] needs to be hot."),
    ("x" * 40 + "needle" + "y" * 40, "needle", "…" + "x" * 16 + "[needle]" + "y" * 40),
    ("https://example.com/some/path/needle", "needle", "…com/some/path/[needle]"),
    ("これは長い文章です。オーブンを予熱します。", "予熱", "…です。オーブンを[予熱]します。"),
    (f"one\n\n  two\tthree {FILLER}", "two", f"one [two] three {FILLER[:109].rstrip()}…"),
    (f"   {LONG}", "before", f"[Before]{LONG[6:].rstrip()}"),
    # Where most of the words are.
    (
        f"a needle. {FILLER} The red needle in the hay.",
        "needle hay",
        "…so on The red [needle] in the [hay].",
    ),
    ("🎉🎊 Party 👩‍👩‍👧 ideas", "ideas", "…Party 👩‍👩‍👧 [ideas]"),
    ("مرحبا بالعالم كيف الحال", "كيف", "مرحبا بالعالم [كيف] الحال"),
    ("\ud83d broken", "broken", "\ud83d [broken]"),
]
