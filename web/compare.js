/** Compare Samples: two batches of images on the node, picture over picture, with a slider between them. */

import { app } from "../../scripts/app.js";

import { SLIDER_KEYS, addStyle, element, keepKeys } from "./elements.js";
import { rootGraph, workflowId } from "./workflow.js";

const NODE = "StyleGANFusionCompareSamples";
const NAMES = ["Before", "After"];
const SIZE = [380, 500]; // of a new node, in units of the graph

addStyle("./compare.css", import.meta.url);

function button(label, text, onclick) {
    const made = element("button", { type: "button", title: label, textContent: text, onclick });
    made.setAttribute("aria-label", label);
    return made;
}

/** Address of an image that the host wrote: {filename, subfolder, type}. */
const address = (image) => app.api.apiURL(`/view?${new URLSearchParams(image)}`);

/** The pictures, the slider over them, and the buttons below. Its `root` is the element that the node shows. */
class Comparison {
    constructor() {
        this.pairs = [];
        this.index = 0;
        this.pictures = NAMES.map((name) => element("img", { alt: name, draggable: false }));
        this.captions = NAMES.map((textContent) => element("span", { textContent }));
        const layers = this.pictures.map((picture, i) =>
            element("div", { className: NAMES[i].toLowerCase() }, picture, this.captions[i]),
        );
        // A range that covers the picture: mouse, touch, pen, arrow keys and screen readers are the browser's work.
        this.slider = element("input", { type: "range", min: 0, max: 100, step: 0.1, value: 50 });
        this.slider.setAttribute("aria-label", "Share of the picture that shows before");
        this.slider.oninput = () => this.wipe();
        this.slider.onkeydown = (event) => this.step(event);
        keepKeys(this.slider, SLIDER_KEYS);
        const handle = element("div", { className: "handle" });
        this.frame = element("div", { className: "frame" }, layers[1], layers[0], this.slider, handle);
        this.message = element("p", { textContent: "Run the graph to see before and after." });
        this.stage = element("div", { className: "stage" }, this.frame, this.message);
        this.count = element("output");
        this.previous = button("Previous image", "\u2039", () => this.show(this.index - 1));
        this.next = button("Next image", "\u203a", () => this.show(this.index + 1));
        this.side = button("Side by side", "Side by side", () => this.putSideBySide(!this.isSideBySide));
        this.save = button("Save a picture of both", "Save picture", () => this.download());
        this.bar = element("div", { className: "bar" }, this.previous, this.count, this.next, this.side, this.save);
        this.notes = element("p", { className: "notes" });
        this.root = element("div", { className: "stylegan-fusion-compare" }, this.stage, this.bar, this.notes);
        this.root.setAttribute("role", "group");
        this.root.setAttribute("aria-label", "Before and after");
        this.pictures[0].onload = () => this.take(this.pictures[0]);
        this.pictures.forEach((picture) => {
            picture.onerror = () => this.say("ComfyUI no longer has these images. Run the graph again.");
        });
        this.putSideBySide(false);
        this.wipe();
        this.say(this.message.textContent);
    }

    /** Show what a run left: lists of images `before` and `after`, and notes. */
    receive({ before = [], after = [], text = [], labels = [] } = {}) {
        if (!before.length) return;
        this.captions.forEach((caption, i) => {
            caption.textContent = labels[i] ?? NAMES[i];
            caption.hidden = !caption.textContent;
            this.pictures[i].alt = caption.textContent || NAMES[i];
        });
        this.pairs = before.map((image, i) => [image, after[i]].map(address));
        this.notes.textContent = text.join(" ");
        this.show(Math.min(this.index, this.pairs.length - 1));
    }

    show(index) {
        const count = this.pairs.length;
        this.index = (index + count) % count;
        this.pictures.forEach((picture, i) => (picture.src = this.pairs[this.index][i]));
        this.count.textContent = `${this.index + 1} of ${count}`;
        this.previous.disabled = this.next.disabled = count === 1;
    }

    /** The frame takes the form of a picture that has arrived. */
    take(picture) {
        this.frame.style.setProperty("--ratio", picture.naturalWidth / picture.naturalHeight);
        this.say("");
    }

    /** A sentence in place of the pictures; none shows them. */
    say(sentence) {
        this.message.textContent = sentence;
        this.frame.hidden = this.bar.hidden = Boolean(sentence);
        this.message.hidden = !sentence;
    }

    wipe() {
        this.frame.style.setProperty("--position", `${this.slider.value}%`);
        this.slider.setAttribute("aria-valuetext", `${Math.round(this.slider.value)} % before`);
    }

    /** Arrow keys move by a whole percent, with Shift by ten; the range's own step is as fine as the pointer. */
    step(event) {
        const sign = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
        if (!sign) return;
        event.preventDefault();
        this.slider.value = Number(this.slider.value) + sign * (event.shiftKey ? 10 : 1);
        this.wipe();
    }

