from __future__ import annotations

import gzip
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koala_ray.curate.repair import REPAIRS, repair
from koala_ray.records import Turn
from koala_ray.sources.base import RowRejected

PAGE = (
    '<div class="markdown prose w-full break-words dark:prose-invert dark"><p>Sort with <code>list.sort()</code>, '
    "which is <strong>in place</strong> &amp; needs snake_case &lt;b&gt;:</p>"
    '<pre><div class="bg-black mb-4 rounded-md"><div class="flex items-center"><span class="">python</span>'
    '<button class="flex ml-auto gap-2"><svg stroke="currentColor"><path d="M16 4h2"></path></svg>Copy code</button>'
    '</div><div class="p-4 overflow-y-auto"><code class="!whitespace-pre hljs language-python">'
    '<span class="hljs-keyword">if</span> a &lt; b:\n\n    print(<span class="hljs-string">"a\\n&amp;"</span>)\n'
    "</code></div></div></pre><ol><li><p>one</p></li><li><p>two</p></li></ol><ul><li>a</li></ul>"
    "<table><thead><tr><th>A</th><th>B</th></tr></thead><tbody><tr><td>1</td><td>2</td></tr></tbody></table></div>"
)
MARKDOWN = """\
Sort with `list.sort()`, which is **in place** & needs snake_case <b>:

```python
if a < b:

    print("a\\n&")
```

1. one
2. two

- a

| A | B |
| --- | --- |
| 1 | 2 |"""


def dialogue(question: str, answer: str) -> tuple[Turn, ...]:
    return Turn("user", question), Turn("assistant", answer, "positive", learn=True)


def mended(question: str, answer: str) -> tuple[str, ...]:
    return tuple(turn.text for turn in repair(dialogue(question, answer))[0])


def assert_untouched(*turns: Turn) -> None:
    after, kinds = repair(turns)
    assert kinds == ()
    assert after is turns


def test_the_chat_page_becomes_markdown_with_its_code_fenced() -> None:
    turns, kinds = repair(dialogue("How do I sort?", PAGE))
    assert turns[1].text == MARKDOWN
    assert (turns[1].marker, turns[1].learn) == ("positive", True)
    assert kinds == ("HTML to Markdown",)


def test_the_wrapped_words_of_a_user_stay_as_typed() -> None:
    asked = '<div class="flex gap-4 whitespace-pre-wrap">Is  a &lt; b?\n  *Really*<br>yes</div>'
    assert mended(asked, PAGE)[0] == "Is  a < b?\n  *Really*\nyes"
    assert mended("<div>Why?</div>", PAGE)[0] == "Why?"


@pytest.mark.parametrize(
    ("html", "markdown"),
    [
        ("<p>One.</p><p>Two.</p>", "One.\n\nTwo."),
        ("<p>One.</p>\n<ol>\n<li>a</li>\n</ol>", "One.\n\n1. a"),
        ("<h2>Title</h2><blockquote><p>q</p></blockquote>", "## Title\n\n> q"),
        ('<pre><code class="language-c++">a &lt; b;</code></pre>', "```c++\na < b;\n```"),
        ("<pre><code>```\nx\n```</code></pre>", "````\n```\nx\n```\n````"),
        ("<p>&lt;p&gt; is a tag</p>", "\\<p> is a tag"),
    ],
)
def test_a_cleaned_export_becomes_markdown(html: str, markdown: str) -> None:
    assert mended("Tell me.", html)[1] == markdown


def test_a_language_without_a_class_is_taken_from_the_header_and_formulas_from_their_source() -> None:
    html = (
        '<div class="markdown"><pre><div><span>sql</span><button>Copy code</button></div><code>SELECT 1</code></pre>'
        '<p>So <span class="math"><span class="katex"><span><math><annotation encoding="application/x-tex">x^2'
        '</annotation></math></span><span class="katex-html">x2</span></span></span>.</p></div>'
    )
    assert mended("q", html)[1] == "```sql\nSELECT 1\n```\n\nSo $x^2$."


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What does <div> do?", "It groups: <div>a</div>"),
        ("<div>a</div> is not centred, why?", "Add a style."),
        ("Write HTML for a title", "<h1>Title</h1>"),
        ("Make a list for my web page", "<ul><li>a</li></ul>"),
        ("A heading and a list, please", "<h1>Hi</h1>\n<ul>\n  <li>x</li>\n</ul>"),
        ("A button, please", '<div><button onclick="go()">Go</button></div>'),
        ("A box, please", '<p style="color: red">box</p>'),
        ("Is a < b?", "List<int> and a < b > c"),
        ("<p>open", "<p>never closed"),
        ("x", "<p>a</p> and then b"),
        ("x", "<p>a</div>"),
        ("x", "<p><![CDATA[a]]></p>"),
        ("x", "<!DOCTYPE html>\n<html><body><p>a</p></body></html>"),
        ("<p>pasted</p>", "That is a paragraph."),
        ("```html\n<div>a</div>\n```", "```\n<div>b</div>\n```"),
    ],
)
def test_html_that_somebody_means_stays_byte_for_byte(question: str, answer: str) -> None:
    assert_untouched(*dialogue(question, answer))


