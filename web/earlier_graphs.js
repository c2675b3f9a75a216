/** Graphs that were saved by earlier versions: the miniature's LoRA stood in the lists of the page's own nodes, and nodes
 * had fewer inputs. */

import { app } from "../../scripts/app.js";

const OURS = "StyleGANFusionMiniatureLoRA";
const FILE = "miniature-golden-statue.safetensors";

/** Whether the page's own node has a file of this name, the user's own. */
const isListed = (node) => node?.nodeData?.input?.required?.lora_name?.[0]?.includes?.(FILE);

function replace(node) {
    if (node.type !== "LoraLoaderModelOnly" || node.widgets_values?.[0] !== FILE) return;
    if (isListed(LiteGraph.registered_node_types[node.type])) return;
    node.type = OURS;
    node.properties = { ...node.properties, "Node name for S&R": OURS };
    node.widgets_values = [node.widgets_values[1] ?? 1];
    node.inputs = (node.inputs ?? []).filter(({ name, widget }) => !widget && name === "model");
}

const WITH_WIDGETS = ["INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"];

/** The inputs of our nodes that take links alone, as the server declares them: [name, type, whether it may be empty]. */
function linkInputs({ type }) {
    const { required, optional } = LiteGraph.registered_node_types[type]?.nodeData?.input ?? {};
    return [required, optional].flatMap((inputs, group) =>
        Object.entries(inputs ?? {})
            .filter(([, [kind, given]]) => typeof kind === "string" && !given?.socketless)
            .filter(([, [kind, given]]) => given?.forceInput || !WITH_WIDGETS.includes(kind))
            .map(([name, [kind]]) => [name, kind, group === 1]),
    );
}

/** Give a node the inputs that came to it after it was saved. Older pages find a widget's link by its place among the
 * inputs, and put new ones before the widgets. */
function complete(node, links) {
    const first = node.inputs?.findIndex(({ widget }) => widget) ?? -1;
    if (!node.type?.startsWith("StyleGANFusion") || first < 0) return;
    const known = new Set(node.inputs.map(({ name }) => name));
    const lacking = linkInputs(node).filter(([name]) => !known.has(name));
    const empty = lacking.map(([name, type, mayBeEmpty]) => ({ name, type, link: null, ...(mayBeEmpty && { shape: 7 }) }));
    node.inputs.splice(first, 0, ...empty);
    for (const link of links ?? []) {
        // [id, origin, its slot, target, its slot, type], or the same by name.
        const [target, slot] = Array.isArray(link) ? [3, 4] : ["target_id", "target_slot"];
        if (link[target] === node.id && link[slot] >= first) link[slot] += empty.length;
    }
}

app.registerExtension({
    name: "StyleGANFusion.EarlierGraphs",
    beforeConfigureGraph(graph) {
        for (const { nodes, links } of [graph, ...(graph.definitions?.subgraphs ?? [])]) {
            nodes?.forEach(replace);
            nodes?.forEach((node) => complete(node, links));
        }
    },
});
