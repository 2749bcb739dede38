"""Decode text whose encoding is not stated: CSV files of Excel, mostly.

UTF-8 and UTF-16 can be recognised; of the older encodings several fit almost any bytes. What
decides is the text that would result: its letters must be the frequent ones of one script. The
libraries for this were tried: with short lists of names they take Windows-1252 for Windows-1250,
and GB 18030 for EUC-KR.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable

from server.documents.extract import Unreadable
from workers.units import KIB

SAMPLE_BYTES = 64 * KIB
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
HIGH_RUN = re.compile(rb"[\x80-\xff]+")
IN_LATIN = re.compile(rb"(?<=[A-Za-z])[\x80-\xff]+|[\x80-\xff]+(?=[A-Za-z])")
"""Letters with accents stand in words of ASCII letters; words of other scripts have none."""
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
HANGUL = re.compile("[\uac00-\ud7a3]")
KANA = re.compile("[\u3041-\u30fe]")
KANJI = re.compile("[\u4e00-\u9fff]")
CYRILLIC = re.compile("[\u0410-\u044f\u0401\u0451\u0404\u0406\u0407\u0454\u0456\u0457\u0490\u0491]")
GREEK = re.compile("[\u0386-\u03ce]")
OF_RUSSIAN = re.compile("[оаисрОАИСР]")
OF_GREEK = re.compile("[αοιτσάόίήέ]")
CENTRAL = re.compile("[ĄąĆćĘęŁłŃńŚśŹźŻżČčĎďĚěŇňŘřŠšŤťŮůŽžŐőŰűĂăȘșȚțŞşŢţ]")
WESTERN = re.compile(
    "[ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝàáâãäåæçèéêëìíîïñòóôõöøùúûüýßÿŒœªº¡¿«»°§£€–—‘’“”„…•©®²³·]"
)
MULTI_BYTE = ("cp932", "euc_jp", "cp949", "gb18030", "big5")
LIKELY = 0.7


def decode_text(data: bytes) -> str:
    """Return the text of a file. Raises Unreadable for bytes that are no text."""
    for bom, name in BOMS:
        if data.startswith(bom):
            return _checked(data.decode(name, "replace").removeprefix("\ufeff"))
    encoding = find_encoding(data)
    if encoding is None:
        raise Unreadable("unsupported", "no text")
    return _checked(data.decode(encoding, "replace"))


def find_encoding(data: bytes) -> str | None:
    """Return the encoding of bytes without a byte order mark; None: they are no text."""
    if b"\0" in data[:SAMPLE_BYTES]:
        return _utf_16(data)
    try:
        data.decode()
    except UnicodeDecodeError:
        return _older(data)
    return "utf-8"


def _checked(text: str) -> str:
    """Return text, with plain line ends. Raises Unreadable if much of it cannot be shown."""
    sample = text[:SAMPLE_BYTES]
    if len(CONTROL.findall(sample)) * 50 > len(sample):
        raise Unreadable("unsupported", "control characters")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _utf_16(data: bytes) -> str | None:
    """Recognise UTF-16 without a mark: every second byte of ASCII characters is zero."""
    sample = data[:SAMPLE_BYTES]
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    pairs = len(sample) / 2
    name = "utf-16-le" if odd > even else "utf-16-be"
    most, least = max(even, odd), min(even, odd)
    if len(data) % 2 or most < pairs / 5 or least > pairs / 50:
        return None
    try:
        data.decode(name)
    except UnicodeDecodeError:
        return None
    return name


def _older(data: bytes) -> str | None:
    scores = {}
    for name in MULTI_BYTE:
        try:
            text = data.decode(name)
        except UnicodeDecodeError:
            continue
        scores[name] = SCORES[name]([sign for sign in text[:SAMPLE_BYTES] if sign > "\x7f"])
    best = max(scores, key=lambda name: scores[name], default=None)
    if best is not None and scores[best] >= LIKELY:
        return best
    return _single_byte(data[:SAMPLE_BYTES])


def _single_byte(sample: bytes) -> str:
    if 2 * len(IN_LATIN.findall(sample)) < len(HIGH_RUN.findall(sample)):
        cyrillic, greek = sample.decode("cp1251", "replace"), sample.decode("cp1253", "replace")
        # Most bytes are letters in both; the frequent letters of a language decide.
        if _share(GREEK, greek) > LIKELY and _share(OF_GREEK, greek) > _share(OF_RUSSIAN, cyrillic):
            return "cp1253"
        if _share(CYRILLIC, cyrillic) > LIKELY:
            return "cp1251"
    western = _share(WESTERN, sample.decode("cp1252", "replace"))
    central = _share(CENTRAL, sample.decode("cp1250", "replace"))
    # Most letters of Western languages have the same bytes in both; only a clear lead decides.
    other = 1 - western
    return "cp1250" if central > 0.3 and other > 0.2 else "cp1252"


def _share(letters: re.Pattern[str], text: str) -> float:
    """Return which part of the characters beyond ASCII are among some letters."""
    high = [sign for sign in text if sign > "\x7f"]
    return len(letters.findall("".join(high))) / max(len(high), 1)


# How likely a text is: 1 for the characters that the users of an encoding mostly write.


def _japanese(high: list[str]) -> float:
    text = "".join(high)
    kana, kanji = len(KANA.findall(text)), len(KANJI.findall(text))
    marks = sum(sign in "、。「」・ー，．（）％～　！？：" for sign in high)
    half = sum("\uff61" <= sign <= "\uff9f" for sign in high)
    if not kana:  # names and addresses: kanji alone, of the first level
        first = sum(_lead(sign, "euc_jp") in range(0xB0, 0xD0) for sign in high)
        return 0.85 * (first + marks) / max(len(high), 1)
    return (kana + kanji + marks - half) / max(len(high), 1)


def _korean(high: list[str]) -> float:
    text = "".join(high)
    common = sum(_lead(sign, "euc_kr") in range(0xB0, 0xC9) for sign in HANGUL.findall(text))
    return common / max(len(high), 1)


def _simplified(high: list[str]) -> float:
    first = sum(_lead(sign, "gb2312") in range(0xB0, 0xD8) for sign in high)
    marks = sum(sign in "，。、：；！？（）《》“”　" for sign in high)
    return 0.95 * (first + marks) / max(len(high), 1)


def _traditional(high: list[str]) -> float:
    first = sum(_lead(sign, "big5") in range(0xA4, 0xC7) for sign in high)
    marks = sum(sign in "，。、：；！？（）「」　" for sign in high)
    return 0.95 * (first + marks) / max(len(high), 1)


def _lead(sign: str, encoding: str) -> int:
    """Return the first byte of a character: in these sets the frequent ones come first."""
    try:
        found = sign.encode(encoding)
    except UnicodeEncodeError:
        return 0
    return found[0] if len(found) > 1 else 0


SCORES: dict[str, Callable[[list[str]], float]] = {
    "cp932": _japanese,
    "euc_jp": _japanese,
    "cp949": _korean,
    "gb18030": _simplified,
    "big5": _traditional,
}