def test_deeply_nested_html_stays() -> None:
    assert_untouched(*dialogue("x", '<div class="markdown">' + "<div>" * 5000 + "</div>" * 5001))


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("So:\n```\npythonCopy code\nimport os\n```", "So:\n```python\nimport os\n```"),
        ("```pythonCopy codeimport os\n```", "```python\nimport os\n```"),
        ("```c++\nCopy code\nint x;\n```", "```c++\nint x;\n```"),
        ("```\nCopy code\nls\n```", "```\nls\n```"),
        ("```bash Copy code\nls\n```", "```bash\nls\n```"),
        ("1. So:\n   ```\n   jsCopy code\n   x\n   ```", "1. So:\n   ```js\n   x\n   ```"),
        ("So:\n\npython\nCopy code\nimport os", "So:\n\npython\nimport os"),
        ("So:\n\nsqlCopy code\nSELECT 1", "So:\n\nsql\nSELECT 1"),
        ("So:\n\nCopy code\nls", "So:\n\nls"),
    ],
)
def test_the_buttons_label_goes_and_the_language_stays(text: str, clean: str) -> None:
    turns, kinds = repair(dialogue("How?", text))
    assert (turns[1].text, kinds) == (clean, ("Copy code removed",))


@pytest.mark.parametrize(
    "text",
    [
        "Copy code from the page.",
        "Copy code",
        "Press the button\nCopy code to the clipboard\nand go on",
        'Label it "Copy code".\nDone',
        "```\nCopy code to the clipboard\n```",
        "copy code\nby hand",
    ],
)
def test_the_words_of_the_label_stay_in_a_sentence(text: str) -> None:
    assert_untouched(*dialogue("How?", text))


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (r"First part.\n\nSecond part:\n- a\n- b", "First part.\n\nSecond part:\n- a\n- b"),
        (r"One sentence.\nAnother one.", "One sentence.\nAnother one."),
        (r"It ends here.\n", "It ends here."),
        (r'He said "no."\n\n"Yes," she said.', 'He said "no."\n\n"Yes," she said.'),
        (r'Do this.\n\nprint("a\n", end="")\nand go.', 'Do this.\n\nprint("a\\n", end="")\nand go.'),
        (r"For example:\n\nCopy code\nls", "For example:\n\nls"),
    ],
)
def test_an_answer_whose_line_ends_were_escaped_is_mended(text: str, clean: str) -> None:
    assert mended("Why?", text)[1] == clean


@pytest.mark.parametrize(
    "text",
    [
        r'printf("a\n");',
        r'print("Hello.\n\nWorld")',
        r"print('Hello.\n\nWorld')",
        r"Split the text at `Hello.\n\nWorld` first",
        r"The line feed is \n, not \r\n.",
        r"C:\new\notes and \nabla f \neq 0",
        "Real line ends.\nSo this one is meant: a.\\n\\nB",
        r"..\node_modules",
    ],
)
def test_a_literal_newline_that_is_meant_stays(text: str) -> None:
    assert_untouched(*dialogue("Why?", text))


def test_a_question_with_escaped_line_ends_stays() -> None:
    assert_untouched(*dialogue(r"Unescape this: Dear John.\n\nI write to you.", "Done."))


@pytest.mark.parametrize(
    ("text", "clean", "kinds"),
    [
        ("a\r\nb\rc", "a\nb\nc", ("line ends normalized",)),
        ("a\x00b\x07\x1b\x85\x9f\tc\n", "ab\tc", ("control characters removed",)),
        ("\ufeffa", "a", ("byte order mark removed",)),
        ("\x00\ufeff\r\na", "a", ("line ends normalized", "control characters removed", "byte order mark removed")),
    ],
)
def test_characters_that_say_nothing_go(text: str, clean: str, kinds: tuple[str, ...]) -> None:
    turns, made = repair(dialogue(text, text))
    assert [turn.text for turn in turns] == [clean, clean]
    assert made == kinds


