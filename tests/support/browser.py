"""A real browser without a window: Debian's Chromium, told what to do by its own driver. Nothing is downloaded.

with Browser() as browser:
    page = browser.open("file:///…/page.html", width=400, dark=True)
    page.faults()   # what a reader would stumble over, a line each
"""

from __future__ import annotations

import shutil
import tempfile
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server"),
)

# Text is as readable as its worst letter: WCAG 2.2, 1.4.3 (text: 4.5) and 1.4.11 (what a picture says: 3).
_CONTRAST = """
const parse = c => { const n = c.match(/[\\d.]+/g).map(Number);
                     return {rgb: n.slice(0, 3), a: n.length > 3 ? n[3] : 1}; };
const light = rgb => { const [r, g, b] = rgb.map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
                       return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
                      if (c.a > 0) return c.rgb; } return [255, 255, 255]; };
const ratio = (a, b) => { const [x, y] = [light(a), light(b)];
                          return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05); };
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
let texts = 0;
while (walker.nextNode()) {
  const e = walker.currentNode.parentElement, words = walker.currentNode.data.trim();
  if (!words || e.closest('title, desc, style')) continue;
  texts++;
  const style = getComputedStyle(e), svg = e instanceof SVGElement;
  const r = ratio(parse(svg ? style.fill : style.color).rgb, behind(svg ? e.ownerSVGElement.parentElement : e));
  if (r < 4.5) found.push(`contrast ${r.toFixed(2)}: ${words.slice(0, 40)}`);
}
for (const e of document.querySelectorAll('.c-operational, .c-warning, .c-critical')) {
  const r = ratio(parse(getComputedStyle(e).fill).rgb, behind(e.ownerSVGElement.parentElement));
  if (r < 3) found.push(`contrast ${r.toFixed(2)}: ${e.getAttribute('class')}`);
}
if (!texts) found.push('there is no text');
return found;
"""
_OVERFLOW = """
const wide = document.documentElement.scrollWidth, found = [];
if (wide > innerWidth) found.push(`it scrolls sideways: ${wide} in ${innerWidth}`);
for (const e of document.body.querySelectorAll('*')) {
  if (e instanceof SVGElement && !(e instanceof SVGSVGElement) || e.closest('thead')) continue;
  const box = e.getBoundingClientRect();
  if (box.width && (box.right > innerWidth + 0.5 || box.left < -0.5))
    found.push(`${e.tagName} ${e.className} leaves the page`);
}
return found;
"""
_LETTERS = """
return [...document.querySelectorAll('svg text')].flatMap((e, n, all) => {
  const box = e.getBoundingClientRect(), svg = e.ownerSVGElement.getBoundingClientRect(), next = all[n + 1];
  const out = box.left < svg.left - 1 || box.right > svg.right + 1 ? [`a label is cut: ${e.textContent}`] : [];
  if (next && next.ownerSVGElement === e.ownerSVGElement && next.getBoundingClientRect().left < box.right + 2)
    out.push(`labels touch: ${e.textContent} ${next.textContent}`);
  return out;
});
"""
_READ_OUT = """
const found = [], ids = [...document.querySelectorAll('[id]')].map(e => e.id);
if (new Set(ids).size !== ids.length) found.push('an id stands twice');
if (document.querySelectorAll('h1').length !== 1) found.push('there is not one h1');
if (!document.documentElement.lang || !document.title) found.push('no language or no title');
for (const svg of document.querySelectorAll('svg:not([aria-hidden])')) {
  const names = (svg.getAttribute('aria-labelledby') || '').split(' ').map(id => document.getElementById(id));
  if (svg.getAttribute('role') !== 'img' || names.length !== 2 || !names.every(e => e && e.textContent.trim()))
    found.push('a picture says nothing');
}
return found;
"""
_OUTSIDE = """
const found = performance.getEntriesByType('resource').map(e => `it loads ${e.name}`);
if (document.scripts.length) found.push('there is a script');
for (const e of document.querySelectorAll('*'))
  for (const a of e.attributes) if (a.name.startsWith('on')) found.push(`${e.tagName} has ${a.name}`);
for (const a of document.links) if (!/^https?:$/.test(a.protocol)) found.push(`a link to ${a.protocol}`);
return found;
"""


class BrowserMissing(Exception):
    """There is no Chromium with its driver on this machine."""


class Page:
    """A page that is open."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self._driver = driver

    def run(self, script: str) -> Any:
        return self._driver.execute_script(script)

    @property
    def text(self) -> str:
        """What can be read on it."""
        return str(self.run("return document.body.innerText"))

    def faults(self) -> list[str]:
        """What a reader would stumble over, and what the browser complains of."""
        found: list[str] = [str(line["message"]) for line in self._driver.get_log("browser")]
        for script in (_OVERFLOW, _LETTERS, _CONTRAST, _READ_OUT, _OUTSIDE):
            found += self.run(script)
        return found

    def screenshot(self, path: str) -> None:
        self._driver.save_screenshot(path)

    def printed(self) -> bytes:
        """The page on paper, as PDF in base64."""
        return str(self._driver.execute_cdp_cmd("Page.printToPDF", {})["data"]).encode()


class Browser:
    """Chromium, started once. Raises BrowserMissing."""

    def __init__(self) -> None:
        program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        driver = shutil.which("chromedriver")
        if program is None or driver is None:
            raise BrowserMissing("there is no chromium with chromedriver")
        self._profile = tempfile.mkdtemp(prefix="browser-")
        options = webdriver.ChromeOptions()
        options.binary_location = program
        for flag in (*_FLAGS, f"--user-data-dir={self._profile}"):
            options.add_argument(flag)
        try:
            self._driver = webdriver.Chrome(options=options, service=Service(driver))
        except BaseException:
            shutil.rmtree(self._profile, ignore_errors=True)
            raise

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._driver.quit()
        shutil.rmtree(self._profile, ignore_errors=True)

    def open(self, url: str, *, width: int, dark: bool = False, media: str = "") -> Page:
        """A page at this width, in the light or the dark."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": [scheme]})
        self._driver.get(url)
        return Page(self._driver)
