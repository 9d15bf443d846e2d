"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const place = "view of " + document.title;
const saved = JSON.parse(sessionStorage.getItem(place) || "{}");
const state = Object.assign({x: "step", log: false, smooth: 0, hidden: [], zoom: null}, saved);
const colour = run => `var(--c${run % 8})`;
const dash = run => ["", "6 3", "2 3", "8 3 2 3"][(run >> 3) % 4];
const svgNode = (name, attributes) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const key in attributes) node.setAttribute(key, attributes[key]);
  return node;
};

const trimmed = (value, digits) => String(Number(value.toPrecision(digits)));
function plain(value, digits = 4) {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e15)) return value.toExponential(digits > 3 ? 2 : 1).replace("e+", "e");
  const units = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]];
  for (const [unit, name] of units) if (size >= unit) return trimmed(value / (name === "k" ? 1e3 : unit), digits) + name;
  return trimmed(value, digits);
}
function bytes(value, digits = 4) {
  for (const [unit, name] of [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]])
    if (Math.abs(value) >= unit) return trimmed(value / unit, digits) + " " + name;
  return trimmed(value, digits) + " B";
}
const shown = (value, unit, digits) => unit === "bytes" ? bytes(value, digits) : plain(value, digits);
function duration(seconds) {
  const pad = n => String(n).padStart(2, "0");
  const all = Math.round(seconds), h = Math.floor(all / 3600), m = Math.floor(all / 60) % 60;
  return h > 0 ? `${h}:${pad(m)}:${pad(all % 60)}` : `${m}:${pad(all % 60)}`;
}
const xText = value => state.x === "seconds" ? duration(value) : state.x === "tokens" ? plain(value, 4) + " tokens" :
  "step " + Math.round(value).toLocaleString("en");
const xTick = value => state.x === "seconds" ? duration(value) : plain(value, 3);

/// The place of `value` in a rising list: the last index whose entry is not above it.
function before(list, value) {
  let low = 0, high = list.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (list[middle] <= value) low = middle; else high = middle - 1;
  }
  return low;
}
function nearest(list, value) {
  const i = before(list, value);
  return i + 1 < list.length && list[i + 1] - value < value - list[i] ? i + 1 : i;
}
/// Tokens or seconds used up at a step, between the steps that the page has them of.
function clocked(run, step) {
  if (state.x === "step") return step;
  const clock = data.clock[run], list = clock[state.x];
  if (!list || !list.length) return step;
  const i = before(clock.step, step);
  if (step <= clock.step[0]) return list[0] * step / clock.step[0];
  if (i + 1 >= list.length) return list[i];
  const share = (step - clock.step[i]) / (clock.step[i + 1] - clock.step[i]);
  return list[i] + share * (list[i + 1] - list[i]);
}
/// Exponential average over steps, not over points: thinned curves stay what they were.
function smoothed(steps, values) {
  if (!state.smooth) return values;
  const span = state.smooth * state.smooth * (steps[steps.length - 1] - steps[0]) / 400;
  if (!(span > 0)) return values;
  let sum = 0, weight = 0, last = steps[0];
  return values.map((value, i) => {
    const keep = Math.exp(-Math.max(steps[i] - last, 1e-9) / span);
    sum = sum * keep + value * (1 - keep);
    weight = weight * keep + (1 - keep);
    last = steps[i];
    return sum / weight;
  });
}
for (const chart of data.charts)
  for (const curve of chart.curves) {
    let step = 0;
    curve.steps = curve.x.map(difference => step += difference);
  }

function ticks(low, high, count, time = false) {
  const rough = (high - low) / count, base = 10 ** Math.floor(Math.log10(rough));
  const times = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 18000, 36000, 86400];
  const step = (time && times.find(s => s >= rough)) || [1, 2, 5, 10].map(f => f * base).find(s => s >= rough);
  const list = [];
  for (let t = Math.ceil(low / step) * step; t <= high + step * 1e-6; t += step) list.push(Math.abs(t) < step * 1e-9 ? 0 : t);
  return list;
}
function logTicks(low, high) {
  const list = [];
  for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); p++)
    for (const f of [1, 2, 5]) if (f * 10 ** p >= low * 0.999 && f * 10 ** p <= high * 1.001) list.push(f * 10 ** p);
  if (list.length > 7) return list.filter(t => Math.abs(Math.log10(t) - Math.round(Math.log10(t))) < 1e-9);
  return list.length >= 2 ? list : ticks(low, high, 4).filter(t => t > 0);
}

function chartBox(parent, head) {
  const box = document.createElement("div");
  box.className = "chart";
  box.innerHTML = head + "<div class=read></div><svg role=img></svg>";
  parent.append(box);
  return box;
}

