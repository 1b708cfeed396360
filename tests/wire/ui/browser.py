"""A real Chromium without a screen, driven over the pipe of its own debugging protocol."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
]
_WAIT_S = 20.0
_ENDS_WITHIN_S = 10.0


class Browser:
    """One Chromium with a profile of its own; both are gone when the context is left."""

    async def __aenter__(self) -> Self:
        self._folder = tempfile.mkdtemp(prefix="chromium-")
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        command = ["chromium", *_FLAGS, f"--user-data-dir={self._folder}", "about:blank"]
        # The protocol is spoken on the descriptors 3 and 4.
        script = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        self._process = await asyncio.create_subprocess_exec(
            "bash", "-c", script, "chromium", *command,
            pass_fds=(to_browser, from_browser),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "HOME": self._folder},
        )  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._listeners: dict[str, Callable[[str, dict[str, Any]], None]] = {}
        self._rest = b""
        asyncio.get_running_loop().add_reader(self._in, self._read)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        try:
            await self.call("Browser.close")
            await asyncio.wait_for(self._process.wait(), _ENDS_WITHIN_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        finally:
            asyncio.get_running_loop().remove_reader(self._in)
            os.close(self._in)
            os.close(self._out)
            shutil.rmtree(self._folder, ignore_errors=True)

    async def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        os.write(self._out, json.dumps(message).encode() + b"\0")
        found = await asyncio.wait_for(answer, _WAIT_S)
        assert "error" not in found, f"{method}: {found['error']}"
        return found["result"]

    async def open(self, url: str, width: int = 1440, height: int = 900) -> Page:
        target = await self.call("Target.createTarget", url="about:blank")
        found = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page = Page(self, found["sessionId"], target["targetId"])
        self._listeners[page.session] = page.hear
        for domain in ("Page", "Runtime", "Log", "Network"):
            await page.call(f"{domain}.enable")
        await page.size(width, height)
        await page.call("Page.navigate", url=url)
        return page

    def _read(self) -> None:
        data = os.read(self._in, 1 << 20)
        if not data:
            asyncio.get_running_loop().remove_reader(self._in)
        *messages, self._rest = (self._rest + data).split(b"\0")
        for message in map(json.loads, messages):
            if "id" in message:
                if not (answer := self._answers.pop(message["id"])).done():
                    answer.set_result(message)
            elif listener := self._listeners.get(message.get("sessionId", "")):
                listener(message["method"], message["params"])


class Page:
    """One tab: what it asked for, what it complained of, and a user's hands."""

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self._browser = browser
        self._target = target
        self.session = session
        self.asked: list[str] = []
        """The addresses of all requests."""
        self.complaints: list[str] = []
        """What a developer would see in red, but for requests that got no answer."""
        self.unanswered: list[str] = []

    def hear(self, event: str, params: dict[str, Any]) -> None:
        match event:
            case "Network.requestWillBeSent":
                self.asked.append(params["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.complaints.append(json.dumps(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                entry = params["entry"]
                network = entry["source"] == "network" and "net::ERR" in entry["text"]
                (self.unanswered if network else self.complaints).append(entry["text"])

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        return await self._browser.call(method, self.session, **params)

    async def close(self) -> None:
        await self._browser.call("Target.closeTarget", targetId=self._target)

    async def js(self, expression: str) -> Any:
        """The value of an expression, awaited if it is a promise."""
        found = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    async def text(self, selector: str) -> str:
        """What is written there; empty if it is not there."""
        return await self.js(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")

    async def until(self, expression: str, timeout_s: float = 10.0) -> None:
        """Waits until an expression is true; one that cannot be evaluated is not."""
        tried = f"(() => {{ try {{ return Boolean({expression}) }} catch {{ return false }} }})()"
        async with asyncio.timeout(timeout_s):
            while not await self.js(tried):  # noqa: ASYNC110 (nothing announces it)
                await asyncio.sleep(0.05)

    async def press(self, key: str, code: int, text: str = "") -> None:
        """A key goes down and up. `code` is its Windows key code."""
        about = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
        await self.call("Input.dispatchKeyEvent", **down, **about)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    async def type(self, words: str) -> None:
        """As if typed into what has the focus."""
        await self.call("Input.insertText", text=words)

    async def size(self, width: int, height: int) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip

    async def prefer(self, scheme: str) -> None:
        """The colours that the user's system asks for: light or dark."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.call("Emulation.setEmulatedMedia", features=features)

    async def picture(self, path: Path, *, whole: bool = False) -> None:
        """Saves what is seen, or the whole page, as PNG."""
        found = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        await asyncio.to_thread(path.write_bytes, base64.b64decode(found["data"]))
