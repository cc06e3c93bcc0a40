"""A headless Chromium for tests, driven over the WebDriver protocol (W3C) with the standard library alone."""

import base64
import contextlib
import json
import shutil
import subprocess
import urllib.request
from pathlib import Path

FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --window-size=1240,1900""".split()


def chromium():
    """The paths of Chromium and its driver, None when one is absent."""
    paths = shutil.which("chromium") or shutil.which("chromium-browser"), shutil.which("chromedriver")
    return paths if all(paths) else None


class Browser:
    """One session of a running driver."""

    def __init__(self, url: str, profile: Path) -> None:
        self.url = url
        options = {"args": [*FLAGS, f"--user-data-dir={profile}"], "binary": chromium()[0]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        made = self.call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.url = f"{url}/session/{made['sessionId']}"

    def call(self, method: str, path: str, body: dict | None = None):
        data = None if method == "GET" else json.dumps(body or {}).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def open(self, path: Path) -> None:
        self.call("POST", "/url", {"url": path.as_uri()})

    def run(self, script: str):
        return self.call("POST", "/execute/sync", {"script": script, "args": []})

    def errors(self) -> list[str]:
        return [entry["message"] for entry in self.call("POST", "/se/log", {"type": "browser"})]

    def drag(self, start: tuple[int, int], end: tuple[int, int]) -> None:
        move = lambda p: {"type": "pointerMove", "duration": 50, "x": p[0], "y": p[1], "origin": "viewport"}
        steps = [move(start), {"type": "pointerDown", "button": 0}, move(end), {"type": "pointerUp", "button": 0}]
        mouse = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": steps}
        self.call("POST", "/actions", {"actions": [mouse]})

    def screenshot(self) -> bytes:
        return base64.b64decode(self.call("GET", "/screenshot"))


@contextlib.contextmanager
def browser(profile: Path):
    """A browser for the block; its processes end with it."""
    driver = subprocess.Popen([chromium()[1], "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    session = None
    try:
        port = next(line.rpartition("port ")[2].strip(" .\n") for line in driver.stdout if "success" in line)
        session = Browser(f"http://127.0.0.1:{port}", profile)
        yield session
    finally:
        if session is not None:
            session.call("DELETE", "")
        driver.terminate()
        driver.wait()
        driver.stdout.close()
