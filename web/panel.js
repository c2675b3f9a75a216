/** The live panel on Train Generator: the training as it goes, buttons that stop it and go back to earlier moments. */

import { app } from "../../scripts/app.js";

import { View } from "./panel/view.js";
import { rootGraph, workflowId } from "./workflow.js";

const TYPE = "STYLEGAN_FUSION_PANEL";
const EVENT = "stylegan_fusion.panel";
const IDLE_HEIGHT = 40;
const WIDTH = 460;
const QUIET = 3000; // milliseconds

/** All panels on the page. */
const panels = new Set();

/** The workflow in which each key was seen first, by its id. */
const owners = new Map();

/** Whether a key came with a duplicate of another open workflow: the trainings of both would mix. */
function belongsToAnother(key) {
    const owner = owners.get(key);
    if (!owner || owner === workflowId()) return false;
    return Boolean(app.extensionManager?.workflow?.openWorkflows?.some(({ activeState }) => activeState?.id === owner));
}

const route = (key, rest = "") => `/stylegan_fusion/panels/${encodeURIComponent(key)}${rest}`;

/** A key that nobody guesses; pages that are not served over https have no randomUUID. */
function newKey() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** One node's panel. Its key is saved with the workflow, and goes to the server when the graph runs. */
class Panel {
    constructor(node) {
        this.node = node;
        this.key = newKey();
        this.view = new View(
            (step, version) => app.api.apiURL(route(this.key, `/moments/${step}?${version}`)),
            (action, step) => this.ask(action, step),
        );
    }

    /** The node is in a graph. Copies that a page makes for its clipboard never are. */
    arrive() {
        panels.add(this);
        this.claim();
        this.view.connect();
    }

    claim() {
        if (workflowId()) owners.set(this.key, workflowId());
    }

    get isOnThePage() {
        const { graph, id } = this.node;
        const root = rootGraph();
        // Opening or undoing makes subgraphs anew, and tells nobody about the nodes of the old ones.
        const isShown = graph === root || [...root.subgraphs.values()].includes(graph);
        return isShown && graph.getNodeById(id) === this.node;
    }

    /** Take the key that a workflow was saved with. */
    take(key) {
        if (!key) return;
        this.key = key;
        // Once the graph is whole: a copy of a node has a training of its own.
        setTimeout(() => {
            if (!panels.has(this)) return;
            for (const other of panels) if (!other.isOnThePage) other.leave();
            const original = [...panels].find((other) => other.key === this.key);
            if (original !== this || belongsToAnother(key)) this.key = newKey();
            this.claim();
            this.refresh();
        });
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
        this.view.show(state);
        clearTimeout(this.quiet);
        // The server tells the page that runs the graph; any other has to ask.
        if (state.status === "running") this.quiet = setTimeout(() => this.refresh(), QUIET);
        if (state.status) requestAnimationFrame(() => this.makeRoom());
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

    /** Stop, keep or go on; rejected with what the server says against it. */
    async ask(action, step) {
        const running = this.view.state.status === "running";
        if (action === "keep") action = running ? "end" : "choose";
        const response = await app.api.fetchApi(route(this.key), {
            method: "POST",
            headers: { "Content-Type": "application/json" },
            body: JSON.stringify({ action, step, training: this.view.state.training }),
        });
        if (!response.ok) throw new Error((await response.json().catch(() => ({}))).error ?? "The server did not answer.");
        if (!running) await app.queuePrompt(0);
    }

    leave() {
        panels.delete(this);
        clearTimeout(this.quiet);
        this.view.disconnect();
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
        getMinHeight: () => (panel.view.state.status ? 160 : IDLE_HEIGHT),
        hideOnZoom: false,
        hideInPanel: true, // the page's list of settings would leave it as narrow as itself
    });
    for (const [hook, follow] of [["onAdded", () => panel.arrive()], ["onRemoved", () => panel.leave()]]) {
        const before = node[hook];
        node[hook] = function (...rest) {
            before?.apply(this, rest);
            follow();
        };
    }
    return { widget: made, minWidth: WIDTH };
}

app.registerExtension({
    name: "StyleGANFusion.Panel",
    getCustomWidgets: () => ({ [TYPE]: widget }),
    setup() {
        app.api.addEventListener("reconnected", () => panels.forEach((panel) => panel.refresh()));
        app.api.addEventListener(EVENT, ({ detail }) => {
            for (const panel of panels) if (panel.key === detail.panel) panel.show(detail);
        });
    },
});
