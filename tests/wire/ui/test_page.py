"""The live page in a real browser, before a router as it runs in a cluster."""

from __future__ import annotations

import asyncio
from decimal import ROUND_HALF_UP, Decimal

import pytest

from baton.wire import worker_pb2 as pb
from router.ui.figures import Buckets
from tests.wire.ui.browser import Browser, Page
from tests.wire.ui.cluster import Cluster

pytestmark = [pytest.mark.wire, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(180)]

LIVE = "document.querySelector('#link').dataset.state === 'live'"
FINISHED = "Number(document.querySelector('#ends [data-key=finished] .n span')?.innerText ?? 0)"
TAB, ENTER, LEFT = ("Tab", 9), ("Enter", 13, "\r"), ("ArrowLeft", 37)
REFUSED = "document.querySelector('#key-note').innerText.includes('not accepted')"
FOCUS = """(() => { const one = document.activeElement;
  return one.id || one.name || one.className || one.closest('[id]').id + ' ' + one.tagName })()"""
CONTRAST = """(() => {
  const context = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
  const style = getComputedStyle(document.body);
  const light = (name) => {
    const probe = document.createElement('i');
    probe.style.color = `var(--${name})`;
    document.body.append(probe);
    context.fillStyle = getComputedStyle(probe).color;
    probe.remove();
    context.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].map((v) => v / 255)
      .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const pairs = [['ink', 'card'], ['soft', 'card'], ['soft', 'page'], ['soft', 'sunken'],
    ['accent', 'card'], ['on-accent', 'accent'], ['good', 'good-soft'], ['watch', 'watch-soft'],
    ['bad', 'bad-soft'], ['bad', 'card']];
  return Object.fromEntries(pairs.map(([a, b]) => {
    const [high, low] = [light(a), light(b)].sort((x, y) => y - x);
    return [`${a} on ${b}`, (high + 0.05) / (low + 0.05)];
  }));
})()"""


async def test_what_it_shows_agrees_with_the_metrics(cluster: Cluster, page: Page) -> None:
    for _ in range(5):
        assert (await cluster.ask()).status_code == 200
    cluster.loads["decode-0"] = pb.Load(running=3, waiting=2, kv_used=0.25)
    measured = await cluster.metrics()
    ended = measured['baton_requests_total{outcome="finished",reason=""}']
    await page.until(f"{FINISHED} === {ended:.0f}")
    await page.until("document.querySelector('#workers').innerText.includes('25 %')")
    for kind, metric in (
        ("Prefill worker", "prefill_choices"),
        ("Decode worker", "decode_choices"),
    ):
        shown = await page.js(
            f"""Object.fromEntries([...document.querySelectorAll('[data-key="{kind}"] li')]
            .map((one) => [one.dataset.key, Number(one.querySelector('.n span').innerText)]))"""
        )
        start = f'baton_{metric}_total{{reason="'
        rows = {n.removeprefix(start)[:-2]: v for n, v in measured.items() if n.startswith(start)}
        assert shown == {reason: number for reason, number in rows.items() if number}
    row = await page.text("#workers [data-key=decode-0]")
    assert row.split("\t")[2:4] == ["3", "2"]
    for name, metric in (("TTFT", "time_to_first_token"), ("TPOT", "tpot")):
        p90 = _buckets(measured, metric).quantile(0.9)
        assert await page.text(f"[data-key='{name}, p90'] .value") == _seconds(p90)
    assert await page.text("[data-key='In flight'] .value span") == "0"


def _buckets(measured: dict[str, float], metric: str) -> Buckets:
    found: dict[float, float] = {}
    for name, value in measured.items():
        if name.startswith(f"baton_{metric}_seconds_bucket"):
            bound = float(name.partition('le="')[2].partition('"')[0])
            found[bound] = found.get(bound, 0) + value
    return Buckets(tuple(sorted(found)), tuple(found[bound] for bound in sorted(found)))


def _seconds(p90: float | None) -> str:
    assert p90 is not None
    if p90 >= 1:
        return f"{p90:.2f}s"
    # Halves go up, as in JavaScript.
    step = Decimal("0.1") if p90 < 0.01 else Decimal(1)
    return f"{Decimal(p90 * 1000).quantize(step, ROUND_HALF_UP)}ms"


async def test_a_request_is_seen_while_one_looks(cluster: Cluster, page: Page) -> None:
    before = await page.js(FINISHED)
    await cluster.ask()
    await page.until(f"{FINISHED} > {before}")


async def test_one_request_is_told(cluster: Cluster, page: Page) -> None:
    asked = (await cluster.ask(prompt="Tell me")).json()["id"]
    await page.js("document.querySelector('#ask-id').focus()")
    await page.type(asked)
    await page.press(*ENTER)
    await page.until("document.querySelector('#story .split')")
    told = await page.text("#story")
    assert "decode-0" in told
    assert "Finished -> closed" in told
    rows = "[...document.querySelectorAll('#story tr')].map((row) => row.innerText.split('\\t'))"
    assert [name for name, *_ in await page.js(rows)][-1] == "Delivery"
    label = await page.js("document.querySelector('#story .split').getAttribute('aria-label')")
    assert label.startswith("Admission queue ")
    await page.js("document.querySelector('#ask-id').value = 'nobody'")
    await page.press(*ENTER)
    await page.until("document.querySelector('#story').innerText.includes('No such request')")
    # The browser writes of the answer 404 itself.
    assert [c for c in page.complaints if "404" not in c] == []
    page.complaints.clear()


