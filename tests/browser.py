"""A real browser, spoken to over its DevTools protocol: what a page does is what a person would see."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
from websockets.sync.client import ClientConnection, connect

from tests import patience

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# Of all text on the page, against the nearest ground behind it that is not transparent.
WEAKEST_CONTRAST = """
(() => {
  const luminance = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map((v) => {
      const part = v / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    const colour = getComputedStyle(node).backgroundColor;
    return /^rgb\\(/.test(colour) ? colour : ground(node.parentElement);
  };
  const told = [...document.querySelectorAll("body *:not(mark)")].filter((node) =>
    node.checkVisibility() && [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()));
  return Math.min(...told.map((node) => {
    const style = getComputedStyle(node);
    const ink = node instanceof SVGElement ? style.fill : style.color;
    const pair = [luminance(ink), luminance(ground(node))].sort((a, b) => b - a);
    return (pair[0] + 0.05) / (pair[1] + 0.05);
  }));
})()
"""


class Browser:
    """One tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._calls = 0
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Has the browser do `method`, and returns its result; what happens meanwhile is kept in `events`."""
        self._calls += 1
        self._socket.send(json.dumps({"id": self._calls, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=patience.SECONDS))
            if message.get("id") == self._calls:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self.events.append(message)

    def open(self, url: str, width: int = 1000, height: int = 900, *, dark: bool = False) -> None:
        """Opens `url` in a window of that size, in CSS pixels."""
        self.events.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(json.loads(self._socket.recv(timeout=patience.SECONDS)))

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait_for(self, script: str) -> None:
        """Returns once the expression is true."""
        patience.wait_until(lambda: self.run(script), lambda: script)

    def text_of(self, selector: str) -> str:
        """What a person reads there."""
        return str(self.run(f"document.querySelector({json.dumps(selector)}).innerText"))

    def type(self, text: str) -> None:
        """Types where the focus is."""
        self.call("Input.insertText", text=text)

    def press(self, key: str, *, ctrl: bool = False) -> None:
        """Presses a key and lets it go."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                modifiers=2 if ctrl else 0,
                windowsVirtualKeyCode={"Tab": 9, "Enter": 13, " ": 32}[key],
            )

    def requested(self) -> list[str]:
        """The addresses that were asked for since `open`."""
        self.run("0")  # what has happened comes before the answer
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def complaints(self) -> list[str]:
        """What the console was told since `open`: errors, and what the page's policy forbade."""
        self.run("0")
        entries = [event["params"]["entry"] for event in self.events if event["method"] == "Log.entryAdded"]
        thrown = [
            event["params"]["exceptionDetails"]["text"]
            for event in self.events
            if event["method"] == "Runtime.exceptionThrown"
        ]
        return [entry["text"] for entry in entries if entry["level"] == "error"] + thrown

    def picture(self, path: Path) -> None:
        """Writes what the whole page looks like, as PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))


def require_whole(browser: Browser, page: Path, width: int, *, dark: bool) -> None:
    """Opens a page of ours that is one file: nothing of it is cut off or too faint, and it asks nobody."""
    browser.open(page.as_uri(), width, dark=dark)
    assert browser.requested() == [page.as_uri()]
    assert browser.complaints() == []
    assert browser.run("document.documentElement.scrollWidth") <= width
    cut = "[...document.querySelectorAll('section')].filter(s => s.scrollWidth > s.clientWidth).length"
    assert browser.run(cut) == 0
    assert browser.run(WEAKEST_CONTRAST) >= 4.5  # WCAG's for text


@contextlib.contextmanager
def browsing() -> Iterator[Browser]:
    """A browser with one empty tab."""
    assert PROGRAM
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        words = [
            PROGRAM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ]
        # It is to ask nobody but the page's own server.
        words += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        words += ["--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            assert process.stderr
            found = next(filter(None, (re.search(r"ws://([^/]+)/", line) for line in process.stderr)))
            tabs = requests.get(f"http://{found[1]}/json/list", timeout=patience.SECONDS).json()
            tab = next(tab for tab in tabs if tab["type"] == "page")
            with connect(tab["webSocketDebuggerUrl"], max_size=None) as socket:
                yield Browser(socket)
        finally:
            process.terminate()
            process.wait(timeout=patience.SECONDS)
            if process.stderr:
                process.stderr.close()
