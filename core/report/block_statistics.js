/// Gradients and activations of each block over the steps, as a heat map: a row a block, a column a step.
class HeatMap {
  constructor(maps, parent) {
    this.maps = maps;
    this.box = chartBox(parent, "<p class=choice><select aria-label=run></select> <select aria-label=quantity></select></p>");
    [this.choice, this.read, this.svg] = this.box.children;
    [this.runs, this.quantities] = this.choice.children;
    maps.forEach((map, i) => this.runs.append(new Option(data.runs[map.run], i)));
    this.runs.hidden = maps.length < 2;
    this.runs.addEventListener("change", () => this.choose());
    this.quantities.addEventListener("change", () => this.draw());
    this.svg.addEventListener("pointermove", event => this.readout(event));
    this.svg.addEventListener("pointerdown", event => this.readout(event));
    this.svg.addEventListener("pointerleave", () => this.readout(null));
    this.choose();
  }
  choose() {
    this.map = this.maps[this.runs.selectedIndex];
    const names = {"gradients.norm": "gradient norm", "gradients.max": "largest gradient", "gradients.zeros": "share of zeros in the gradient",
      "activations.rms": "activations, root mean square", "activations.max": "largest activation", "activations.zeros": "share of zeros in the activations"};
    const before = this.quantities.value;
    this.quantities.replaceChildren(...this.map.quantities.map(q => new Option(names[q.key], q.key)));
    if (this.map.quantities.some(q => q.key === before)) this.quantities.value = before;
    this.draw();
  }
  draw() {
    const {blocks, steps} = this.map, width = this.box.clientWidth - 24;
    if (width <= 0) return;
    this.values = this.map.quantities[this.quantities.selectedIndex].values;
    this.share = this.quantities.value.endsWith(".zeros");
    const all = this.values.flat().filter(v => v !== null && (this.share || v > 0));
    // Shares from 0 to 1, the others over their decades: blocks differ by orders of magnitude.
    const low = this.share ? 0 : Math.log(Math.min(...all)), high = this.share ? 1 : Math.log(Math.max(...all));
    this.low = this.share ? 0 : Math.min(...all);
    this.high = this.share ? 1 : Math.max(...all);
    const tone = v => this.share ? v : v > 0 ? high > low ? (Math.log(v) - low) / (high - low) : 1 : 0;
    const wanted = Math.max(...blocks.map(b => b.length)), letters = Math.min(wanted, Math.floor(width * 0.4 / 6.2));
    const left = 10 + 6.2 * letters, row = blocks.length > 60 ? 8 : 14, top = 2, bottom = top + row * blocks.length;
    const column = (width - left - 4) / steps.length;
    this.grid = {left, top, row, column};
    this.svg.setAttribute("viewBox", `0 0 ${width} ${bottom + 20}`);
    this.svg.style.height = bottom + 20 + "px";
    this.svg.setAttribute("aria-label", this.quantities.selectedOptions[0].text + " by block and step");
    this.svg.replaceChildren();
    blocks.forEach((block, b) => {
      const y = top + row * b;
      if (row >= 11 || b % 2 === 0) {
        const label = svgNode("text", {x: left - 6, y: y + row / 2 + 4, "text-anchor": "end"});
        label.textContent = block.length > letters ? "…" + block.slice(block.length - letters + 1) : block;
        this.svg.append(label);
      }
      this.values[b].forEach((v, i) => {
        if (v !== null) this.svg.append(svgNode("rect", {x: (left + column * i).toFixed(2), y, width: (column + 0.3).toFixed(2), height: row - 1,
          fill: "var(--c0)", "fill-opacity": (0.06 + 0.94 * tone(v)).toFixed(3)}));
      });
    });
    const every = Math.max(1, Math.ceil(60 / column));
    for (let i = 0; i < steps.length; i += every) {
      const x = Math.min(left + column * (i + 0.5), width - 14), label = svgNode("text", {x, y: bottom + 15, "text-anchor": "middle"});
      label.textContent = plain(steps[i], 4);
      this.svg.append(label);
    }
    this.mark = svgNode("rect", {class: "mark", width: Math.max(column, 3), height: row - 1, visibility: "hidden"});
    this.svg.append(this.mark);
    this.readout(null);
  }
  readout(event) {
    const {left, top, row, column} = this.grid, {blocks, steps, of} = this.map, bounds = this.svg.getBoundingClientRect();
    const i = event ? Math.floor((event.clientX - bounds.left - left) / column) : -1;
    const b = event ? Math.floor((event.clientY - bounds.top - top) / row) : -1;
    const inside = i >= 0 && i < steps.length && b >= 0 && b < blocks.length;
    this.mark.setAttribute("visibility", inside ? "visible" : "hidden");
    const words = v => v === null ? "none" : this.share ? trimmed(100 * v, 3) + " %" : plain(v, 4);
    if (inside) {
      this.mark.setAttribute("x", left + column * i);
      this.mark.setAttribute("y", top + row * b);
      this.read.textContent = `${blocks[b]}, step ${steps[i].toLocaleString("en")}: ${words(this.values[b][i])}`;
    } else this.read.textContent = `faint: ${words(this.low)}, full: ${words(this.high)}` +
      (steps.length < of ? `; ${steps.length} of ${of} steps` : "");
  }
}

const blockMaps = document.getElementById("blocks");
if (blockMaps) {
  const map = new HeatMap(data.statistics, blockMaps);
  new ResizeObserver(() => map.draw()).observe(blockMaps);
}
