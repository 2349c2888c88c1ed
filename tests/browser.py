"""A page as a headless Chromium draws it, without a network, and what a script finds in it."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from html import unescape
from pathlib import Path

from tests.needed import require_program


def text_of(html: str) -> str:
    """The words of a page, without Bokeh's script and without tags."""
    plain = re.sub(r"<(script|style).*?</\1>", " ", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", plain).split())


def assert_loads_nothing(html: str) -> None:
    """A browser would fetch nothing for this page, and is forbidden to: names of XML in Bokeh's script are no addresses."""
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', html[:400])
    assert policy is not None and policy[1].startswith("default-src 'none'; ")
    assert not re.search(r"https?:|\*", policy[1])
    addresses = re.findall(r"""["'`]https?://(?!www\.w3\.org/)[^"'`\s]+""", html)
    assert [one for one in addresses if not one.endswith(("://", "\\n"))] == []
    tags = re.sub(r"<(script|style)[^>]*>.*?</\1>", r"<\1></\1>", html, flags=re.DOTALL)
    assert not re.search(r"<(link|img|iframe|object|embed|base)\b|\ssrc=|@import|url\(", tags)


@dataclass(frozen=True)
class Drawn:
    """What a browser made of a page."""

    dom: str
    console: list[str]

    def said(self) -> dict[str, object]:
        """What the test's own script wrote into the page."""
        found = re.search(r'<pre id="said">(.*?)</pre>', self.dom)
        assert found is not None, self.console
        return dict(json.loads(unescape(found[1])))


def browse(html: str, folder: Path, script: str, width: int = 1280) -> Drawn:
    """Open a page in a frame of some width (a window is never narrower than 500) and run a script in it once it is drawn."""
    browser = require_program("chromium")
    helpers = """
    const deep = (root, what) => [...root.querySelectorAll("*")].flatMap(
      (e) => [...(e.matches(what) ? [e] : []), ...(e.shadowRoot ? deep(e.shadowRoot, what) : [])]);
    const roots = () => Bokeh.documents.flatMap((d) => d.roots());
    const soon = () => new Promise((done) => setTimeout(done, 200));
    window.addEventListener("load", () => setTimeout(async () => {
      const found = await (async () => { SCRIPT })();
      const said = document.body.appendChild(document.createElement("pre"));
      said.id = "said";
      said.textContent = JSON.stringify(found);
    }, 1000));
    """
    extra = f"<script>{helpers.replace('SCRIPT', script)}</script></body>"
    file = folder / "seen.html"
    file.write_text(html.replace("</body>", extra), encoding="utf-8")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}", f"--window-size={width},1400",
        "--host-resolver-rules=MAP * ~NOTFOUND", "--allow-file-access-from-files", "--hide-scrollbars",
        "--virtual-time-budget=10000", "--dump-dom", file.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return Drawn(
        done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line and '"[bokeh' not in line]
    )
