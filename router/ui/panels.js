// Everything on the page but the charts and the story: each function fills one part from the data.

import { $, ago, bytes, cells, count, el, human, keyed, rate, seconds, set, share, showState, state, text } from "./dom.js";

const TITLES = { prefill: "Prefill", decode: "Decode" };

export function where(data) {
  const others = data.routers.length > 1 ? ` · one of ${data.routers.length} routers` : "";
  text($("where"), `${data.model} · ${data.router.id}${others}`);
  document.title = data.attention.some((one) => one.level === "bad") ? "● Baton" : "Baton";
}

export function attention(data) {
  const found = data.attention.length ? data.attention : [{ level: "good", about: "nothing", text: "All workers are ready, and nothing needs attention" }];
  keyed($("attention-list"), found, (one) => one.about, () => el("li", {}, el("span")), (node, one) => {
    set(node, "data-level", one.level);
    text(node.firstChild, one.text);
  });
}

export function tiles(data) {
  const { requests, latency, slo } = data;
  const worst = (name) => Math.min(...data.attainment.map((row) => row[name]).filter((kept) => kept !== null));
  const all = { ttft: known(worst("ttft")), tpot: known(worst("tpot")) };
  const [low, aim] = [(kept) => (kept !== null && kept < slo.percentile ? "bad" : ""), share(slo.percentile)];
  const promise = `promise ${seconds(slo.ttft_s)} + ${seconds(slo.ttft_s_per_1000_tokens)} per 1,000 tokens`;
  const failed = requests.failed_per_s > 0 ? `${rate(requests.failed_per_s)} failed a second` : "none failed lately";
  show([
    ["TTFT, p90", ...unit(seconds(latency.ttft.p90)), `${count(latency.ttft.count)} in the last minute`, low(all.ttft)],
    ["TPOT, p90", ...unit(seconds(latency.tpot.p90)), `promise ${seconds(slo.tpot_s)}`, low(all.tpot)],
    ["TTFT kept", ...unit(share(all.ttft)), `aimed at ${aim}; TPOT ${share(all.tpot)}`, low(all.ttft) || low(all.tpot)],
    ["Finished", rate(requests.finished_per_s), "/ s", failed, ""],
    ["In flight", count(requests.inflight), "", `${count(requests.queued)} queued in this router`, ""],
    ["Refused", rate(requests.refused_per_s), "/ s", refused(requests.refused), requests.refused_per_s > 0 ? "bad" : ""],
  ]);
  text($("ttft-sub"), `${promise} of the prompt`);
  text($("tpot-sub"), `promise ${seconds(slo.tpot_s)} for each token after the first`);
}

const known = (kept) => (Number.isFinite(kept) ? kept : null);

function show(rows) {
  const make = ([title]) => el("div", { class: "tile" }, el("h3", {}, title), el("p", { class: "value" }, el("span"), el("small")), el("p", { class: "sub" }));
  keyed($("tiles"), rows, ([title]) => title, make, (node, [, value, of, note, level]) => {
    set(node, "data-level", level || null);
    cells(node.children[1], [value, of]);
    text(node.children[2], note);
  });
}

function unit(words) {
  const [value, of] = words.split(" ");
  return [value, of ?? ""];
}

function refused(reasons) {
  const [first] = Object.entries(reasons);
  return first ? `${count(sum(reasons))} in all, most ${human(first[0])}` : "none so far";
}

const sum = (counts) => Object.values(counts).reduce((a, b) => a + b, 0);

export function workers(data) {
  const make = () => el("tbody", {}, el("tr", { class: "pool" }, el("th", { colspan: 9, scope: "rowgroup" }, el("div", {}, el("span"), el("span", { class: "sub" })))));
  keyed($("workers"), data.pools, (pool) => pool.role, make, (body, pool) => {
    cells(body.firstChild.firstChild.firstChild, [TITLES[pool.role] ?? pool.role, poolWords(pool)]);
    const mine = data.workers.filter((worker) => worker.role === pool.role);
    keyed(body, mine, (worker) => worker.id, workerRow, fillWorker);
  });
  const left = $("left-out");
  left.hidden = !data.workers_left_out;
  text(left, `${data.workers_left_out} more workers are counted in their pools.`);
}

function poolWords(pool) {
  const wanted = pool.wanted === null ? "" : `, ${pool.wanted} wanted`;
  const words = [`${pool.ready} of ${pool.workers} ready${wanted}`];
  const what = pool.role === "prefill" ? "prompt" : "answer";
  words.push(`${count(pool.arriving_tokens_per_s)} ${what} tokens/s come`);
  if (pool.worker_tokens_per_s) words.push(`one worker does ${count(pool.worker_tokens_per_s)}`);
  if (pool.predicted !== null) words.push(`predicted at ${share(pool.predicted)} of the promise`);
  return words.join(" · ");
}

function workerRow(worker) {
  const n = () => el("td", { class: "n" });
  const meter = el("span", { class: "meter" }, el("i", { "aria-hidden": "true" }, el("b")), el("span"));
  return el("tr", {}, el("th", { scope: "row", class: "id" }, worker.id), el("td", { class: "detail" }, state("", "")), n(), n(), n(), el("td", {}, meter), n(), el("td"), n());
}

function fillWorker(row, worker) {
  const [, place, running, waiting, queue, kv, cached, handed, restarts] = row.children;
  showState(place.firstChild, ...workerState(worker));
  text(running, worker.up ? count(worker.running) : "–");
  text(waiting, worker.up ? count(worker.waiting) : "–");
  text(queue, worker.queue_s === null ? "–" : seconds(worker.queue_s));
  fillMeter(kv.firstChild, worker);
  text(cached, worker.cached_blocks === null ? "–" : count(worker.cached_blocks));
  text(handed, transferWords(worker));
  text(restarts, count(worker.restarts));
}

