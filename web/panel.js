/** The live panel on nodes that train: the training as it goes, buttons that stop it and go back to earlier moments. */

import { app } from "../../scripts/app.js";

import { after } from "./hooks.js";
import { askOthers, claim, exchange, keyHere, newKey, onTaken } from "./panel/keys.js";
import { showOutside } from "./panel/outside.js";
import { View } from "./panel/view.js";
import { note, rootGraph, settled } from "./workflow.js";

const TYPE = "STYLEGAN_FUSION_PANEL";
const EVENT = "stylegan_fusion.panel";
const IDLE_HEIGHT = 40;
const WIDTH = 460;
const QUIET = 3000; // milliseconds
const SHOWN = "stylegan_fusion_shown"; // of a node: its panel has shown a training

/** All panels on the page. */
const panels = new Set();

const route = (key, rest = "") => `/stylegan_fusion/panels/${encodeURIComponent(key)}${rest}`;

/** One node's panel. Its key is saved with the workflow, and goes to the server when the graph runs. */
class Panel {
    constructor(node) {
        this.node = node;
        this.key = newKey();
        this.view = new View(
            (step, training, earlier) =>
                app.api.apiURL(route(this.key, `${earlier ? `/trainings/${training}` : ""}/moments/${step}?${training}`)),
            (action, asked) => this.ask(action, asked),
            (training) => this.stateOf(training),
        );
    }

    /** The node is in a graph. Copies that a page makes for its clipboard never are. */
    arrive() {
        panels.add(this);
        this.take(this.key); // unless another one, which was saved, follows
        this.view.connect();
    }

    get isOnThePage() {
        const { graph, id } = this.node;
        const root = rootGraph();
        // Opening or undoing makes subgraphs anew, and tells nobody about the nodes of the old ones.
        const isShown = graph === root || [...root.subgraphs.values()].includes(graph);
        return isShown && graph.getNodeById(id) === this.node;
    }

    /** Take the key that a workflow was saved with. */
    async take(key) {
        if (!key) return;
        this.key = key;
        await settled();
        if (!panels.has(this) || this.key !== key) return;
        for (const other of panels) if (!other.isOnThePage) other.leave();
        const here = keyHere(key);
        // A copy of a node has a training of its own, and so has one in a copy of the workflow.
        const isCopy = [...panels].find((other) => other.key === here || other.key === key) !== this;
        this.become(isCopy ? newKey() : here);
        if (this.key === key) askOthers(key);
    }

    /** Go on with a key, which is the one of before or another one. */
    become(key) {
        claim(key);
        if (key !== this.key) {
            this.key = key;
            this.wasShown = false;
            this.show({});
            note(key);
        }
        this.refresh();
    }

    /** Whether a training has been shown, as the workflow knows it, too: a lost one is told from none. */
    get wasShown() {
        return Boolean(this.node.properties?.[SHOWN]);
    }

    set wasShown(shown) {
        if (shown) this.node.properties[SHOWN] = true;
        else delete this.node.properties?.[SHOWN];
    }

    /** Show what the server knows, after the page or the workflow was opened. */
    async refresh() {
        const { key } = this;
        try {
            const response = await app.api.fetchApi(route(key));
            const state = await response.json();
            if (response.ok && key === this.key && panels.has(this)) this.show(state);
        } catch {
            // The server is away; the page tells when it is back.
        }
    }

    show(state) {
        this.view.show(state, this.wasShown);
        if (state.status && !this.wasShown) this.wasShown = true;
        clearTimeout(this.quiet);
        // The server tells the page that runs the graph; any other has to ask.
        if (state.status === "running") this.quiet = setTimeout(() => this.refresh(), QUIET);
        if (state.status || this.wasShown) requestAnimationFrame(() => this.makeRoom());
        showOutside(this.node, state);
    }

    /** The node grows with what there is to see, unless the user has made it smaller. */
    makeRoom() {
        const { node, view } = this;
        const given = view.root.clientHeight;
        const missing = view.height - given;
        const madeSmaller = this.height > node.size[1] + 1;
        if (!given || madeSmaller || given === this.outgrown) return; // or the page has yet to lay out what it got last
        if (missing >= 4) {
            node.setSize([Math.max(WIDTH, node.size[0]), node.size[1] + missing]);
            this.outgrown = given;
        }
        this.height = node.size[1];
    }

    /** Stop, keep, go on or train more; rejected with what the server says against it. */
    async ask(action, asked) {
        const running = this.view.latest.status === "running";
        if (action === "keep") action = running ? "end" : "choose";
        const steps = action === "train more" ? this.stepsWidget() : null;
        const { more, ...rest } = asked;
        const response = await app.api.fetchApi(route(this.key), {
            method: "POST",
            headers: { "Content-Type": "application/json" },
            body: JSON.stringify({ action, ...rest }),
        });
        if (!response.ok) throw new Error((await response.json().catch(() => ({}))).error ?? "The server did not answer.");
        if (action === "forget") return;
        if (steps) {
            steps.value = this.view.latest.steps + more;
            steps.callback?.(steps.value);
        }
        // Before what waits in the queue: that would take what was asked here for its own.
        if (!running) await app.queuePrompt(-1);
    }

    /** The node's own number of steps, which grows when a training is trained further. */
    stepsWidget() {
        const linked = this.node.inputs?.some(({ name, link }) => name === "steps" && link != null);
        const found = this.node.widgets.find(({ name }) => name === "steps");
        if (linked || !found) throw new Error("The steps come through a link: raise them there by as many, and ask again.");
        return found;
    }

    /** What the server knows of an earlier training. */
    async stateOf(training) {
        const response = await app.api.fetchApi(route(this.key, `/trainings/${training}`));
        if (!response.ok) throw new Error("This training is not kept any more.");
        return response.json();
    }

    leave() {
        panels.delete(this);
        clearTimeout(this.quiet);
        this.view.disconnect();
        showOutside(this.node, {});
    }
}

function widget(node, name) {
    // Older pages let every new seed change by itself; then no run would go on with the training before.
    const control = node.widgets.find((other) => ["control_after_generate", "fixed"].includes(other.name));
    if (control) control.value = "fixed";
    const panel = new Panel(node);
    const made = node.addDOMWidget(name, TYPE, panel.view.root, {
        getValue: () => panel.key,
        setValue: (key) => panel.take(key),
        getMinHeight: () => (panel.view.latest.status ? 160 : IDLE_HEIGHT),
        hideOnZoom: false,
        hideInPanel: true, // the page's list of settings would leave it as narrow as itself
    });
    after(node, "onAdded", () => panel.arrive());
    after(node, "onRemoved", () => panel.leave());
    return { widget: made, minWidth: WIDTH };
}

app.registerExtension({
    name: "StyleGANFusion.Panel",
    getCustomWidgets: () => ({ [TYPE]: widget }),
    setup() {
        onTaken((key) => panels.forEach((panel) => panel.key === key && panel.become(exchange(key))));
        app.api.addEventListener("reconnected", () => panels.forEach((panel) => panel.refresh()));
        app.api.addEventListener(EVENT, ({ detail }) => {
            for (const panel of panels) if (panel.key === detail.panel) panel.show(detail);
        });
    },
});
