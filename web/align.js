/** Align Portrait: the picture of the linked Load Image on the node, where a click on each eye says where it is. */

import { app } from "../../scripts/app.js";

import { addStyle, element } from "./elements.js";
import { after } from "./hooks.js";

const NODE = "StyleGANFusionAlignPortrait";
const SIZE = [340, 420]; // of a new node, in units of the graph
const LOOK = 700; // milliseconds; nothing tells that another node's picture is another one

addStyle("./align.css", import.meta.url);

/** The address of what the node's input shows before it runs, "" where only a run can tell. */
function pictureOf(node) {
    const slot = node.inputs?.findIndex((input) => input.name === "images") ?? -1;
    const source = slot < 0 || !node.graph ? null : node.getInputNode(slot);
    const value = source?.comfyClass?.startsWith("LoadImage") && source.widgets?.find(({ name }) => name === "image")?.value;
    if (typeof value !== "string" || !value) return "";
    const [, path, type = "input"] = value.match(/^(.*?)(?: \[(input|output|temp)\])?$/);
    const parts = path.split("/");
    return app.api.apiURL(`/view?${new URLSearchParams({ filename: parts.pop(), subfolder: parts.join("/"), type })}`);
}

/** The picture with both eyes marked. `text` is the widget that holds "x, y, x, y" in pixels of the picture. */
class Picker {
    constructor(node, text) {
        Object.assign(this, { node, text, first: null, address: null });
        this.picture = element("img", { alt: "The portrait", draggable: false });
        this.marks = [0, 1].map(() => element("div", { className: "eye", hidden: true }));
        this.sheet = element("div", { className: "sheet" }, this.picture, ...this.marks);
        this.hint = element("p", { className: "hint" });
        this.root = element("div", { className: "stylegan-fusion-align" }, element("div", { className: "picture" }, this.sheet), this.hint);
        this.picture.onload = () => this.show();
        this.picture.onerror = () => this.show();
        this.sheet.onpointerdown = (event) => event.stopPropagation(); // a click, no drag of the node
        this.sheet.onclick = (event) => this.click(event);
        this.show();
    }

    get eyes() {
        const numbers = String(this.text.value).split(",").map(Number);
        return numbers.length === 4 && numbers.every(Number.isFinite) ? [numbers.slice(0, 2), numbers.slice(2)] : [];
    }

    /** Follow what is linked, and what was written. Eyes of another picture are no eyes of this one. */
    look() {
        const address = pictureOf(this.node);
        if (address !== this.address) {
            if (this.address) this.write("");
            this.address = address;
            this.picture.hidden = !address;
            if (address) this.picture.src = address;
        }
        if (this.text.value !== this.shown) this.show();
    }

    click(event) {
        const box = this.picture.getBoundingClientRect();
        const x = Math.round(((event.clientX - box.x) / box.width) * this.picture.naturalWidth);
        const y = Math.round(((event.clientY - box.y) / box.height) * this.picture.naturalHeight);
        if (this.first) this.write([...this.first, x, y].join(", "));
        this.first = this.first ? null : [x, y];
        this.show();
    }

    write(value) {
        this.first = null;
        this.text.value = value;
        this.text.callback?.(value);
        this.node.setDirtyCanvas(true, true);
    }

    show() {
        const { naturalWidth, naturalHeight } = this.picture;
        const shown = this.first ? [this.first] : this.eyes;
        this.shown = this.text.value;
        this.marks.forEach((mark, i) => {
            mark.hidden = !(shown[i] && naturalWidth && this.address);
            if (mark.hidden) return;
            mark.style.left = `${(100 * shown[i][0]) / naturalWidth}%`;
            mark.style.top = `${(100 * shown[i][1]) / naturalHeight}%`;
        });
        if (!this.address) this.hint.textContent = "Link Load Image, and click on both eyes here.";
        else if (this.first) this.hint.textContent = "Now the other eye.";
        else this.hint.textContent = shown.length ? "Click anew to change the eyes." : "Found when it runs. Not right? Click on both eyes.";
    }
}

app.registerExtension({
    name: "StyleGANFusion.Align",
    nodeCreated(node) {
        if (node.comfyClass !== NODE) return;
        const picker = new Picker(node, node.widgets.find(({ name }) => name === "eyes"));
        const options = { serialize: false, hideOnZoom: false, hideInPanel: true, getMinHeight: () => 160 };
        node.addDOMWidget("picture", "div", picker.root, options).serialize = false;
        node.setSize(SIZE);
        let watch;
        after(node, "onAdded", () => {
            clearInterval(watch);
            watch = setInterval(() => picker.look(), LOOK);
        });
        after(node, "onRemoved", () => clearInterval(watch));
    },
});
