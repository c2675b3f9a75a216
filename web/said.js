/** What came of a node, such as where a generator was saved: newer pages take their own text of it away when the graph
 * has run. */

import { app } from "../../scripts/app.js";

import { addStyle, element } from "./elements.js";
import { after } from "./hooks.js";

const OWN_PLACE = ["StyleGANFusionTrainGenerator", "StyleGANFusionCompareSamples"]; // they show what they have to say
const OF_THE_PAGE = "$$node-text-preview";
const RUN_ENDS = ["execution_success", "execution_error", "execution_interrupted"];
const TIDIED = 400; // milliseconds after its end, the page has taken away what it will

addStyle("./said.css", import.meta.url);

/** What the nodes of the run had to say. */
const pending = new Map();

function show(node, text) {
    if (node.widgets?.some(({ name }) => name === OF_THE_PAGE)) return; // an older page, which keeps it
    let widget = node.widgets?.find(({ name }) => name === "said");
    if (!widget) {
        const root = element("p", { className: "stylegan-fusion-said" });
        root.setAttribute("role", "status");
        const options = { serialize: false, hideInPanel: true, hideOnZoom: false, getMinHeight: () => 40 };
        widget = node.addDOMWidget("said", "div", root, options);
        widget.serialize = false;
        node.setSize([node.size[0], Math.max(node.size[1], node.computeSize()[1])]);
    }
    widget.element.textContent = text;
}

app.registerExtension({
    name: "StyleGANFusion.Said",
    nodeCreated(node) {
        if (!node.comfyClass?.startsWith("StyleGANFusion") || OWN_PLACE.includes(node.comfyClass)) return;
        after(node, "onExecuted", (output) => {
            if (output?.text?.length) pending.set(node, output.text.join("\n"));
        });
    },
    setup() {
        const tell = () => {
            pending.forEach((text, node) => show(node, text));
            pending.clear();
        };
        RUN_ENDS.forEach((kind) => app.api.addEventListener(kind, () => setTimeout(tell, TIDIED)));
    },
});