class ChartView {
  constructor(chart, parent) {
    this.chart = chart;
    this.box = chartBox(parent, "<h3></h3>");
    [this.title, this.read, this.svg] = this.box.children;
    this.title.textContent = chart.title;
    this.svg.setAttribute("aria-label", chart.title);
    this.svg.addEventListener("pointermove", event => this.moved(event));
    this.svg.addEventListener("pointerdown", event => this.pressed(event));
    this.svg.addEventListener("pointerup", () => this.released());
    this.svg.addEventListener("pointercancel", () => { this.from = null; point(null); });
    this.svg.addEventListener("pointerleave", () => { if (this.from === null) point(null); });
    this.svg.addEventListener("dblclick", () => zoom(null));
    this.from = null;
  }
  draw() {
    const width = this.box.clientWidth - 22, height = width < 420 ? 190 : 230;
    const curves = this.chart.curves.filter(c => !state.hidden.includes(c.run)).map(c => ({
      run: c.run, steps: c.steps, x: c.steps.map(s => clocked(c.run, s)), raw: c.y, y: this.chart.smooth ? smoothed(c.steps, c.y) : c.y}));
    this.curves = curves;
    this.svg.replaceChildren();
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.style.height = height + "px";
    let [x0, x1] = state.zoom || [Infinity, -Infinity], y0 = Infinity, y1 = -Infinity;
    if (!state.zoom) for (const c of curves) { x0 = Math.min(x0, c.x[0]); x1 = Math.max(x1, c.x[c.x.length - 1]); }
    const faint = state.smooth > 0 && this.chart.smooth;
    for (const c of curves) c.x.forEach((x, i) => {
      if (x < x0 || x > x1) return;
      const value = c.y[i];
      if (state.log && !(value > 0)) return;
      y0 = Math.min(y0, value); y1 = Math.max(y1, value);
    });
    if (!(x0 < Infinity) || !(y0 < Infinity)) { this.scale = null; this.readout(null); return; }
    if (x1 <= x0) { x0 -= 1; x1 += 1; }
    const forward = state.log ? Math.log : v => v, flat = Math.abs(y0) * 0.05 || 1;
    if (y1 <= y0) { y0 -= state.log ? 0 : flat; y1 += flat; if (state.log) y0 *= 0.9; }
    let low = forward(y0), high = forward(y1);
    if (this.chart.unit && !state.log && y0 > 0) low = 0;  // memory and rates: small changes look small
    const pad = (high - low) * 0.05;
    low = !state.log && y0 >= 0 && low - pad < 0 ? Math.max(0, low - pad) : low - pad;
    high += pad;
    const marks = state.log ? logTicks(y0, y1) : ticks(low, high, height < 200 ? 4 : 6);
    let digits = 3, labels;
    do labels = marks.map(t => shown(t, this.chart.unit, digits)); while (new Set(labels).size < labels.length && ++digits < 8);
    const left = 12 + 6.4 * Math.max(...labels.map(l => l.length)), right = width - 8, top = 8, bottom = height - 22;
    const sx = x => left + (x - x0) / (x1 - x0) * (right - left);
    const sy = y => bottom - (forward(y) - low) / (high - low) * (bottom - top);
    this.scale = {x0, x1, left, right, top, bottom, sx, sy};
    marks.forEach((t, i) => {
      const y = sy(t);
      this.svg.append(svgNode("line", {class: "grid", x1: left, x2: right, y1: y, y2: y}));
      const label = svgNode("text", {x: left - 6, y: y + 4, "text-anchor": "end"});
      label.textContent = labels[i];
      this.svg.append(label);
    });
    for (const t of ticks(x0, x1, Math.max(2, Math.floor((right - left) / 90)), state.x === "seconds")) {
      if (state.x === "step" && t !== Math.round(t)) continue;
      const x = Math.min(Math.max(sx(t), left + 8), right - 14);
      const label = svgNode("text", {x, y: height - 6, "text-anchor": "middle"});
      label.textContent = xTick(t);
      this.svg.append(label);
    }
    const id = "clip" + data.charts.indexOf(this.chart), clip = svgNode("clipPath", {id});
    clip.append(svgNode("rect", {x: left, y: top - 4, width: right - left, height: bottom - top + 8}));
    const lines = svgNode("g", {"clip-path": `url(#${id})`, fill: "none", "stroke-linejoin": "round"});
    for (const c of curves) {
      if (faint) lines.append(this.path(c, c.raw, {opacity: 0.28, "stroke-width": 1}));
      lines.append(this.path(c, c.y, {"stroke-width": !faint && c.x.length > width ? 1.1 : 1.7}));
      const inside = c.x.filter(x => x >= x0 && x <= x1).length;
      if (inside <= 40) c.x.forEach((x, i) => {
        if (!state.log || c.y[i] > 0) lines.append(svgNode("circle", {cx: sx(x), cy: sy(c.y[i]), r: 2.4, fill: colour(c.run)}));
      });
    }
    this.overlay = svgNode("g", {});
    this.svg.append(clip, lines, this.overlay);
    this.readout(null);
  }
  path(c, values, attributes) {
    const {sx, sy, x0, x1} = this.scale;
    let d = "", pen = "M";
    const first = Math.max(0, before(c.x, x0)), last = Math.min(c.x.length - 1, before(c.x, x1) + 1);
    for (let i = first; i <= last; i++) {
      if (state.log && !(values[i] > 0)) { pen = "M"; continue; }
      d += pen + sx(c.x[i]).toFixed(1) + " " + sy(values[i]).toFixed(1);
      pen = "L";
    }
    return svgNode("path", Object.assign({d, stroke: colour(c.run), "stroke-dasharray": dash(c.run)}, attributes));
  }
  /// Values at `at` (on the x axis), or the last ones.
  readout(at) {
    if (!this.scale) { this.read.textContent = "nothing to show"; return; }
    const {sx, sy, top, bottom, x0, x1} = this.scale;
    this.overlay.replaceChildren();
    if (at !== null && at >= x0 && at <= x1)
      this.overlay.append(svgNode("line", {class: "cross", x1: sx(at), x2: sx(at), y1: top, y2: bottom}));
    const parts = [];
    let place = null;
    for (const c of this.curves) {
      const i = at === null ? before(c.x, x1) : nearest(c.x, at);
      if (place === null || at === null) place = Math.max(place ?? -Infinity, c.x[i]);
      const extra = state.smooth > 0 && this.chart.smooth ? ` (${shown(c.raw[i], this.chart.unit, 5)})` : "";
      parts.push([c.run, shown(c.y[i], this.chart.unit, 5) + extra]);
      if (at !== null && c.x[i] >= x0 && c.x[i] <= x1 && (!state.log || c.y[i] > 0))
        this.overlay.append(svgNode("circle", {cx: sx(c.x[i]), cy: sy(c.y[i]), r: 4, fill: colour(c.run)}));
    }
    this.read.replaceChildren(...parts.map(([run, text]) => {
      const span = document.createElement("span"), dot = document.createElement("i"), value = document.createElement("b");
      dot.className = "dot";
      dot.style.background = colour(run);
      value.textContent = text;
      span.title = data.runs[run];
      span.append(dot, value);
      return span;
    }));
    const where = document.createElement("span");
    where.textContent = xText(place ?? 0);
    this.read.prepend(where);
  }
  valueAt(event) {
    const box = this.svg.getBoundingClientRect(), {left, right, x0, x1} = this.scale;
    const x = Math.min(Math.max(event.clientX - box.left, left), right);
    return x0 + (x - left) / (right - left) * (x1 - x0);
  }
  pressed(event) {
    if (!this.scale) return;
    point(this.valueAt(event));
    if (event.pointerType !== "mouse" || event.button !== 0) return;
    this.from = this.valueAt(event);
    this.svg.setPointerCapture(event.pointerId);
  }
  moved(event) {
    if (!this.scale) return;
    const at = this.valueAt(event);
    point(at);
    if (this.from === null) return;
    this.to = at;
    const {sx, top, bottom} = this.scale, a = sx(Math.min(at, this.from)), b = sx(Math.max(at, this.from));
    this.overlay.append(svgNode("rect", {class: "drag", x: a, y: top, width: b - a, height: bottom - top}));
  }
  released() {
    const {sx} = this.scale || {};
    const from = this.from, to = this.to;
    this.from = this.to = null;
    if (from !== null && to != null && Math.abs(sx(to) - sx(from)) > 6) zoom([Math.min(from, to), Math.max(from, to)]);
  }
}

