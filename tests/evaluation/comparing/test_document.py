"""Reports are text that nobody's markup gets into."""

from html.parser import HTMLParser

from plotly.graph_objects import Figure

from src.evaluation.comparing.document import (
    Chart,
    Document,
    Picture,
    Table,
    Text,
    as_html,
    as_markdown,
    markdown_table,
    marked,
)

EVIL = '<script>alert("x")</script>|[a](javascript:b)*c*`d`'


class Seen(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words += data


def document(*parts) -> Document:
    return Document(EVIL, {EVIL: list(parts)})


def test_html_shows_all_text_as_it_is():
    table = Table(["x", EVIL], [[EVIL, "1"]], frozenset({(0, 0)}), {(0, 1): "good"}, code=(0,))
    seen = Seen(as_html(document(Text(EVIL), table, Picture(b"png", EVIL))))
    assert not any(tag == "script" for tag, _ in seen.tags)
    assert seen.words.count(EVIL) == 7
    assert ("td", {"class": "good"}) in seen.tags and any(tag == "b" for tag, _ in seen.tags)
    (source,) = (attributes["src"] for tag, attributes in seen.tags if tag == "img")
    assert source == "data:image/png;base64,cG5n"


def test_html_needs_nothing_beside_it():
    figure = Figure().add_scatter(x=[1], y=[2], name="</script>")
    page = as_html(document(Chart(figure, "one"), Chart(figure, "two")))
    seen = Seen(page)
    assert page.count("Plotly.newPlot(") >= 2 and page.count("plotly.js v") == 1
    loaded = [
        a
        for tag, a in seen.tags
        if tag in ("script", "link", "img", "iframe") and {"src", "href"} & {*a}
    ]
    assert not loaded
    policy = next(a["content"] for tag, a in seen.tags if a.get("http-equiv"))
    assert "default-src 'none'" in policy


def test_markdown_escapes_what_it_would_take_for_markup():
    table = Table(["x", EVIL], [["a_b", "c|d"]], frozenset({(0, 1)}), code=(0,))
    lines = markdown_table(table).splitlines()
    assert lines[1:] == ["|---|---|", r"| `a_b` | **c\|d** |"]
    assert r"\<script\>" in lines[0] and r"\[a\](javascript" in lines[0]
    assert marked("_a_b_ c_1 __d") == r"\_a_b\_ c_1 \_\_d"
    told = as_markdown(document(Text(EVIL), Picture(b"", "a picture")))
    assert "<script>" not in told and "*picture, in the HTML report: a picture*" in told


def test_columns_of_one_name_are_told_apart():
    assert Table(["a", "a", "a"], [["1", "2", "3"]]).plain_rows() == [
        {"a": "1", "a #2": "2", "a #3": "3"}
    ]
