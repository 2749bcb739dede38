"""Texts that a model may write.

SAMPLES are for equality, READ says what a reader expects, HOSTILE is what must not happen.
"""

from __future__ import annotations

SAMPLES = (
    "Just a line.",
    "Two paragraphs.\n\nThe second, with **bold**, *italic*, ~~struck~~ and `code`.",
    "# One\n\n## Two\n\ntext\n\n#### Four\n\n# One again",
    "### Begins deep\n\ntext",
    "Setext\n======\n\nAnother\n-------\n\ntext",
    "- one\n- two\n  - nested\n  - nested two\n- three",
    "1. first\n2. second\n\n   a paragraph of the second\n3. third",
    "7. seven\n8. eight",
    "- loose\n\n- list\n\n- of three",
    "- one\n\n1. other\n2. list",
    "- [x] done\n- [ ] open\n- plain",
    "- list with code\n\n  ```python\n  print(1)\n  ```\n- after",
    "- # heading in a list\n- ## deeper",
    "```python\ndef f(x):\n    return x + 1\n```\n\nAfter the code.",
    "````markdown\n```js\nlet a = 1;\n```\n````\n\nend",
    "~~~\nplain fence\n~~~",
    "```\nnever closed\nstill open",
    "    indented code\n    second line\n\ntext",
    "| a | b |\n|---|:-:|\n| 1 | 2 |\n| **x** | `y` |\n\nafter",
    "| only | head |\n|---|---|",
    "> quoted\n> more\n>\n> > nested\n\nnot quoted",
    (
        "Math \\(x^2 + 1\\) inline, $5 and $10 are money.\n\n$$\\frac{1}{2}$$\n\n"
        "\\[\na = b\n\\]\n\ndone"
    ),
    "Entities: &amp; &lt;tag&gt; &copy; &#8364; &#x41; &nosuch; &hellip;",
    'A [link](https://example.org/a?b=c&d=e "title"), <https://auto.example>, https://bare.example/x.',
    "Late [reference][r] here.\n\nMore text.\n\n[r]: https://example.org/late",
    "A footnote[^1] in text.\n\n[^1]: The note, with *words*.\n\nafter",
    "Line one  \nline two\\\nline three<br>line four",
    "H<sub>2</sub>O and <kbd>Ctrl</kbd>",
    "---\n\ntext\n\n***",
    "<div>html is text</div>\n\n<details><summary>x</summary>y</details>",
    '![picture](https://example.org/p.png "t")\n\n![inline](data:image/png;base64,iVBORw0KGgo=)',
    "* a\n\n  b\n\n\n* c\n\ntext `with ``odd` ticks and **unclosed",
    # Chinese, Japanese and Korean: no spaces between words, and full-width punctuation.
    "**“文字”**文字，文字**（文字）**文字，**文字。**文字",
    "文字**「文字」**文字、文字*（文字）*文字、~~“文字”~~文字",
    "**용어(term)**를 **'인용'**은 강조합니다. **“말”**이라고 했다.",
    "他说：**“你好，世界！”**然后***（走）***了。**`code`**也是**[链接](https://example.org)**。",
    "10~20个，30~40个，~~删除~~了。2**3**4 和 __init__ 与 snake_case_name。",
    "见https://example.org/路径。后文（https://example.org/a?b=c），**https://example.org/d**。",
    "https://example.org，好\n\n“https://example.org/x”、www.example.org。 a@example.org，c",
    "## 第一章：**“开始”**的事\n\n1. 一、**重点：**说明\n2. 二\n\n> 引用**（甲）**乙",
    "| 名称 | **“说明”**列 |\n|---|---:|\n| 甲 | 一<br>二 |\n| `乙` | **三。**四 |",
    # Formulas.
    "With $x_1$, $\\alpha$, $n$ and $f(x)$; $5 and $10, US$5, $HOME, $1,000–$2,000.",
    "设$x$为$y_1$的值，价格$5，另外HK$6。 $E = mc^2$ 与 $\\frac{a}{b}$",
    (
        "\\begin{equation}\nE = mc^2\n\\end{equation}\n\ntext\n\\begin{align*}\n"
        "a &= b \\\\\nc &= d\n\\end{align*}\nend"
    ),
    "\\begin{gather}\na = b \\\\ c = d\n\\end{gather}\n\n\\begin{pmatrix} 1 & 2 \\end{pmatrix}",
    "```math\n\\sum_{i=1}^n i\n```\n\n```align\na &= b\n```\n\nend",
    (
        "```latex\n\\[ x^2 \\]\n```\n\n```latex\n\\documentclass{article}\n\\begin{document}\n"
        "x\n\\end{document}\n```"
    ),
    "```math\nnever \\closed",
    "$$\nnever \\closed",
    "1. A step: $$x^2$$\n2. And\n\n   \\[\n   y = 1\n   \\]\n\n   done",
    "> Quoted:\n>\n> $$\n> a_1 + b_2\n> $$\n>\n> and $c_3$",
    "| f | $a_1$ |\n|---|---|\n| \\(x^2\\) | $5 |",
    # Fences inside fences.
    "```markdown\n# T\n```python\nprint(1)\n```\nmore\n```\n\nafter",
    "```markdown\n# T\n\n```\nprint(1)\n```\n\nmore\n```\n\nafter",
    "```markdown\n# T\n```\n\nafter\n\n```\ncode\n```\n\nend",
    "```markdown\n# T\n\n```\nOne end is missing here.\n```\n\nafter",
    "````markdown\n# T\n```python\nprint(1)\n```\nmore\n````\n\nafter",
    "- item\n\n  ```markdown\n  x\n  ```js\n  let y;\n  ```\n  ```\n- next",
    "~~~md\n~~~sh\nls\n~~~\n~~~\nend\n\n```text\n```\nend",
    "```markdown\n```js\nnever closed",
    '   ```python\n   indented = 1\n   ```\n\n```js title="a b"\nx\n```',
    # Right to left.
    "هذه فقرة عربية فيها `code` وكلمات.\n\n- عنصر أول\n- Python لغة برمجة سهلة جدا\n\n> اقتباس",
    "# כותרת\n\nפסקה בעברית עם English בתוכה.\n\n1. ראשון\n\n   המשך\n\n2. שני",
    "| الاسم | القيمة |\n|---|:-:|\n| واحد | 1 |\n| two | اثنان |\n\nEnglish again.",
    "React مكتبة لبناء الواجهات\n\nAn English line with one كلمة.\n\n123",
    '> [!TIP]\n> نصيحة مهمة\n>\n> - بند\n\n<div dir="rtl">\n\nنص\n\n</div>',
    # Callouts, details, comments, tags.
    "> [!NOTE]\n> With **words**.\n>\n> ```js\n> let a = 1;\n> ```\n\nafter",
    "> [!WARNING] Own title\n> lazy\nline\n\n> [!unknown]\n> text",
    "> [!CAUTION]\n\n> [!important]\n> # Heading\n> text",
    (
        "<details>\n<summary>Short **bold**</summary>\n\nHidden *text*\n\n- a\n- b\n\n"
        "</details>\n\nafter"
    ),
    "<details open><summary>x</summary>y</details>\nz",
    (
        "<details>\n<summary>Outer</summary>\n\n<details>\n<summary>Inner</summary>\n\n"
        "```html\n</details>\n```\n\n</details>\n\nend\n\n</details>\n\n## After"
    ),
    "<details>\n<summary>Never closed</summary>\n\ntext\n\n| a |\n|---|\n| b |",
    "<details>\nno summary\n</details>",
    "<!-- hidden -->\n\ntext <!-- also --> here\n\n<!-- two\n\nlines --> shown\n\nend",
    "text\n\n<!-- never closed\n\nis text",
    "<br>\nline<br/>line<BR />line\n\n<mark>a</mark> <u>b</u> <ruby>漢<rt>かん</rt></ruby>",
    "<kbd>Ctrl</kbd> + <kbd>C</kbd>, x<sup>2</sup>, <b>**both**</b>, <odd>tag</odd>, </sub>",
    "<center>\n\nin the middle\n\n</center>\n\n<table><tr><td>raw</td></tr></table>",
    "**a <kbd>b** c</kbd> d\n\n<sub>never closed\n\nnext",
    # Nesting.
    (
        "1. one\n   - two\n     1. three\n        > quote\n        > ```sh\n        > ls\n"
        "        > ```\n2. end"
    ),
    "> - a\n>   > b\n>   > | c | d |\n>   > |---|---|\n>   > | e | f |\n>\n> end",
    "- [ ] open **bold**\n  - [x] done `code`\n\n- [ ] loose",
    "***both*** **a*b*c** *a **b** c* **foo*bar**baz* __x__ _y_ `*not*` \\*not\\*",
    "A note[^a] and[^b].\n\n[^a]: First\n    goes on.\n[^b]: Second with `code`.",
    "[a]: https://example.org/a\n\nEarly [a] and [b].\n\n> [b]: https://example.org/b",
    "[a *b*](https://example.org 'it''s') ![x](y) [empty]() <https://example.org/auto>",
    "Hard\tbreak\\\nline  \nend\n\n\n\n- a\n\n\n- b\n\n\n    code",
    "a\r\nb\r\n\r\n- c\r\n- d\r\n\r\n```\r\ne\r\n```\r\n",
    "|a|b\n|-|-\n|`x|y`|z\n|missing\n|too|many|cells|\n\ntext | with | pipes",
    "# a\n# b\n- # c\n> ## d\n\n###### e\n\n#no heading\n\nSet\next\n---",
    "😀 **😀bold😀** e\u0301 𠮷野家**“𠮷”**で ~x~ ~~y~~ ~~~z",
)

