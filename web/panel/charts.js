/** Curves over the steps of a training, one small chart for each. */

import uPlot from "../uplot/uPlot.esm.js";

import { addStyle, element } from "../elements.js";

addStyle("../uplot/uPlot.min.css", import.meta.url);

const DIVERSITY = "How different the images are from each other";
const HEIGHT = 84;
const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000]; // between labels of steps
const SMOOTH_FROM = 60; // points: fewer are drawn as they are

/** A colour of the theme that `root` is in. */
const colour = (root, name) => getComputedStyle(root).getPropertyValue(name).trim();

/** Exponential mean over about a twentieth of the values. */
function runningMean(values) {
    const weight = 20 / values.length;
    let mean = values[0];
    return values.map((value) => (mean += weight * (value - mean)));
}

export const figure = (value) => Number(value.toPrecision(3)).toString();

/** One curve with its name and its latest value. */
class Chart {
    constructor(name, title, exactly) {
        this.title = title;
        this.value = element("span", { className: "value" });
        this.place = element("div", { className: "plot" });
        this.place.setAttribute("role", "img");
        this.root = element("figure", { className: "chart" }, element("figcaption", {}, title, this.value), this.place);
        this.root.dataset.name = name;
        this.root.title = exactly;
    }

    draw([steps, values], last) {
        this.root.hidden = !steps.length; // of another training
        if (!steps.length) return;
        const smooth = values.length >= SMOOTH_FROM ? runningMean(values) : values;
        const faint = values.length >= SMOOTH_FROM ? values : values.map(() => null);
        const now = figure(smooth.at(-1));
        this.value.textContent = now;
        this.place.setAttribute("aria-label", `${this.title}: at first ${figure(smooth[0])}, now ${now}.`);
        this.last = last;
        this.plot ??= this.create();
        this.plot.setData([steps, faint, smooth]);
        this.fit();
    }

    create() {
        const root = this.root;
        const axis = { stroke: () => colour(root, "--quiet"), grid: { stroke: () => colour(root, "--rule"), width: 1 } };
        const quiet = { ...axis, ticks: { show: false }, font: "10px sans-serif" };
        const format = (_, ticks) => ticks.map((tick) => (tick === null ? "" : figure(tick)));
        return new uPlot(
            {
                width: 100,
                height: HEIGHT,
                pxRatio: Math.max(2, devicePixelRatio), // the canvas of the graph may be zoomed in
                legend: { show: false },
                cursor: { show: false },
                padding: [6, 10, 0, 0],
                scales: {
                    x: { time: false, range: () => [0, Math.max(1, this.last)] },
                    y: { range: (_, low, high) => (low === high ? [low - 0.05, low + 0.05] : uPlot.rangeNum(low ?? 0, high ?? 1, 0.1, true)) },
                },
                axes: [
                    { ...quiet, size: 22, space: 60, values: format, incrs: WHOLE },
                    { ...quiet, size: 48, space: 24, values: format },
                ],
                series: [
                    {},
                    { stroke: () => colour(root, "--faint"), width: 1, points: { show: false } },
                    { stroke: () => colour(root, "--line"), width: 2, points: { show: (plot) => plot.data[0].length < 2 } },
                ],
            },
            [[], [], []],
            this.place,
        );
    }

    dispose() {
        this.plot?.destroy(); // it listens to the window
        this.plot = undefined;
        this.root.remove();
    }

    /** Take the width that there is; colours are read anew. */
    fit() {
        const width = this.place.clientWidth;
        if (!this.plot || !width) return;
        if (width === this.plot.width) this.plot.redraw(false, true);
        else this.plot.setSize({ width, height: HEIGHT });
    }
}

/** The charts of all terms of the loss, and of the diversity. */
export class Charts {
    constructor() {
        this.charts = new Map();
        this.root = element("div", { className: "charts" });
    }

    /** curves: [steps, values] by name of the term; diversity: the same; last: the step at the right end; titles: what a
     * term's curve shows, in plain words. */
    draw(curves, diversity, last, titles) {
        for (const [name, points] of Object.entries(curves)) this.chart(name, titles[name] ?? name, `The loss ${name}, a mean squared difference`).draw(points, last);
        this.chart("diversity", DIVERSITY, "The mean distance of two samples: where it falls, the images become alike").draw(diversity, last);
        for (const [name, chart] of this.charts) {
            if (name !== "diversity" && !(name in curves)) {
                chart.dispose();
                this.charts.delete(name);
            }
        }
    }

    chart(name, title, exactly) {
        let chart = this.charts.get(name);
        if (!chart) {
            this.charts.set(name, (chart = new Chart(name, title, exactly)));
            this.root.append(chart.root);
            const diversity = this.charts.get("diversity");
            if (diversity) this.root.append(diversity.root); // last
        }
        return chart;
    }

    fit() {
        this.charts.forEach((chart) => chart.fit());
    }

    dispose() {
        this.charts.forEach((chart) => chart.dispose());
        this.charts.clear();
    }
}