    /** Save what is shown as one PNG, both pictures whole with their labels above. */
    download() {
        const [left, right] = this.pictures;
        const [width, height] = [left.naturalWidth, left.naturalHeight];
        const scale = Math.max(1, Math.ceil(256 / width)); // or there is no room for the labels
        const [cell, band] = [width * scale, this.captions.some(({ textContent }) => textContent) ? 36 : 0];
        const canvas = element("canvas", { width: 2 * cell, height: height * scale + band });
        const context = canvas.getContext("2d");
        context.fillStyle = "#fff";
        context.fillRect(0, 0, canvas.width, canvas.height);
        context.imageSmoothingEnabled = false;
        Object.assign(context, { fillStyle: "#222", font: "18px Inter, Arial, sans-serif", textAlign: "center", textBaseline: "middle" });
        [left, right].forEach((picture, i) => {
            context.drawImage(picture, i * cell, band, cell, height * scale);
            if (band) context.fillText(this.captions[i].textContent, (i + 0.5) * cell, band / 2, cell - 8);
        });
        canvas.toBlob((blob) => {
            const link = element("a", { href: URL.createObjectURL(blob), download: `${this.fileName()}.png` });
            link.click();
            setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
        });
    }

    fileName() {
        const words = [...this.captions.map(({ textContent }) => textContent), this.index + 1];
        return words.join(" ").replace(/[^\p{L}\p{N} _-]+/gu, "").trim() || "comparison";
    }

    putSideBySide(yes) {
        this.isSideBySide = yes;
        this.frame.classList.toggle("side-by-side", yes);
        this.slider.disabled = yes;
        this.side.setAttribute("aria-pressed", yes);
    }
}

/** The page puts the element over its canvas, outside of "Nodes 2.0": the wheel still zooms, its button still pans. */
function passTheWheelOn(root) {
    const pass = (event, turned, handler) =>
        root.addEventListener(event, (e) => {
            if (!LiteGraph.vueNodesMode && turned(e)) app.canvas[handler](e);
        });
    pass("wheel", () => true, "processMouseWheel");
    pass("pointerdown", (e) => e.button === 1, "processMouseDown");
    pass("pointermove", (e) => e.buttons & 4, "processMouseMove");
    pass("pointerup", (e) => e.button === 1, "processMouseUp");
}

function compareNodes() {
    const root = rootGraph();
    return [root, ...root.subgraphs.values()].flatMap((graph) => graph.nodes.filter((node) => node.comfyClass === NODE));
}

/** What the page keeps of a node's last run. */
function outputOf({ graph, id }, outputs) {
    return outputs[graph.isRootGraph ? id : `${graph.id}:${id}`];
}

function showWhatThePageKeeps(outputs = app.nodeOutputs) {
    for (const node of compareNodes()) node.comparison.receive(outputOf(node, outputs));
}

/** A page that was reloaded keeps nothing; the server's history has the last runs of this workflow. */
async function showWhatTheServerKeeps() {
    const workflow = workflowId();
    const empty = compareNodes().filter(({ graph, comparison }) => graph.isRootGraph && !comparison.pairs.length);
    if (!workflow || !empty.length) return;
    const answer = await app.api.fetchApi("/history?max_items=32");
    const runs = answer.ok ? Object.values(await answer.json()).reverse() : [];
    for (const { id, comparison } of empty) {
        const run = runs.find(
            ({ prompt, outputs }) => prompt[3].extra_pnginfo?.workflow?.id === workflow && outputs[id]?.before,
        );
        comparison.receive(run?.outputs[id]);
    }
}

let asked;

app.registerExtension({
    name: "StyleGANFusion.Compare",

    nodeCreated(node) {
        if (node.comfyClass !== NODE) return;
        const comparison = new Comparison();
        passTheWheelOn(comparison.root);
        node.comparison = comparison;
        const widget = node.addDOMWidget("comparison", "stylegan_fusion_comparison", comparison.root, {
            serialize: false, // not sent to the server
            hideOnZoom: false,
            hideInPanel: true, // the page's list of settings would leave it as narrow as itself
            getMinHeight: () => 220,
        });
        widget.serialize = false; // not saved either
        node.setSize(node.size.map((length, side) => Math.max(length, SIZE[side])));
        const { onExecuted } = node;
        node.onExecuted = function (output) {
            onExecuted?.call(this, output);
            comparison.receive(output);
        };
    },

    // A workflow was opened, or the page made its nodes again as undoing does.
    loadedGraphNode(node) {
        if (node.comfyClass !== NODE) return;
        clearTimeout(asked);
        asked = setTimeout(() => {
            showWhatThePageKeeps();
            showWhatTheServerKeeps();
        });
    },

    // The page shows another workflow that it keeps.
    onNodeOutputsUpdated: showWhatThePageKeeps,
});