async def test_the_keyboard_reaches_everything(cluster: Cluster, page: Page) -> None:
    await cluster.ask()
    await page.until("document.querySelector('#recent button')")
    await page.js("document.activeElement.blur()")
    found = []
    for _ in range(60):
        await page.press(*TAB)
        found.append(await page.js(FOCUS))
        if found[-1] == "plot":
            await page.press(*LEFT)
            spoken = "document.activeElement.parentElement.querySelector('[aria-live]').innerText"
            assert await page.js(spoken)
        if found[-1] == "ask-id":
            break
    assert found[:2] == ["skip", "theme"]
    assert found.count("plot") == 3
    assert found.count("scroll") == 1
    assert found.count("scroll tall") == 1
    assert sum("SUMMARY" in one for one in found) == 3
    assert found.count("id") == await page.js("document.querySelectorAll('#recent button').length")
    await page.press(*TAB)
    assert await page.js("document.activeElement.innerText") == "Tell"
    await page.js("document.querySelector('#recent button').focus()")
    await page.press(*ENTER)
    await page.until("document.querySelector('#story .split')")
    # Once a second everything is written anew: what has the focus stays.
    await asyncio.sleep(1.5)
    assert await page.js(FOCUS) == "id"


async def test_a_screen_reader_finds_names_for_everything(page: Page) -> None:
    nodes = (await page.call("Accessibility.getFullAXTree"))["nodes"]
    known = [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in nodes if "role" in n]
    roles = [role for role, _ in known]
    assert {"banner", "main", "contentinfo", "search", "status"} <= set(roles)
    named = {"table", "region", "button", "textbox", "searchbox", "radio", "group", "heading"}
    assert [one for one in known if one[0] in named and not one[1].strip()] == []
    tables = "[...document.querySelectorAll('table')].every((one) => one.caption?.textContent)"
    assert await page.js(tables)
    charts = [name for role, name in known if role == "group" and "Arrow keys" in name]
    assert len(charts) == 3


async def test_light_and_dark(page: Page) -> None:
    def colour() -> str:
        return "getComputedStyle(document.body).backgroundColor"

    seen = []
    for scheme in ("light", "dark"):
        await page.prefer(scheme)
        seen.append(await page.js(colour()))
        low = {pair: c for pair, c in (await page.js(CONTRAST)).items() if c < 4.5}
        assert low == {}, scheme
    assert seen[0] != seen[1]
    await page.js("document.querySelector('input[value=light]').click()")
    assert await page.js(colour()) == seen[0]
    await page.js("document.querySelector('input[value=dark]').click()")
    await page.prefer("light")
    assert await page.js(colour()) == seen[1]
    await page.js("document.querySelector('input[value=auto]').click()")
    assert await page.js(colour()) == seen[0]


@pytest.mark.parametrize("width", [390, 1440])
async def test_it_fits(page: Page, width: int) -> None:
    await page.size(width, 844)
    assert await page.js("document.documentElement.scrollWidth") == width


async def test_it_says_what_needs_attention(cluster: Cluster, page: Page) -> None:
    cluster.show("prefill-0")
    words = "document.querySelector('#attention-list').innerText"
    await page.until(f"{words}.includes('no prefill worker is ready')")
    assert "prefill-0 is starting: loading weights" in await page.js(words)
    cluster.show()
    await page.until(f"{words}.includes('nothing needs attention')")


async def test_it_survives_a_restart_of_the_router(cluster: Cluster, page: Page) -> None:
    await cluster.ask()
    await page.until(f"{FINISHED} > 0")
    await cluster.stop()
    await page.until("document.querySelector('#link').dataset.state === 'lost'")
    assert "Disconnected" in await page.text("#link")
    await cluster.start()
    await page.until(LIVE, 30)
    assert await page.js(FINISHED) == 0
    await cluster.ask()
    await page.until(f"{FINISHED} === 1")
    assert page.unanswered != []


async def test_without_the_key_nothing_is_shown(
    cluster: Cluster, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster.stop()
    monkeypatch.setenv("VLLM_API_KEY", "open sesame")
    await cluster.start()
    for path in ("/ui/data", "/ui/request/x"):
        assert (await cluster.client.get(path)).status_code == 401
    page = await browser.open(f"{cluster.url}/ui")
    await page.until("document.querySelector('#key-dialog').open")
    assert await page.text("#tiles") == ""
    await page.type("wrong")
    await page.press(*ENTER)
    await page.until(f"document.querySelector('#key-dialog').open && {REFUSED}")
    await page.type("open sesame")
    await page.press(*ENTER)
    await page.until(LIVE)
    assert not await page.js("document.querySelector('#key-dialog').open")
    assert await page.text("#tiles") != ""
    # What the browser writes of an answer 401, and nothing else.
    assert [c for c in page.complaints if "401" not in c] == []
    await page.close()
    await _a_key_comes_while_one_asks_without(cluster, browser)
    monkeypatch.delenv("VLLM_API_KEY")
    await cluster.stop()
    await cluster.start()


HELD = """(() => { const real = fetch;
  window.fetch = async (...all) => { window.fetch = real; const answer = await real(...all);
    await new Promise((go) => { window.release = go }); return answer } })()"""


async def _a_key_comes_while_one_asks_without(cluster: Cluster, browser: Browser) -> None:
    page = await browser.open(f"{cluster.url}/ui")
    await page.until("document.querySelector('#key-dialog').open")
    await page.js(HELD)
    await page.until("Boolean(window.release)")
    await page.type("open sesame")
    await page.press(*ENTER)
    await page.js("window.release()")
    await page.until(LIVE)
    assert not await page.js(REFUSED)
    await page.close()