function workerState(worker) {
  const detail = worker.detail ? `: ${worker.detail}` : "";
  if (worker.state === "ready" && !worker.up) return ["bad", "ready, out of reach"];
  if (worker.state === "ready") return worker.draining ? ["watch", "draining"] : ["good", "ready"];
  return [worker.state === "gone" ? "bad" : "watch", worker.state + detail];
}

function fillMeter(meter, worker) {
  const used = worker.kv_used;
  set(meter, "data-level", used > 0.95 ? "bad" : used > 0.85 ? "watch" : "good");
  meter.firstChild.firstChild.style.width = `${Math.min(used * 100, 100)}%`;
  text(meter.lastChild, worker.up ? `${Math.round(used * 100)} %` : "–");
}

function transferWords(worker) {
  const kv = worker.transfer;
  if (!kv) return "–";
  const moved = worker.role === "prefill" ? [`${bytes(kv.bytes_written)} sent`] : [`${count(kv.received)} prompts received`];
  if (kv.gb_per_s !== null) moved.push(`${rate(kv.gb_per_s)} GB/s tested`);
  if (kv.failed) moved.push(`${count(kv.failed)} failed`);
  if (kv.fenced_blocks) moved.push(`${count(kv.fenced_blocks)} blocks fenced`);
  return moved.join(" · ");
}

export function flow(data) {
  const { requests } = data;
  text($("flow-sub"), `${rate(requests.finished_per_s)} finished, ${rate(requests.failed_per_s)} failed, ${rate(requests.refused_per_s)} refused a second`);
  bars($("ends"), [["How they ended", requests.ended], ["Refused, by reason", requests.refused], ["Placed again, by reason", requests.retried]]);
}

export function choices(data) {
  const { division, prefill, decode, rebalanced } = data.choices;
  bars($("choices"), [["Apart, or on one worker", division], ["Prefill worker", prefill], ["Decode worker", decode]]);
  text($("moved"), `${count(rebalanced)} sent elsewhere than planned when they came`);
}

function bars(host, groups) {
  const some = groups.filter(([, counts]) => Object.keys(counts).length);
  if (!some.length) some.push(["None yet", {}]);
  const make = ([title]) => el("div", {}, el("h3", {}, title), el("ul", { class: "bars" }));
  keyed(host, some, ([title]) => title, make, (node, [, counts]) => fillBars(node.lastChild, counts));
}

function fillBars(list, counts) {
  const all = sum(counts);
  const track = () => el("span", { class: "track", "aria-hidden": "true" }, el("b"));
  const make = () => el("li", {}, el("span"), track(), el("span", { class: "n" }, el("span"), el("span", { class: "share" })));
  keyed(list, Object.entries(counts), ([reason]) => reason, make, (node, [reason, number]) => {
    text(node.firstChild, human(reason));
    node.children[1].firstChild.style.width = `${(100 * number) / all}%`;
    cells(node.lastChild, [count(number), `${Math.round((100 * number) / all)} %`]);
  });
}

export function scaling(data) {
  const row = data.scaling;
  text($("scaling-sub"), row ? scalingWords(row) : "This router was told nothing of it");
  const groups = row ? [["Why", row.why], ["Last changes", [...row.lately].reverse()]] : [];
  const some = groups.filter(([, lines]) => lines.length);
  const make = ([title]) => el("div", {}, el("h3", {}, title), el("ul", { class: "lines" }));
  keyed($("scaling"), some, ([title]) => title, make, (node, [, lines]) => {
    keyed(node.lastChild, lines, (line) => line, () => el("li"), text);
  });
}

function scalingWords(row) {
  const who = row.mode === "auto" ? "The scaling law decides" : "Set by hand";
  return `${who}: ${row.prefill} prefill, ${row.decode} decode wanted`;
}

export function kept(data) {
  const make = () => el("tr", {}, el("th", { scope: "row" }), el("td", { class: "n" }), el("td", { class: "n" }));
  keyed($("kept").tBodies[0], data.attainment, (row) => row.name, make, (node, row) => {
    cells(node, [row.name, share(row.ttft), share(row.tpot)]);
  });
}

export function recent(data, chosen, choose) {
  const make = (row) => {
    const button = el("button", { type: "button", class: "id" }, short(row.id));
    button.title = row.id;
    button.addEventListener("click", () => choose(row.id));
    const n = () => el("td", { class: "n" });
    return el("tr", {}, el("td", {}, button), el("td", {}, state("", "")), n(), n(), el("td"), n());
  };
  keyed($("recent").tBodies[0], data.recent, (row) => row.id, make, (node, row) => {
    set(node, "aria-current", row.id === chosen ? "true" : null);
    const [, outcome, ttft, took, went, came] = node.children;
    showState(outcome.firstChild, level(row.outcome), human(row.outcome));
    text(ttft, seconds(row.ttft_s));
    text(took, seconds(row.duration_s));
    text(went, row.decode ? (row.prefill ? `${row.prefill} → ${row.decode}` : row.decode) : "–");
    text(came, ago(row.age_s));
  });
  $("recent-none").hidden = data.recent.length > 0;
}

export function level(outcome) {
  if (outcome === "finished") return "good";
  if (outcome === "cancelled") return "watch";
  return ["new", "prefilling", "paired", "decoding", "streaming"].includes(outcome) ? "run" : "bad";
}

function short(id) {
  return id.length > 26 ? `${id.slice(0, 16)}…${id.slice(-7)}` : id;
}
