"""The site, as `make docs` builds it, opened from its folder in headless Chromium."""

import fcntl
import inspect
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
START = "docs/index.html"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site; processes that share the tests share it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "site"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-n", "-b", "html", "-c", "docs"]
            result = subprocess.run(
                [*command, "-d", folder / "doctrees", ".", folder / "html"], cwd=ROOT, capture_output=True, text=True
            )
            assert result.returncode == 0, result.stderr[-4000:]
            (folder / "done").touch()
    return folder / "html"


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window and without a network."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        assert not os.environ.get("CI"), "CI has no Chromium: see .ci/run"
        pytest.skip("no Chromium: install Debian's package chromium")
    from playwright.sync_api import sync_playwright

    quiet = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=path, args=[*quiet, "--disable-sync", "--no-first-run", "--disable-dev-shm-usage"]
        )
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, site):
    """A new page, of a new user; what its console says and what it asks for is in `heard`."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light", offline=True)
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.heard = []
    page.on("console", lambda message: message.type in ("error", "warning") and page.heard.append(message.text))
    page.on("pageerror", lambda error: page.heard.append(str(error)))
    page.on("request", lambda request: request.url.startswith(("file:", "data:")) or page.heard.append(request.url))
    page.open = lambda path: page.goto(f"{site.as_uri()}/{path}")
    yield page
    context.close()


class Links(HTMLParser):
    """`ids` and `links` of a page, and what it loads from elsewhere."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.foreign = set(), [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids |= {attrs[key] for key in ("id", "name") if attrs.get(key)}
        loaded = [attrs.get(key) for key in ("src", "srcset", "poster", "data")]
        if tag == "link" and not {"canonical", "license"} & set((attrs.get("rel") or "").split()):
            loaded.append(attrs.get("href"))
        self.foreign += [url for url in loaded if url and re.match(r"(https?:)?//", url)]
        if tag in ("a", "link", "img", "script"):
            self.links += [url for url in (attrs.get("href"), attrs.get("src")) if url]


@pytest.fixture(scope="module")
def pages(site):
    """{path from the top: `Links`} of all pages."""
    return {path.relative_to(site).as_posix(): Links(path) for path in sorted(site.rglob("*.html"))}


def own(pages):
    """Pages that are written by hand or from docstrings: not those of source code."""
    return [path for path in pages if not path.startswith(("_", "genindex", "index", "search", "py-modindex"))]


