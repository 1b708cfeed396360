// One request: its facts, where the time to its first token went, and its life line by line.

import { $, ago, el, human, seconds, state } from "./dom.js";
import { level } from "./panels.js";

const PARTS = {
  admission_queue: "Admission queue",
  prefill_queue: "Prefill queue",
  prefill_compute: "Prefill compute",
  exposed_transfer: "Exposed transfer",
  decode_queue: "Decode queue",
  first_decode_step: "First decode step",
  delivery: "Delivery",
};

export function showStory(found) {
  $("story").replaceChildren(facts(found), ...split(found), ...lines(found));
}

export function showNone(words) {
  $("story").replaceChildren(el("p", { class: "sub" }, words));
}

function facts(found) {
  const fact = (name, value) => el("div", {}, el("dt", {}, name), el("dd", {}, value));
  const workers = found.prefill ? `${found.prefill} → ${found.decode}` : found.decode;
  return el(
    "dl",
    { class: "facts" },
    fact("Request", el("span", { class: "id" }, found.id)),
    fact("Outcome", state(level(found.outcome), human(found.outcome))),
    fact("TTFT", seconds(found.ttft_s)),
    fact("Took", seconds(found.duration_s)),
    found.prompt_tokens === null ? null : fact("Prompt", `${found.prompt_tokens} tokens`),
    workers ? fact("Workers", workers) : null,
    fact("Attempts", String(found.attempts)),
    fact("Came", ago(found.age_s)),
  );
}

function split(found) {
  const parts = Object.entries(found.parts);
  const all = parts.reduce((total, [, s]) => total + s, 0);
  if (!parts.length) return [el("p", { class: "sub" }, "No token has come of it, so there is nothing to split.")];
  const spans = parts.map(([name, s], i) => {
    const span = el("span", { class: `c${(i % 7) + 1}`, title: `${title(name)}: ${seconds(s)}` });
    span.style.flexGrow = String(all > 0 ? (100 * Math.max(s, 0)) / all : 1);
    span.style.flexBasis = "0";
    return span;
  });
  const words = parts.map(([name, s]) => `${title(name)} ${seconds(s)}`).join(", ");
  const rows = parts.map(([name, s], i) => {
    const swatch = el("span", { class: `swatch c${(i % 7) + 1}`, "aria-hidden": "true" });
    const of = all > 0 ? `${((100 * s) / all).toFixed(0)} %` : "–";
    return el("tr", {}, el("th", { scope: "row" }, swatch, title(name)), el("td", { class: "n" }, seconds(s)), el("td", { class: "n" }, of));
  });
  const caption = "Where the time to its first token went";
  return [
    el("h3", {}, caption),
    el("div", { class: "split", role: "img", "aria-label": words }, ...spans),
    el("table", {}, el("caption", { class: "unseen" }, caption), el("tbody", {}, ...rows)),
  ];
}

function lines(found) {
  if (!found.story) return [];
  return [el("h3", {}, "Its life, step by step"), el("pre", { class: "told", tabindex: "0", "aria-label": "Its life, step by step" }, found.story)];
}

const title = (name) => PARTS[name] ?? human(name);
