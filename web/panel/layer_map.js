/** Which layers were trained when: a row for each layer, from coarse to fine, a column for neighbouring steps. */

import { element } from "../elements.js";

const ROW = 9; // pixels

/** [1, 2, 3, 7] as "1 to 3, 7". */
function ranges(numbers) {
    const runs = [];
    for (const number of numbers) {
        if (runs.length && runs.at(-1)[1] === number - 1) runs.at(-1)[1] = number;
        else runs.push([number, number]);
    }
    return runs.map(([first, last]) => (first === last ? `${first}` : `${first} to ${last}`)).join(", ");
}

export class LayerMap {
    constructor() {
        this.canvas = element("canvas");
        this.canvas.setAttribute("role", "img");
        this.canvas.onpointermove = (event) => this.name(event);
        const ends = ["coarse", "fine"].map((textContent) => element("span", { textContent }));
        this.map = element("div", { className: "map" }, element("div", { className: "ends" }, ...ends), this.canvas);
        this.caption = element("figcaption");
        this.root = element("figure", { className: "layers" }, this.caption, this.map);
    }

    /** layers: for each layer the share of steps in which it was trained, for each column; steps: the last step of each column. */
    draw(layers, steps) {
        this.layers = layers;
        this.steps = steps;
        this.root.hidden = !steps.length;
        if (!steps.length) return;
        const always = layers.flatMap((shares, layer) => (shares.every((share) => share === 1) ? [layer] : []));
        const sometimes = layers.flat().some((share) => share > 0 && share < 1) || new Set(layers.map(String)).size > 2;
        this.map.hidden = !sometimes;
        this.caption.textContent = "Layers that were trained" + (sometimes ? "" : `, in every step: ${ranges(always)}`);
        if (!sometimes) return;
        const { canvas } = this;
        canvas.width = steps.length;
        canvas.height = layers.length;
        canvas.style.height = `${layers.length * ROW}px`;
        const context = canvas.getContext("2d");
        context.fillStyle = getComputedStyle(this.root).getPropertyValue("--line").trim();
        layers.forEach((shares, row) =>
            shares.forEach((share, column) => {
                context.globalAlpha = share;
                context.fillRect(column, row, 1, 1);
            }),
        );
        canvas.setAttribute("aria-label", this.summary());
    }

    summary() {
        const mean = (shares) => shares.reduce((sum, share) => sum + share, 0) / shares.length;
        const ranked = this.layers.map((shares, layer) => [mean(shares), layer]).sort((a, b) => b[0] - a[0] || a[1] - b[1]);
        const most = ranked.slice(0, 3).filter(([share]) => share > 0);
        return most.length ? `Most often trained: ${most.map(([, layer]) => `layer ${layer}`).join(", ")}.` : "No layer yet.";
    }

    /** Say what is under the pointer. */
    name(event) {
        const box = this.canvas.getBoundingClientRect();
        const at = (share, count) => Math.min(count - 1, Math.max(0, Math.floor(share * count)));
        const column = at((event.clientX - box.left) / box.width, this.steps.length);
        const layer = at((event.clientY - box.top) / box.height, this.layers.length);
        const first = column ? this.steps[column - 1] + 1 : 1;
        const share = Math.round(100 * this.layers[layer][column]);
        this.canvas.title = `Layer ${layer}, steps ${first} to ${this.steps[column]}: trained in ${share} %`;
    }
}