def test_nothing_is_loaded_from_elsewhere(site, pages):
    assert not {path: page.foreign for path, page in pages.items() if page.foreign}
    for sheet in site.rglob("*.css"):
        text = re.sub(r"/\*.*?\*/", "", sheet.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert not re.search(r"@import|url\(['\"]?(?:https?:)?//", text), sheet


def test_all_pages_are_there_and_every_link_within_the_site_leads_somewhere(site, pages):
    notebooks = {f"notebooks/{path.stem}.html" for path in (ROOT / "notebooks").glob("*.ipynb")}
    written = {f"docs/{path.stem}.html" for path in (ROOT / "docs").glob("*.md")} - {"docs/README.html"}
    assert notebooks | written | {"CONTRIBUTING.html", "CHANGELOG.html", "docs/api/samplers.html"} <= set(pages)
    dead = []
    for path, page in pages.items():
        for link in page.links:
            url = urlsplit(link)
            if url.scheme or url.netloc:
                continue
            target = (site / path).parent / unquote(url.path) if url.path else site / path
            name = os.path.relpath(target, site)
            if not target.exists() or (
                url.fragment and name in pages and unquote(url.fragment) not in pages[name].ids | {""}
            ):
                dead.append(f"{path}: {link}")
    assert not dead, dead[:20]


def test_every_room_is_in_the_reference(pages):
    import keras_diffusion as kd

    rooms = {name for name in kd.__all__ if inspect.ismodule(getattr(kd, name))} - {"keras"}
    assert len(rooms) > 10
    for room in rooms:
        missing = {f"keras_diffusion.{room}.{name}" for name in getattr(kd, room).__all__}
        missing -= pages[f"docs/api/{room}.html"].ids
        missing -= {id for page in pages.values() for id in page.ids} if room in ("checkpoints", "models") else set()
        assert not missing, missing


# Too wide is what reaches beyond the screen and cannot be scrolled to within the article.
_WRONG = """() => {
    const scrolls = node => ["auto", "scroll"].includes(getComputedStyle(node).overflowX);
    const held = node => node.tagName == "ARTICLE" ? false : scrolls(node) || held(node.parentElement);
    const wide = [...document.querySelectorAll("article *")].filter(node =>
        node.getBoundingClientRect().right > innerWidth + 1 && !node.closest(".katex-mathml, svg") && !held(node));
    return {
        pictures: [...document.images].filter(image => !image.complete || !image.naturalWidth).map(i => i.src),
        formulas: [...document.querySelectorAll("[data-tex]")].filter(f => !f.querySelector(".katex")).length,
        misread: [...document.querySelectorAll(".katex-error")].map(f => f.title),
        wide: wide.slice(0, 5).map(node => node.outerHTML.slice(0, 120)),
        scrolled: Math.max(0, document.documentElement.scrollWidth - innerWidth),
    };
}"""


def test_pages_open_without_errors_on_a_narrow_screen(page, pages):
    page.set_viewport_size({"width": 375, "height": 812})
    wrong = {}
    for path in own(pages):
        page.open(path)
        found = page.evaluate(_WRONG)
        found = {key: value for key, value in {**found, "heard": list(page.heard)}.items() if value}
        page.heard.clear()
        if found:
            wrong[path] = found
    assert not wrong, wrong


def test_formulas_have_the_fonts_that_came_with_the_site(page):
    page.open("notebooks/01-first-diffusion-model.html")
    assert page.locator(".katex").count() > 20
    assert page.evaluate("document.fonts.ready.then(() => document.fonts.check('12px KaTeX_Main'))")
    loaded = page.evaluate("[...document.fonts].filter(f => f.status == 'loaded').map(f => f.family)")
    assert {"KaTeX_Main", "KaTeX_Math"} <= {family.strip('"') for family in loaded}


def test_navigation_by_clicks(page):
    page.open("index.html")
    page.wait_for_url(f"**/{START}")
    tree = page.locator(".sidebar-tree")
    tree.get_by_role("link", name="What there is").click()
    assert page.title().startswith("What there is")
    page.locator("article").get_by_role("link", name="solvers.md").first.click()
    page.wait_for_url("**/docs/solvers.html")
    page.locator(".sidebar-brand").click()
    page.wait_for_url(f"**/{START}")
    page.locator(".cards").get_by_role("link", name="first diffusion model").click()
    page.wait_for_url("**/notebooks/01-first-diffusion-model.html")
    page.open("docs/api/samplers.html")
    page.locator("table.names").get_by_role("link", name="DDIMSampler", exact=True).click()
    page.wait_for_url("**/docs/api/samplers.html#keras_diffusion.samplers.DDIMSampler")
    page.locator("[id='keras_diffusion.samplers.DDIMSampler'] >> .viewcode-link").click()
    page.wait_for_url("**/_modules/keras_diffusion/samplers/ddim.html#*")
    assert not page.heard


def test_search_finds_a_sampler(page):
    page.open(START)
    page.locator(".sidebar-search").fill("dpmpp_2m")
    page.locator(".sidebar-search").press("Enter")
    results = page.locator("#search-results .search a")
    results.filter(has_text=re.compile("^Samplers$")).first.wait_for()  # they come one by one
    assert results.count() > 3
    results.filter(has_text=re.compile("^Samplers$")).first.click()
    page.wait_for_url("**/docs/api/samplers.html**")
    assert not page.heard


def test_search_finds_a_class_by_its_name(page):
    page.open("search.html?q=DiffusionModel")
    first = page.locator("#search-results .search a").first
    assert "DiffusionModel" in first.inner_text()


def test_dark_and_light(page):
    page.open(START)

    def ground():
        return sum(map(int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))[:3]))

    seen = {}
    for _ in range(3):
        page.locator(".theme-toggle-content").click()
        seen[page.evaluate("document.body.dataset.theme")] = ground()
    assert seen["light"] > 700 and seen["dark"] < 120, seen
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("document.body.dataset.theme") == "auto" and ground() < 120  # as the system has it
    assert not page.heard
