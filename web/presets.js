/** Presets: a choice on SDS Guidance, Make Targets and Train Generator that fills in the values below it. On Train
 * Generator also those of the nodes that are linked into it. The choice itself is no value: it tells whether what the
 * node shows is a preset's. */

import { app } from "../../scripts/app.js";

import { after } from "./hooks.js";

const NODES = ["TrainGenerator", "SDSGuidance", "MakeTargets"].map((name) => `StyleGANFusion${name}`);
const OWN = "own values";
const CHOSEN = "StyleGAN Fusion preset"; // among the node's properties

let presets = {};
const asked = (async () => {
    const response = await app.api.fetchApi("/stylegan_fusion/presets");
    if (response.ok) presets = await response.json();
})().catch(() => {}); // without the server there is nothing to choose

const widgetOf = (node, name) => node.widgets?.find((widget) => widget.name === name);
const valuesOf = (name, node) => presets[name]?.nodes[node.comfyClass];
const namesFor = (node) => Object.keys(presets).filter((name) => valuesOf(name, node));

/** Numbers as the page keeps them: it rounds to a step. */
const isSame = (one, other) => one === other || Math.abs(one - other) < 1e-6;

/** The preset that the node shows: of several that are alike here, the one that was chosen. */
function shownPreset(node) {
    const fits = (name) =>
        Object.entries(valuesOf(name, node)).every(([key, value]) => isSame(widgetOf(node, key)?.value, value));
    const fitting = namesFor(node).filter(fits);
    const chosen = node.properties[CHOSEN];
    if (fitting.includes(chosen)) return chosen;
    return fitting.length === 1 ? fitting[0] : OWN;
}

function put(node, values) {
    for (const [name, value] of Object.entries(values)) {
        const widget = widgetOf(node, name);
        if (!widget) continue;
        widget.value = value;
        widget.callback?.(value, app.canvas, node);
    }
}

/** Fill in a node, and where it is Train Generator those that lead to it, in subgraphs too. */
function fill(node, name, seen = new Set()) {
    if (!node || seen.has(node)) return;
    seen.add(node);
    const values = valuesOf(name, node);
    if (values) {
        node.properties[CHOSEN] = name;
        put(node, values);
    }
    for (const inner of node.subgraph?.nodes ?? []) {
        const given = valuesOf(name, inner);
        if (!given) continue;
        inner.properties[CHOSEN] = name;
        put(inner, given);
        put(node, given); // what the subgraph shows of it
    }
    const follows = seen.size > 1 || node.comfyClass === NODES[0];
    if (follows) node.inputs?.forEach((input, slot) => input.link != null && fill(node.getInputNode(slot), name, seen));
    node.setDirtyCanvas(true, true);
}

app.registerExtension({
    name: "StyleGANFusion.Presets",
    nodeCreated(node) {
        if (!NODES.includes(node.comfyClass)) return;
        const choose = (name) => {
            if (name !== OWN) fill(node, name);
            show();
        };
        const options = { serialize: false, values: () => [OWN, ...namesFor(node)] };
        const choice = node.addWidget("combo", "preset", OWN, choose, options);
        choice.serialize = false;
        choice.tooltip = "Fills in the values below; on Train Generator also those of the nodes that are linked into it.";
        node.widgets.unshift(node.widgets.pop());
        const show = () => {
            choice.value = shownPreset(node);
        };
        for (const widget of node.widgets) if (widget !== choice && !widget.element) after(widget, "callback", show);
        after(node, "onConfigure", show);
        // Older pages leave a gap for what is not saved, and read the values as if there were none.
        after(node, "onSerialize", (saved) => {
            if (saved.widgets_values) saved.widgets_values = node.widgets.filter(({ serialize }) => serialize !== false).map(({ value }) => value);
        });
        asked.then(show);
    },
});
