// Asks the router once a second, shows what it says, and says so when it does not answer.

import { Chart } from "./chart.js";
import { $, rate, seconds, set, text } from "./dom.js";
import * as panels from "./panels.js";
import { showNone, showStory } from "./story.js";

const EVERY_MS = 1000;
const PATIENCE_MS = 3000;
const PERCENTILES = ["p50", "p90", "p99"].map((name) => ({ name, title: name }));
const ENDS = [
  { name: "finished", title: "finished" },
  { name: "failed", title: "failed" },
  { name: "refused", title: "refused" },
];

const charts = {
  ttft: new Chart($("ttft-chart"), { title: "Time to first token over the last minutes", series: PERCENTILES, format: seconds }),
  tpot: new Chart($("tpot-chart"), { title: "Time per output token over the last minutes", series: PERCENTILES, format: seconds }),
  flow: new Chart($("flow-chart"), { title: "Requests per second over the last minutes", series: ENDS, format: (n) => rate(n ?? 0) }),
};
let timer = null;
let waiting = false;
let heardAt = null;
let chosen = null;
let latest = null;

// --- asking -----------------------------------------------------------------------------------

function kept(store, name, value) {
  // Storage may be forbidden; then nothing is remembered.
  try {
    if (value === undefined) return store().getItem(name);
    store().setItem(name, value);
  } catch {
    return null;
  }
  return value;
}

function theKey() {
  return kept(() => sessionStorage, "baton-key");
}

async function ask(path) {
  const key = theKey();
  const headers = key ? { authorization: `Bearer ${key}` } : {};
  return fetch(path, { headers, cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
}

async function poll() {
  clearTimeout(timer);
  if (document.hidden || waiting) return;
  waiting = true;
  const key = theKey();
  try {
    const answer = await ask("ui/data");
    if (answer.status === 401) askForKey(key);
    else if (!answer.ok) lost(`The router answers ${answer.status}`);
    else show(await answer.json());
  } catch {
    lost("Disconnected");
  }
  waiting = false;
  timer = setTimeout(poll, EVERY_MS);
}

function show(data) {
  latest = data;
  heardAt = Date.now();
  link("live", "Live");
  $("key-dialog").close();
  for (const part of ["where", "attention", "tiles", "workers", "flow", "choices", "scaling", "kept"]) panels[part](data);
  panels.recent(data, chosen, tell);
  const { age_s: ages, ttft, tpot } = data.chart;
  charts.ttft.update(ages, ttft, data.slo.ttft_s);
  charts.tpot.update(ages, tpot, data.slo.tpot_s);
  charts.flow.update(ages, data.chart);
  set(document.documentElement, "data-at", data.at);
}

function link(state, words) {
  set($("link"), "data-state", state);
  text($("link-text"), words);
}

function lost(why) {
  // Whole tens of seconds, so that a screen reader is not told each second.
  const since = heardAt === null ? null : Math.floor((Date.now() - heardAt) / 10000) * 10;
  const age = since ? `, figures are ${since} s old` : "";
  link("lost", `${why}${age}: trying again`);
}

// --- one request ------------------------------------------------------------------------------

async function tell(id) {
  chosen = id;
  $("ask-id").value = id;
  if (latest) panels.recent(latest, chosen, tell);
  const key = theKey();
  try {
    const answer = await ask(`ui/request/${encodeURIComponent(id)}`);
    if (answer.status === 401) askForKey(key);
    else if (answer.ok) showStory(await answer.json());
    else showNone(answer.status === 404 ? "No such request is known; the latest thousand are kept." : `The router answers ${answer.status}.`);
  } catch {
    showNone("The router does not answer. Try again in a moment.");
  }
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const id = $("ask-id").value.trim();
  if (id) tell(id);
});

// --- the key ----------------------------------------------------------------------------------

function askForKey(refused) {
  // Another one may have been given meanwhile: nothing has been heard of that yet.
  if (refused !== theKey()) return;
  link("lost", "The key of the API is needed");
  if ($("key-dialog").open) return;
  if (refused) text($("key-note"), "That key was not accepted.");
  $("key-dialog").showModal();
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  kept(() => sessionStorage, "baton-key", $("key").value.trim());
  $("key").value = "";
  $("key-dialog").close();
  poll();
});

// --- colours ----------------------------------------------------------------------------------

function paint(theme) {
  set(document.documentElement, "data-theme", theme === "auto" ? null : theme);
}

const theme = kept(() => localStorage, "baton-theme") ?? "auto";
for (const choice of document.querySelectorAll("input[name=theme]")) {
  choice.checked = choice.value === theme;
  choice.addEventListener("change", () => {
    kept(() => localStorage, "baton-theme", choice.value);
    paint(choice.value);
  });
}
paint(theme);

document.addEventListener("visibilitychange", () => {
  if (document.hidden) link("paused", "Paused");
  else poll();
});
poll();
