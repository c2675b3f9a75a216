/** Inputs that are rarely touched, on nodes that the page draws on its canvas: hidden until the node is asked for them,
 * as on nodes of HTML, where the page sees to it itself. */

import { app } from "../../scripts/app.js";

import { after } from "./hooks.js";

const TOGGLE = "advanced inputs";

/** The size of what takes no room: the page puts 4 pixels between any two widgets. */
const NOTHING = () => [0, -4];

/** The widget and those that belong to it, such as what happens to a seed after a run. */
const withCompany = (widget) => [widget, ...(widget.linkedWidgets ?? [])];

/** Hide them, but those that a link leads to, or show them when the node says so. */
function arrange(node, rarely) {
    for (const one of rarely) {
        const isLinked = node.inputs.some(({ widget, link }) => widget?.name === one.name && link != null);
        for (const widget of withCompany(one)) {
            widget.advanced = !isLinked;
            if (widget.advanced && !node.showAdvanced) widget.computeSize = NOTHING;
            else delete widget.computeSize;
        }
    }
}

app.registerExtension({
    name: "StyleGANFusion.Advanced",
    nodeCreated(node) {
        const rarely = (node.widgets ?? []).filter((widget) => widget.options?.advanced ?? widget.advanced);
        if (!node.comfyClass?.startsWith("StyleGANFusion") || !rarely.length) return;
        // Not a value: it stands in no saved workflow. canvasOnly: nodes of HTML have a button of the page's own.
        const options = { serialize: false, canvasOnly: true };
        node.addWidget("button", TOGGLE, null, () => node.toggleAdvanced(), options).serialize = false;
        arrange(node, rarely);
        node.setSize(node.computeSize());
        for (const hook of ["onConfigure", "onConnectionsChange"]) after(node, hook, () => arrange(node, rarely));

        const { toggleAdvanced } = node;
        node.toggleAdvanced = function () {
            const [width, height] = this.size;
            const before = this.computeSize()[1];
            toggleAdvanced.call(this);
            arrange(this, rarely);
            this.setSize([width, height + this.computeSize()[1] - before]); // what else it shows stays as large
        };
    },
});
