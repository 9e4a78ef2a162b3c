"""The site: it builds without a warning, each link in it leads somewhere, and no page needs the network to be read."""

import importlib
import importlib.util
import json
import os
import re
import shutil
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.project.test_docstrings import MODULES, OBJECTS
from tests.support.processes import output_of

ROOT = Path(__file__).parents[2]


def extension(name):
    """Import an extension of the site, whose folder is on Sphinx's path alone."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "_extensions" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


gallery_pages, repository_pages = extension("gallery_pages"), extension("repository_pages")
# what the build makes in the folder of its pages
MADE = ("gallery", "reference", "repository")
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))
BUILD = "import sys; from sphinx.cmd.build import main; raise SystemExit(main(sys.argv[1:]))"
# elements that load what they name when a page is opened, and links that only tell of something
LOADING = {"script": "src", "img": "src", "source": "src", "iframe": "src", "video": "src", "object": "data"}
LOADED_BY_LINK = {"stylesheet", "icon", "preload", "prefetch", "modulepreload", "manifest"}
URL_IN_STYLE = re.compile(r"(?:url\(|@import\s+)[\"']?((?:https?:)?//[^\"')\s]+)")


class Page(HTMLParser):
    """Names, links and what is loaded, of one page."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loaded = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.ids |= {attributes[name] for name in ("id", "name") if attributes.get(name)}
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        if tag == "link" and LOADED_BY_LINK & set((attributes.get("rel") or "").split()):
            self.loaded.append(attributes["href"])
        if attributes.get(LOADING.get(tag, "")):
            self.loaded.append(attributes[LOADING[tag]])
        self.loaded += URL_IN_STYLE.findall(attributes.get("style") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build it from a copy of the pages, beside which stands the rest of the checkout."""
    checkout, out = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("site")
    for path in ROOT.iterdir():
        if path.name != "docs":
            (checkout / path.name).symlink_to(path)
    shutil.copytree(ROOT / "docs", checkout / "docs", ignore=shutil.ignore_patterns("__pycache__", *MADE))
    # `images/gallery` has the name of a folder that is made, and is none
    shutil.copytree(ROOT / "docs" / "images", checkout / "docs" / "images", dirs_exist_ok=True)
    output_of(BUILD, "-q", "-W", "--keep-going", "docs", out, cwd=checkout, timeout=300)
    return out


@pytest.fixture(scope="module")
def pages(site):
    paths = sorted(site.rglob("*.html"))
    return {path.relative_to(site).as_posix(): Page(path.read_text(encoding="utf-8")) for path in paths}


def broken(pages, site):
    """Links between pages that lead nowhere, by the page that they stand on."""
    found = defaultdict(list)
    for name, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = os.path.normpath(os.path.join(os.path.dirname(name), unquote(parts.path))) if parts.path else name
            there = (site / target).is_file()
            if not there or (parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids):
                found[name].append(link)
    return dict(found)


def test_every_link_within_the_site_leads_somewhere(pages, site):
    assert len(pages) > 80
    assert sum(len(page.links) for page in pages.values()) > 1000
    assert broken(pages, site) == {}


def test_a_link_that_leads_nowhere_is_found(tmp_path):
    (tmp_path / "a.html").write_text("")
    page = Page('<a id="here" href="a.html#there"></a><a href="b.html"></a><a href="#here"></a>')
    assert broken({"a.html": page}, tmp_path) == {"a.html": ["a.html#there", "b.html"]}


@pytest.mark.parametrize(
    ("page", "written", "in_the_site"),
    [
        ("method.md", "[a](evidence.md#b)", "[a](evidence.md#b)"),
        ("method.md", "[a](../benchmarks/speed.md#b)", "[a](repository/benchmarks/speed.md#b)"),
        ("method.md", "[`a`](../CHANGELOG.md)", "[`a`](repository/CHANGELOG.md)"),
        ("method.md", "[a](../examples/serve.py)", "[a](gallery/serve.rst)"),
        ("method.md", "[a](../pyproject.toml)", "[a](../pyproject.toml)"),
        ("repository/benchmarks/speed.md", "![a](growth-cpu.png) [b](../docs/scaling.md)",
         "![a](growth-cpu.png) [b](../../scaling.md)"),
        ("repository/CHANGELOG.md", "[a](docs/method.md) [b](#c)", "[a](../method.md) [b](#c)"),
        ("method.md", "`scores[0](x)` [a](https://a.org)", "`scores[0](x)` [a](https://a.org)"),
        ("method.md", "```python\nscores[0](x)\n```", "```python\nscores[0](x)\n```"),
        ("method.md", '<a id="b"></a>Text', "(b)=\nText"),
    ],
)  # fmt: skip
def test_links_are_those_of_the_site(page, written, in_the_site):
    assert repository_pages.with_links_of_the_site(written, page) == in_the_site


def of_the_network(names):
    return [name for name in names if urlsplit(name).netloc]


def test_no_page_loads_anything_from_the_network(pages, site):
    loaded = {name: of_the_network(page.loaded) for name, page in pages.items()}
    assert {name: urls for name, urls in loaded.items() if urls} == {}
    styles = {path.name: URL_IN_STYLE.findall(path.read_text(encoding="utf-8")) for path in site.rglob("*.css")}
    assert len(styles) > 3
    assert {name: urls for name, urls in styles.items() if urls} == {}


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://a.org/x.js"></script>',
        '<link rel="stylesheet" href="//a.org/x.css">',
        '<img src="http://a.org/x.png">',
        '<p style="background: url(https://a.org/x.png)">',
    ],
)
def test_what_is_loaded_from_the_network_is_found(text):
    assert of_the_network(Page(text).loaded)


def test_a_link_for_readers_loads_nothing():
    assert Page('<a href="https://a.org"></a><link rel="canonical" href="https://a.org">').loaded == []


@pytest.mark.parametrize("module", MODULES)
def test_every_public_object_has_a_page_with_signature_example_and_source(site, module):
    for name in [it for it in OBJECTS if it.rpartition(".")[0] == module]:
        text = (site / "reference" / f"{name}.html").read_text(encoding="utf-8")
        assert f'id="{name}"' in text
        assert "Examples</p>" in text
        if not name.endswith("_scorer"):  # an object, which a module holds as a constant
            assert "_modules/skl2rclip/" in text
            assert '<span class="sig-paren">' in text or f'<dt class="sig sig-object py" id="{name}">' in text


def test_reference_and_gallery_point_at_each_other(site):
    for example in EXAMPLES:
        source = (ROOT / "examples" / f"{example}.py").read_text(encoding="utf-8")
        module, names = re.search(r"^from (skl2rclip[.\w]*) import (.*)$", source, re.MULTILINE).groups()
        name = f"{module}.{names.split(', ')[-1]}"
        reference = (site / "reference" / f"{name}.html").read_text(encoding="utf-8")
        assert f"../gallery/{example}.html" in reference
        assert f"../reference/{name}.html" in (site / "gallery" / f"{example}.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "example"),
    [
        ("inspection.LargestErrorsDisplay", "graded_photographs"),
        ("inspection.PrototypeSimilarityDisplay", "what_the_prompt_does"),
        ("inspection.DuplicateImagesDisplay", "copies_and_leaks"),
    ],
)
def test_a_class_points_at_examples_that_use_its_methods_alone(site, name, example):
    assert f"../gallery/{example}.html" in (site / "reference" / f"skl2rclip.{name}.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("docstring", "title"),
    [
        ("Any\n===\n\nMore.", None),
        ("Is it any good? Some say so.\n\nMore.", "Is it any good?"),
        ("Curves: of both", "Curves"),
        ("One sentence.\n", "One sentence"),
    ],
)
def test_the_page_of_an_example_has_a_title(docstring, title):
    made = gallery_pages.with_title(f".. _label:\n\n{docstring}", f'"""{docstring}"""')
    assert made.startswith(f".. _label:\n\n{title or 'Any'}\n{'=' * len(title or 'Any')}\n\n")


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_has_the_figure_that_it_names(site, example):
    named = re.findall(r"sphinx_gallery_thumbnail_path = '(.+)'", (ROOT / "examples" / f"{example}.py").read_text())
    text = (site / "gallery" / f"{example}.html").read_text(encoding="utf-8")
    shown = re.findall(r'alt="What [\w.]+ draws"', text)
    assert len(shown) == len(named)
    assert all((ROOT / "docs" / path).is_file() for path in named)


def article_of(path):
    return re.search(r"<article.*?</article>", path.read_text(encoding="utf-8"), flags=re.DOTALL)[0]


def test_llms_txt_names_every_page_with_its_first_sentence(site, pages):
    text = (site / "llms.txt").read_text(encoding="utf-8")
    listed = re.findall(r"^- \[[^\]]+\]\(([^)]+)\)(: .+)?$", text, flags=re.MULTILINE)
    not_read = re.compile(r"_modules/|genindex|py-modindex|search\.html|index\.html|_static/")
    assert {page for page, _ in listed} == {name for name in pages if not not_read.match(name)}
    sentences = dict(listed)
    assert sentences["repository/README.html"].startswith(": Ordinal image classification")  # and not its figure
    assert sentences["when-to-use.html"].startswith(": Which way to a model")  # and not the end of a list
    silent = [page for page, said in listed if not said]
    assert [page for page in silent if "<p>" in article_of(site / page)] == []
    assert "mean_absolute_rank_error" in (site / "llms-full.txt").read_text(encoding="utf-8")


def test_the_search_knows_pages_and_objects_and_no_tables_of_benchmarks(site):
    text = (site / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(text[text.index("{") : text.rindex("}") + 1])
    titles = dict(zip(index["docnames"], index["titles"], strict=True))
    assert titles["method"] == "The method"
    assert titles["reference/skl2rclip.find_duplicates"] == "find_duplicates"
    assert {title for name, title in titles.items() if "/benchmarks/" in name} == {""}


def test_modules_of_the_reference_are_those_of_the_test():
    reference = (ROOT / "docs" / "reference.rst").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^   (skl2rclip[\w.]*)$", reference, flags=re.MULTILINE)) == MODULES
    assert all(importlib.import_module(module).__all__ for module in MODULES)