@pytest.mark.parametrize(
    "text", ["👩\u200d👩\u200d👧", "می\u200cخواهم", "שלום \u200fab\u200e", "a\u00a0b\ufeffc", "e\u0301 𝒳 \U0010ffff"]
)
def test_joiners_directions_and_all_scripts_stay(text: str) -> None:
    assert_untouched(*dialogue(text, text))


def test_an_emptied_turn_is_dropped_as_readers_drop_it() -> None:
    user, first, second = Turn("user", "Why?"), Turn("assistant", "A"), Turn("assistant", "B", "negative", learn=True)
    turns, kinds = repair((user, first, Turn("user", "\x00"), second))
    assert turns == (user, replace(second, text="A\n\nB"))
    assert kinds == ("control characters removed", "empty turn dropped", "turns of one role joined")

    turns, kinds = repair((Turn("user", "\x00"), first, user, second, user, Turn("assistant", "\x01")))
    assert turns == (user, second)
    assert kinds[1:] == ("empty turn dropped", "opening answer dropped", "closing question dropped")


def test_a_dialogue_without_an_exchange_or_without_anything_to_learn_is_rejected() -> None:
    with pytest.raises(RowRejected, match="no exchange of a user and an assistant"):
        repair(dialogue("\x00", "Yes."))
    learnt = Turn("assistant", "\x00", "negative", learn=True)
    with pytest.raises(RowRejected, match="no answer left to learn from"):
        repair((Turn("user", "a"), Turn("assistant", "b"), Turn("user", "c"), learnt))


RESIDUE = [
    *(
        "\r\n",
        "\r",
        "\x00",
        "\x85",
        "\ufeff",
        "\\n",
        "\\n\\n",
        ".\\n\\nA",
        '"',
        "'",
        "`",
        "```",
        "```\n",
        "Copy code",
        "\n",
    ),
    *(
        "pythonCopy code\n",
        "<p>",
        "</p>",
        "<div>",
        '<div class="markdown">',
        "</div>",
        "<pre>",
        "<code>",
        "</code>",
        " ",
    ),
    *(
        "</pre>",
        "<br>",
        "<li>",
        "<![",
        "<?",
        "<!--",
        "-->",
        "&lt;p&gt;",
        "&#13;",
        "&#0;",
        "<table>",
        "<tr><td>",
        "a",
        "Hi.",
    ),
]
texts = st.one_of(st.text(), st.lists(st.sampled_from(RESIDUE), max_size=12).map("".join))
documents = texts.map(lambda text: f'<div class="markdown">{text}</div>')
dialogues = st.lists(st.one_of(texts, documents), min_size=2, max_size=4).map(
    lambda said: tuple(
        Turn("assistant", text, "positive", learn=True) if place % 2 else Turn("user", text)
        for place, text in enumerate(said)
    )
)


@settings(deadline=None, max_examples=400)
@given(dialogues)
def test_repairing_twice_changes_nothing_more_and_nothing_raises(turns: tuple[Turn, ...]) -> None:
    try:
        once, kinds = repair(turns)
    except RowRejected:
        return
    assert list(kinds) == [kind for kind in REPAIRS if kind in kinds]
    assert (once is turns) == (kinds == ())
    again, more = repair(once)
    assert again is once
    assert more == ()


@given(st.text(alphabet=st.characters(blacklist_categories=("Cc", "Cs"), blacklist_characters="\ufeff<\\"), min_size=1))
def test_text_without_residue_is_the_same_object(text: str) -> None:
    assert_untouched(*dialogue(text, text))


def test_real_rows(real_data) -> None:
    rows = [json.loads(line) for line in (real_data / "sources/hc3_open_qa.jsonl").open()]
    human = [(row["question"], answer) for row in rows for answer in row["human_answers"] if answer]
    assert [pair for pair in human if repair(dialogue(*pair))[1]] == []

    answers = [(row["question"], answer) for row in rows for answer in row["chatgpt_answers"] if "\\n" in answer]
    # What stays is "!\nnetwork error" and its like: no answers at all.
    left = [answer for pair in answers if "\\n" in (answer := mended(*pair)[1])]
    assert len(answers) > 1300
    assert all(answer.startswith("!\\n") for answer in left)
    assert not any("Copy code" in mended(*pair)[1] for pair in answers)

    with gzip.open(real_data / "sources/hh_harmless.jsonl.gz", "rt") as file:
        texts = [json.loads(line)["chosen"] for line in file]
    texts += [json.loads(line)["prompt"] for line in (real_data / "prompts/koala_test_set.jsonl").open()]
    for name in ("alpaca-7b", "text_davinci_003"):
        texts += [row["output"] for row in json.loads((real_data / f"answers/{name}_model_outputs.json").read_text())]
    assert [text for text in texts if text and repair(dialogue("q", text))[1]] == []
