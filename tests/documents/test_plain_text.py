"""Text in the encodings that files of people have."""

from __future__ import annotations

import pytest

from server.documents.extract import Unreadable
from server.documents.plain_text import decode_text

TEXTS = [
    ("cp1252", "Name;Straße;Ort\nMüller;Hauptstraße 5;Köln\nGrößer;Am Bühl 3;Zürich\n"),
    ("cp1252", "Prénom;Nom;Ville\nFrançois;Lefèvre;Orléans\nÉmilie;Benoît;Besançon\n"),
    ("cp1252", "Total: 5 €\n“Quote” – dash\n"),
    ("cp1252", "Montaña;Año\nEspaña;2020\n¿Qué?"),
    ("cp1252", "Überweisung"),
    ("cp1252", "naïve café"),
    ("cp1252", "Größe;1"),
    ("cp1252", "São Paulo;coração;ações\n"),
    ("cp1252", "Åse;Ødegård;Tromsø;blåbær\n"),
    ("cp1250", "Zażółć gęślą jaźń;Łódź\nKraków;Wrocław\n"),
    ("cp1251", "Имя;Город\nИван Петров;Москва\nАнна;Санкт-Петербург\n"),
    ("cp1253", "Όνομα;Πόλη\nΓιώργος;Αθήνα\n"),
    ("shift_jis", "名前,住所\n山田太郎,東京都千代田区\n鈴木花子,大阪市北区\n"),
    ("shift_jis", "これはテストです。"),
    ("euc_jp", "名前,住所\n山田太郎さん,東京都の千代田区\n"),
    ("gb18030", "姓名,地址\n张三,北京市海淀区\n李四,上海市浦东新区\n"),
    ("gb18030", "你好世界"),
    ("big5", "姓名,地址\n張三,臺北市大安區\n李四,高雄市\n"),
    ("euc_kr", "이름,주소\n홍길동,서울특별시 강남구\n김철수,부산광역시\n"),
    ("euc_kr", "안녕하세요"),
    ("utf-8", "plain\tASCII"),
    ("utf-8", "Größe 你好 🎉"),
    ("utf-8-sig", "Größe;1"),
    ("utf-16", "Größe;1 你好"),
    ("utf-16-le", "Name;Größe;1;2;3 without a mark"),
    ("utf-16-be", "Name;Größe;1;2;3 without a mark"),
    ("utf-32", "Größe"),
]


@pytest.mark.parametrize(("encoding", "text"), TEXTS)
def test_text_is_recognised(encoding: str, text: str) -> None:
    assert decode_text(text.encode(encoding)) == text


def test_line_ends_become_plain_and_other_bytes_are_no_text() -> None:
    assert decode_text(b"a\r\nb\rc") == "a\nb\nc"
    for data in (b"\x00\x01\x02\x03" * 100, b"\x01\x02\x03\x04\x05\x06" * 50):
        with pytest.raises(Unreadable):
            decode_text(data)
