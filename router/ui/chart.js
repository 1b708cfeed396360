// A small line chart over the last minutes: one vertical scale, a crosshair for mouse and keyboard,
// and the same as a table for those who cannot see it.

import { el, set, text } from "./dom.js";

const MARGIN = { left: 52, right: 40, top: 12, bottom: 22 };
const TABLE_ROWS = 12;
// A young router has little to show: the time that is drawn grows with it. Seconds.
const SPANS = [
  { span: 120, every: 30 },
  { span: 300, every: 60 },
  { span: 600, every: 120 },
];

export class Chart {
  // `series` are {name, title}; `format` turns a value into words.
  constructor(host, { title, series, format }) {
    Object.assign(this, { host, title, series, format, span: SPANS[0].span, at: null, shown: null });
    this.svg = el("svg", { "aria-hidden": "true" });
    this.plot = el("div", { class: "plot", tabindex: "0", role: "group", "aria-roledescription": "line chart" }, this.svg);
    this.tip = el("div", { class: "tip", hidden: "" });
    this.empty = el("p", { class: "empty" }, "Nothing was measured in these minutes");
    this.spoken = el("p", { class: "unseen", "aria-live": "polite" });
    host.append(this.plot, this.tip, this.empty, this.spoken);
    this.legend();
    new ResizeObserver(() => this.draw()).observe(host);
    this.plot.addEventListener("pointermove", (event) => this.point(this.indexAt(event.offsetX)));
    this.plot.addEventListener("pointerleave", () => this.point(null));
    this.plot.addEventListener("blur", () => this.point(null));
    this.plot.addEventListener("keydown", (event) => this.key(event));
  }

  legend() {
    const keys = this.series.map(({ name, title }) => key(name, title));
    this.body = el("tbody");
    const heads = ["When", ...this.series.map((s) => s.title)].map((word) => el("th", { scope: "col" }, word));
    const table = el("table", {}, el("caption", { class: "unseen" }, this.title), el("thead", {}, el("tr", {}, ...heads)), this.body);
    this.promised = key("dashed", "promise");
    this.promised.hidden = true;
    this.table = el("details", { "aria-label": `${this.title}, as a table` }, el("summary", {}, "As a table"), table);
    this.table.addEventListener("toggle", () => this.fill());
    this.host.after(el("div", { class: "legend" }, ...keys, this.promised, this.table));
  }

  update(ages, columns, promise = null) {
    this.shown = { ages, columns, promise };
    this.draw();
    this.fill();
    const last = this.series.map(({ name, title }) => `${title} ${this.format(columns[name].at(-1))}`).join(", ");
    set(this.plot, "aria-label", `${this.title}. Now: ${last}. Arrow keys go through time.`);
  }

  draw() {
    const { width, height } = this.host.getBoundingClientRect();
    if (!this.shown || width < 80) return;
    const { columns, promise } = this.shown;
    const values = this.series.flatMap(({ name }) => columns[name]).filter((v) => v !== null);
    const most = Math.max(...values, 0);
    const near = promise !== null && (most === 0 || promise <= most * 2.5);
    this.top = nice(Math.max(most * 1.08, near ? promise * 1.08 : 0) || 1);
    const oldest = this.shown.ages[0];
    Object.assign(this, { width, height }, SPANS.find(({ span }) => span >= oldest) ?? SPANS.at(-1));
    this.empty.hidden = values.length > 0;
    this.promised.hidden = promise === null;
    set(this.svg, "viewBox", `0 0 ${width} ${height}`);
    this.svg.replaceChildren(...this.grid(), ...this.promise(promise, near), ...this.lines(), this.hair());
    if (this.at !== null) this.point(Math.min(this.at, this.shown.ages.length - 1));
  }

  x(age) {
    return MARGIN.left + (1 - Math.min(age / this.span, 1)) * (this.width - MARGIN.left - MARGIN.right);
  }

  y(value) {
    return MARGIN.top + (1 - value / this.top) * (this.height - MARGIN.top - MARGIN.bottom);
  }

  grid() {
    const made = [];
    const steps = this.height < 150 ? 2 : 4;
    for (let i = 0; i <= steps; i += 1) {
      const y = this.y((this.top * i) / steps);
      made.push(el("line", { class: "grid", x1: MARGIN.left, x2: this.width - MARGIN.right, y1: y, y2: y }));
      made.push(el("text", { x: MARGIN.left - 8, y: y + 4, "text-anchor": "end" }, tick((this.top * i) / steps, this.top, this.format)));
    }
    const every = this.width < 460 ? this.span / 2 : this.every;
    for (let age = this.span; age >= 0; age -= every) {
      const words = age === 0 ? "now" : age < 60 ? `−${age} s` : `−${age / 60} min`;
      made.push(el("text", { x: this.x(age), y: this.height - 4, "text-anchor": "middle" }, words));
    }
    return made;
  }

