/** Graphs that were saved by earlier versions: the miniature's LoRA stood in the lists of the page's own nodes. */

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

app.registerExtension({
    name: "StyleGANFusion.EarlierGraphs",
    beforeConfigureGraph(graph) {
        for (const { nodes } of [graph, ...(graph.definitions?.subgraphs ?? [])]) nodes?.forEach(replace);
    },
});