const views = data.charts.map(chart => new ChartView(chart, document.getElementById("charts")));
function redraw() {
  sessionStorage.setItem(place, JSON.stringify(state));
  document.getElementById("unzoom").hidden = !state.zoom;
  for (const view of views) view.draw();
}
function point(at) { for (const view of views) view.readout(at); }
function zoom(range) { state.zoom = range; redraw(); }

const smooth = document.getElementById("smooth"), log = document.getElementById("log"), axis = document.getElementById("axis");
smooth.value = state.smooth; log.checked = state.log; axis.value = state.x;
smooth.addEventListener("input", () => { state.smooth = Number(smooth.value); redraw(); });
log.addEventListener("change", () => { state.log = log.checked; redraw(); });
axis.addEventListener("change", () => { state.x = axis.value; state.zoom = null; redraw(); });
document.getElementById("unzoom").addEventListener("click", () => zoom(null));
if (data.runs.length > 1) data.runs.forEach((name, run) => {
  const button = document.createElement("button"), dot = document.createElement("i");
  dot.className = "dot";
  dot.style.background = colour(run);
  button.append(dot, name);
  button.setAttribute("aria-pressed", !state.hidden.includes(run));
  button.title = "show or hide " + name;
  button.addEventListener("click", () => {
    const off = state.hidden.includes(run);
    state.hidden = off ? state.hidden.filter(r => r !== run) : [...state.hidden, run];
    button.setAttribute("aria-pressed", off);
    redraw();
  });
  document.getElementById("runs").append(button);
});
let width = 0;
new ResizeObserver(() => {
  const now = document.getElementById("charts").clientWidth;
  if (now !== width) { width = now; redraw(); }
}).observe(document.getElementById("charts"));
redraw();
