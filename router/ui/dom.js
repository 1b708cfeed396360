// Elements, text and numbers. Nothing here reads or writes HTML: names come from outside.

export const $ = (id) => document.getElementById(id);

export function el(tag, attributes = {}, ...children) {
  const svg = ["svg", "path", "line", "text", "g", "rect"].includes(tag);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) set(made, name, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// Changes only what differs, so that neither focus nor a screen reader notices what stays.
export function set(node, name, value) {
  if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

export function text(node, words) {
  if (node.textContent !== words) node.textContent = words;
}

// Keeps one child of `parent` per item, in order; `make` builds it once, `update` fills it each time.
export function keyed(parent, items, keyOf, make, update) {
  const old = new Map([...parent.children].filter((c) => c.dataset.key).map((c) => [c.dataset.key, c]));
  let before = [...parent.children].find((c) => c.dataset.key) ?? null;
  for (const item of items) {
    const key = String(keyOf(item));
    let node = old.get(key);
    old.delete(key);
    if (!node) {
      node = make(item);
      node.dataset.key = key;
    }
    if (node === before) before = before.nextElementSibling;
    else parent.insertBefore(node, before);
    update(node, item);
  }
  for (const node of old.values()) node.remove();
}

export function cells(row, words) {
  words.forEach((word, index) => text(row.children[index], word));
}

export function state(level, words) {
  return el("span", { class: "state", "data-level": level }, el("span", { class: "dot", "aria-hidden": "true" }), el("span", {}, words));
}

export function showState(node, level, words) {
  set(node, "data-level", level);
  text(node.lastChild, words);
}

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export const count = (n) => plain.format(n);
export const share = (n) => (n === null || n === undefined ? "–" : `${(n * 100).toFixed(Number.isInteger(Math.round(n * 1000) / 10) ? 0 : 1)} %`);
export const rate = (n) => (n >= 100 ? plain.format(n) : n >= 10 ? n.toFixed(1) : n.toFixed(2));

export function seconds(s) {
  if (s === null || s === undefined) return "–";
  if (s === 0) return "0 ms";
  if (s < 0.01) return `${(s * 1000).toFixed(1)} ms`;
  if (s < 1) return `${(s * 1000).toFixed(0)} ms`;
  return s < 100 ? `${s.toFixed(2)} s` : `${s.toFixed(0)} s`;
}

export function ago(s) {
  if (s < 60) return `${Math.floor(s)} s ago`;
  return s < 3600 ? `${Math.floor(s / 60)} min ago` : `${Math.floor(s / 3600)} h ago`;
}

export function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  const power = n < 1 ? 0 : Math.min(Math.floor(Math.log10(n) / 3), units.length - 1);
  const size = n / 1000 ** power;
  return `${size >= 100 || power === 0 ? size.toFixed(0) : size.toFixed(1)} ${units[power]}`;
}

export const human = (word) => word.replaceAll("_", " ");