HOSTILE = (
    "<script>window.hit = 1</script>",
    '<img src=x onerror="window.hit = 1">',
    '<svg onload="window.hit = 1"><script>window.hit = 1</script></svg>',
    '<iframe srcdoc="<script>parent.hit = 1</script>"></iframe>',
    "<style>* { display: none }</style>",
    '<form action="https://evil.example"><input name=key><button>send</button></form>',
    '<object data="javascript:window.hit=1"></object><embed src=x><base href="//evil.example">',
    '<math><mtext><img src=x onerror="window.hit = 1"></mtext></math>',
    "[a](javascript:window.hit=1)",
    "[a](JaVaScRiPt:window.hit=1)",
    "[a](java&#115;cript:window.hit=1)",
    "[a](&#x6A;avascript&colon;window.hit=1)",
    "[a](data:text/html,<script>window.hit=1</script>)",
    "[a](vbscript:window.hit=1)",
    "[a](//evil.example/path)",
    "[a](/logout)",
    "<javascript:window.hit=1>",
    "![a](javascript:window.hit=1)",
    "![a](data:image/svg+xml;base64,PHN2Zy8+)",
    '![a](x" onerror="window.hit=1)',
    "[r]\n\n[r]: javascript:window.hit=1",
    "```html\n<script>window.hit = 1</script>\n```",
    "\\(\\href{javascript:window.hit=1}{x}\\)",
    "$$\\text{<img src=x onerror=window.hit=1>}$$",
    "$$\\class{x}{y} \\data{a=b}{c} \\style{color:red}{x}$$",
    '<a href="https://example.org" onclick="window.hit=1">x</a>',
    '<b onmouseover="window.hit=1">x</b> <i style="position:fixed">y</i>',
    "&lt;script&gt;window.hit = 1&lt;/script&gt; &#60;img src=x onerror=window.hit=1&#62;",
    '<kbd><img src=x onerror="window.hit = 1"></kbd> <sub><script>window.hit = 1</script></sub>',
    '<kbd\nonclick="window.hit=1">x</kbd> <mark/onclick=window.hit=1>y</mark>',
    '<details open ontoggle="window.hit=1"><summary>x</summary>y</details>',
    (
        '<details>\n<summary onclick="window.hit=1"><img src=x onerror="window.hit=1"></summary>\n'
        "<script>window.hit = 1</script>\n\n<iframe src=javascript:parent.hit=1>\n</details>"
    ),
    '> [!NOTE] <img src=x onerror="window.hit=1">\n> <svg onload="window.hit=1">',
    "<!-- --><script>window.hit = 1</script>\n\n<!-- > --> <img src=x onerror=window.hit=1>",
    '<!--><img src=x onerror="window.hit=1">-->\n\na <!--> b --> <svg onload=window.hit=1> c',
    '<div dir="rtl" onclick="window.hit=1">\n\nx\n\n</div>',
    '<div dir="rtl"><img src=x onerror="window.hit=1"></div>',
    'https://example.org/<script>window.hit=1</script> https://example.org/"onclick=window.hit=1',
    "javascript://example.org/%0awindow.hit=1 https:javascript:window.hit=1",
    (
        "```math\n"
        "\\href{javascript:window.hit=1}{x} \\includegraphics{https://evil.example/x.png}\n```"
    ),
    "$\\href{javascript:window.hit=1}{x_1}$ $\\htmlData{a=b}{x}$ $\\url{javascript:window.hit=1}$",
    '```"onload="window.hit=1\nx\n```',
    "| <img src=x onerror=window.hit=1> |\n|---|\n| <br onclick=window.hit=1> [a](javascript:1) |",
    '<ruby onclick="window.hit=1">x<rt><img src=x onerror=window.hit=1></rt></ruby>',
    "[^<img src=x onerror=window.hit=1>]: <svg onload=window.hit=1>",
    "<math href=javascript:window.hit=1><maction actiontype=statusline>x</maction></math>",
)

