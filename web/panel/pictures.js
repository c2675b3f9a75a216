/** The pictures of a training: the samples before it and at a moment of it, above each other; a click shows one large. */

import { element, keepKeys } from "../elements.js";

const NEXT = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** A part of a picture of samples in rows and columns: all of its width and one row, or one of them. */
class Part {
    constructor(alt) {
        this.image = element("img", { alt, draggable: false });
        this.root = element("div", { className: "part" }, this.image);
        this.image.onload = () => this.fit();
    }

    show(source, { columns, rows, first = 0, count = rows, column = null }) {
        this.layout = { columns, rows, first, count, column };
        if (this.image.getAttribute("src") !== source) this.image.src = source;
        else this.fit();
    }

    fit() {
        const { naturalWidth: width, naturalHeight: height } = this.image;
        if (!width) return;
        const { columns, rows, first, count, column } = this.layout;
        const across = column === null ? 1 : columns;
        this.root.style.aspectRatio = `${width / across} / ${(height * count) / rows}`;
        this.image.style.width = `${100 * across}%`;
        this.image.style.marginLeft = column === null ? "0" : `${-100 * column}%`;
        this.image.style.top = `${(-100 * first) / count}%`;
    }
}

/** One sample before the training and at a moment of it, as large as the page has room for. */
class Large {
    constructor(move) {
        this.parts = ["Before training", ""].map((alt) => new Part(alt));
        this.captions = this.parts.map(() => element("figcaption"));
        const figures = this.parts.map((part, index) => element("figure", {}, part.root, this.captions[index]));
        const close = element("button", { type: "button", textContent: "Close", onclick: () => this.dialog.close() });
        const help = element("p", { textContent: "\u2190 \u2192 other samples \u00b7 \u2191 \u2193 other moments \u00b7 Esc closes" });
        this.dialog = element("dialog", { className: "stylegan-fusion-large" }, element("div", { className: "pair" }, ...figures), element("footer", {}, help, close));
        this.dialog.setAttribute("aria-label", "Sample before and after");
        this.dialog.onclick = ({ target }) => target === this.dialog && this.dialog.close();
        this.dialog.onclose = () => this.dialog.remove();
        this.dialog.onkeydown = (event) => {
            if (!(event.key in NEXT)) return;
            event.preventDefault();
            move(...NEXT[event.key]);
        };
        keepKeys(this.dialog, [...Object.keys(NEXT), "Escape", "Enter", " "]);
    }

    get isOpen() {
        return this.dialog.open;
    }

    open() {
        document.body.append(this.dialog);
        this.dialog.showModal();
    }

    show(sources, layout, captions) {
        this.parts.forEach((part, index) => {
            part.root.parentElement.hidden = !sources[index];
            if (sources[index]) part.show(sources[index], { ...layout, count: 1, first: 0 });
            part.image.alt = this.captions[index].textContent = captions[index];
        });
    }
}

export class Pictures {
    /** other(by): let the strip go to the moment that is so many further. */
    constructor(other) {
        this.before = new Part("Samples before training");
        this.now = new Part("Samples");
        this.labels = ["before", ""].map((textContent) => element("span", { textContent, className: "label" }));
        this.rows = [this.before, this.now].map((part, index) => {
            const row = element("button", { type: "button", className: "row", title: "Show a sample large" }, part.root, this.labels[index]);
            row.onclick = (event) => this.enlarge(event, row);
            return row;
        });
        this.root = element("div", { className: "pictures" }, ...this.rows);
        this.large = new Large((column, moment) => {
            if (moment) other(moment);
            else this.show({ ...this.shown, column: this.shown.column + column });
        });
        this.shown = { column: 0 };
    }

    /** before, now: addresses of pictures; caption: of the moment; layout: {columns, rows}, whose second row are targets. */
    show({ before, now, caption, columns, rows, column = this.shown.column }) {
        column = Math.max(0, Math.min(columns - 1, column));
        this.shown = { before, now, caption, columns, rows, column };
        const differ = before && before !== now;
        this.rows[0].hidden = !differ;
        if (differ) this.before.show(before, { columns, rows, count: 1 });
        this.now.show(now, { columns, rows });
        this.now.image.alt = `Samples ${caption}${rows > 1 ? ", and below them their targets" : ""}`;
        this.labels[1].textContent = differ ? caption : "before";
        this.large.show([differ && before, now], { columns, rows, column }, ["before training", caption]);
    }

    enlarge(event, row) {
        const box = row.getBoundingClientRect();
        const share = event.detail ? (event.clientX - box.left) / box.width : 0; // by a key: the first one
        this.show({ ...this.shown, column: Math.floor(share * this.shown.columns) });
        this.large.open();
    }

    dispose() {
        if (this.large.isOpen) this.large.dialog.close();
    }
}
