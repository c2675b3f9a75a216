/** How far a training is, on the subgraph nodes that it runs in: its panel is not seen from outside. */

import { rootGraph } from "../workflow.js";
import { STATUS, duration } from "./words.js";

/** Of each subgraph node, what the trainings in it say, by their nodes. */
const told = new WeakMap();

function allGraphs() {
    const root = rootGraph();
    return [root, ...(root?.subgraphs?.values() ?? [])];
}

/** The nodes that stand for the graph outside of it, and for these outside of them. */
function standingFor(graph) {
    if (!graph || graph === rootGraph()) return [];
    const nodes = allGraphs().flatMap((outer) => outer.nodes.filter((node) => node.subgraph === graph));
    return nodes.flatMap((node) => [node, ...standingFor(node.graph)]);
}

function text({ status, step, steps, seconds_left: left }) {
    if (status !== "running") return STATUS[status];
    return `Training: step ${step} of ${steps}` + (left == null ? "" : `, ${duration(left)} left`);
}

/** Tell on every subgraph node around a node how its training is; {}: nothing any more. */
export function showOutside(node, state) {
    const Badge = window.LGraphBadge ?? window.LiteGraph?.LGraphBadge;
    if (!Badge) return;
    for (const outer of standingFor(node.graph)) {
        const said = told.get(outer) ?? new Map();
        told.set(outer, said);
        const now = state.status ? text(state) : undefined;
        if (now === said.get(node)?.text) continue;
        const others = (outer.badges ?? []).filter((badge) => badge !== said.get(node)?.badge);
        const badge = now && (() => new Badge({ text: now, fgColor: "#fff", bgColor: "#2f6fde" }));
        if (now) said.set(node, { text: now, badge });
        else said.delete(node);
        outer.badges = badge ? [...others, badge] : others; // another list: nodes of HTML notice nothing else
        outer.setDirtyCanvas?.(true, true);
    }
}