READ: tuple[tuple[str, str, list[str] | None], ...] = (
    # Emphasis in languages without spaces.
    ("**“文字”**文字", "strong", ["“文字”"]),
    ("文字**（文字）**文字", "strong", ["（文字）"]),
    ("**文字。**文字", "strong", ["文字。"]),
    ("他说**“好”**和**「是」**吧", "strong", ["“好”", "「是」"]),
    ("**용어(term)**를 **'말'**은", "strong", ["용어(term)", "'말'"]),
    ("*（斜）*体，~~“删”~~了，10~20个，30~40个", "em, del", ["（斜）", "“删”"]),
    ("foo**bar** a * b * c **bold:**x __init__ snake_case_name", "strong", ["bar", "init"]),
    # Siblings have one level, and no level is left out.
    ("### Morning\n\n### Noon\n\na\n\n### Night", "h3", None),
    ("# Day\n\n### A\n\n##### a\n\n### B\n\n- ### C", "h4", None),
    ("# Day\n\n### A\n\n##### a\n\n### B\n\n##### b", "h5", ["a", "b"]),
    ("## A\n\n### a\n\n# B\n\n### b\n\n# C", "h3", None),
    # Addresses in sentences.
    ("见https://example.org/路径。后文", "a", ["https://example.org/路径"]),
    (
        "（https://example.org/a），**https://example.org/b**。",
        "a",
        ["https://example.org/a", "https://example.org/b"],
    ),
    (
        "https://example.org，好 see (https://example.org/x_(y)).",
        "a",
        ["https://example.org", "https://example.org/x_(y)"],
    ),
    # Formulas and prices.
    ("$x_1$, $\\alpha$ and $f(x)$ cost $5 and $10", "math", ["x1", "α", "f(x)"]),
    ("US$5, $HOME:$PATH, $1,000–$2,000, **$5**–**$6**, \\$3 `$x$`", "math", []),
    ("设$n$为\\(x^2\\)。\n\n$$\\frac12$$", "math", ["n", "x2", "12"]),
    ("$\\text{max_tokens} = a_1$", "math", ["max_tokens=a1"]),
    # What is no TeX is shown as it was written.
    ("$x^2 \\none{a}$ and \\(\\frac{a}{b\\)", ".math", ["$x^2 \\none{a}$", "\\(\\frac{a}{b\\)"]),
    ("\\begin{align}\na &= b\n\\end{align}\n\n```math\nx\n```", "math", ["a=b", "x"]),
    ("```gather\na\n```\n\n```latex\n\\[b\\]\n```\n\n```latex\n\\alpha\n```", "math", list("ab")),
    # Fences in a Markdown fence.
    ("```markdown\n```python\nx\n```\ny\n```\nend", "pre", ["```python\nx\n```\ny"]),
    ("```md\ny\n\n```\nx\n```\n\nz\n```\nend", "pre", ["y\n\n```\nx\n```\n\nz"]),
    ("```md\ny\n```\n\na\n\n```\nx\n```\nend", "pre", ["y", "x"]),
    ("```md\ny\n```\na\n\n```\nx\n```\nend", "pre", ["y", "x"]),
    ("````markdown\n```python\nx\n```\n````\nend", "pre", ["```python\nx\n```"]),
    # Right to left.
    ("Python لغة برمجة\n\nEnglish with كلمة", "p[dir=rtl]", ["Python لغة برمجة"]),
    ("- عنصر\n\n- Python لغة\n\n> اقتباس", "ul[dir=rtl] p, blockquote[dir=rtl]", None),
    ("| اسم | قيمة |\n|--|--|\n| ب | -5 % |", "table[dir=rtl] td[dir=ltr]", ["-5 %"]),
    # Callouts, details, comments, tags.
    ("> [!NOTE]\n> Text", "blockquote > p strong", ["Note"]),
    ("> [!odd]\n> Text", "blockquote", ["[!odd]\nText"]),
    ("<details><summary>A **b**</summary>\n\nc\n\n</details>\nd", "details", ["A bc"]),
    ("<!-- hidden -->\na <!-- b --> c\n\n<div dir='rtl'>\n\nd", "#transcript", ["a  cd"]),
    ("| a |\n|---|\n| b<br>c |", "td br", [""]),
    ("x<sub>1</sub> <mark>m</mark> <kbd>K</kbd>", "sub, mark, kbd", ["1", "m", "K"]),
    ('<odd>x</odd> <b id="y">z</b>', "p", ['<odd>x</odd> <b id="y">z</b>']),
    ("A[^1]\n\n[^1]: Note", "sup, .footnote", ["[1]", "[1] Note"]),
)
"""A text, a selector, and the texts of what it finds (None: three elements)."""