  promise(promise, near) {
    if (promise === null) return [];
    const y = near ? this.y(promise) : MARGIN.top - 2;
    const words = `${near ? "" : "↑ "}promise ${this.format(promise)}`;
    const label = el("text", { class: "promise-text", x: MARGIN.left + 6, y: near ? y - 5 : y + 12 }, words);
    if (!near) return [label];
    return [el("line", { class: "promise", x1: MARGIN.left, x2: this.width - MARGIN.right, y1: y, y2: y }), label];
  }

  lines() {
    const { ages, columns } = this.shown;
    const made = [];
    let lowest = Infinity;
    const ends = [];
    for (const { name, title } of this.series) {
      let path = "";
      let drawing = false;
      columns[name].forEach((value, i) => {
        if (value === null || ages[i] > this.span) {
          drawing = false;
          return;
        }
        // A lone moment is drawn as a dot: a line of no length with round ends.
        path += `${drawing ? "L" : "M"}${this.x(ages[i]).toFixed(1)} ${this.y(value).toFixed(1)}`;
        if (!drawing) path += "h0";
        drawing = true;
      });
      made.push(el("path", { class: `series ${name}`, d: path || "M0 0" }));
      const last = columns[name].at(-1);
      if (last !== null) ends.push({ title, y: this.y(last) });
    }
    // Names at the ends of the lines, pushed apart where they would cover each other.
    for (const end of ends.sort((a, b) => b.y - a.y)) {
      lowest = Math.min(end.y + 4, lowest - 12);
      if (end.title.length <= 4) made.push(el("text", { x: this.width - MARGIN.right + 7, y: lowest }, end.title));
    }
    return made;
  }

  hair() {
    this.cross = el("line", { class: "hair", y1: MARGIN.top, y2: this.height - MARGIN.bottom, visibility: "hidden" });
    return this.cross;
  }

  indexAt(x) {
    if (!this.shown) return null;
    const inner = this.width - MARGIN.left - MARGIN.right;
    const age = (1 - (x - MARGIN.left) / inner) * this.span;
    const off = this.shown.ages.map((a) => Math.abs(a - age));
    return off.indexOf(Math.min(...off));
  }

  point(index) {
    this.at = index;
    if (index === null || !this.shown || !this.cross) {
      this.tip.hidden = true;
      if (this.cross) set(this.cross, "visibility", "hidden");
      return;
    }
    const x = this.x(this.shown.ages[index]);
    set(this.cross, "x1", x);
    set(this.cross, "x2", x);
    set(this.cross, "visibility", "visible");
    this.tip.hidden = false;
    text(this.tip, this.words(index));
    const room = this.tip.offsetWidth;
    this.tip.style.left = `${Math.max(Math.min(x - room / 2, this.width - room - 4), 4)}px`;
  }

  words(index) {
    const { ages, columns } = this.shown;
    const values = this.series.map(({ name, title }) => `${title} ${this.format(columns[name][index])}`);
    return `${when(ages[index])}  ·  ${values.join("  ·  ")}`;
  }

  key(event) {
    const last = (this.shown?.ages.length ?? 0) - 1;
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -12, PageDown: 12, Home: -1e6, End: 1e6 }[event.key];
    if (event.key === "Escape") this.point(null);
    if (step === undefined || last < 0) return;
    event.preventDefault();
    this.point(Math.max(Math.min((this.at ?? last) + step, last), 0));
    text(this.spoken, this.words(this.at));
  }

  fill() {
    if (!this.shown || !this.table.open) return;
    const { ages, columns } = this.shown;
    const every = Math.max(Math.ceil(ages.length / TABLE_ROWS), 1);
    const rows = ages.map((_, i) => i).filter((i) => (ages.length - 1 - i) % every === 0).reverse();
    const cell = (i) => this.series.map(({ name }) => el("td", { class: "n" }, this.format(columns[name][i])));
    this.body.replaceChildren(...rows.map((i) => el("tr", {}, el("th", { scope: "row" }, when(ages[i])), ...cell(i))));
  }
}

function key(name, title) {
  return el("span", {}, el("svg", { viewBox: "0 0 18 8", "aria-hidden": "true" }, el("path", { class: `key ${name}`, d: "M1 4h16" })), title);
}

function when(age) {
  if (age < 3) return "now";
  return age < 90 ? `${Math.round(age)} s ago` : `${(age / 60).toFixed(1)} min ago`;
}

// The next number above that reads well and divides by four.
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10].find((step) => step * power >= value * 0.999);
}

function tick(value, top, format) {
  return value === 0 ? "0" : format(value, top);
}
