/** The list of a node's earlier trainings: what each was, how it looked, and the way back to it. */

import { element } from "../elements.js";
import { STATUS } from "./words.js";

/** The settings in which trainings differ; of those that are alike in all, none. */
function differing(all) {
    const names = [...new Set(all.flatMap((details) => Object.keys(details)))];
    return names.filter((name) => new Set(all.map((details) => details[name] ?? "")).size > 1);
}

export class Earlier {
    /** pictureOf(training, step): an address. look(training): show one. forget(training): remove it. */
    constructor(pictureOf, look, forget) {
        this.pictureOf = pictureOf;
        this.look = look;
        this.forget = forget;
        this.title = element("summary");
        this.list = element("ul");
        this.root = element("details", { className: "earlier" }, this.title, this.list);
    }

    /** earlier: summaries, as the server sends them; details: of the latest; shown: the training that is looked at. */
    show(earlier, details, shown) {
        const said = JSON.stringify([earlier, details, shown]);
        if (said === this.said) return; // or the focus would be lost
        this.said = said;
        this.root.hidden = !earlier.length;
        this.title.textContent = `Earlier trainings of this node (${earlier.length})`;
        const names = differing([details, ...earlier.map((one) => one.details)]);
        this.list.replaceChildren(...earlier.map((one) => this.row(one, names, one.training === shown)));
    }

    row(one, names, isShown) {
        const { training, moment, prompt, details, status, step, steps } = one;
        const picture = element("img", { alt: "", draggable: false, loading: "lazy" });
        if (moment !== null) picture.src = this.pictureOf(training, moment);
        const title = element("strong", { textContent: prompt || "towards targets" });
        const how = `${STATUS[status] ?? "Ended"}, step ${step} of ${steps}`;
        const differs = names.filter((name) => details[name]).map((name) => `${name} ${details[name]}`);
        const text = element("span", { textContent: [how, ...differs].join(" \u00b7 ") });
        const look = element("button", { type: "button", className: "look" }, picture, element("div", {}, title, text));
        look.title = isShown ? "Back to the latest training" : "Look at this training, and go back to it";
        look.setAttribute("aria-pressed", isShown);
        look.onclick = () => this.look(isShown ? null : training);
        const forget = element("button", { type: "button", className: "forget", textContent: "\u00d7", title: "Remove this training from the list, and its files" });
        forget.setAttribute("aria-label", `Remove ${prompt || "this training"}`);
        forget.onclick = () => this.forget(training);
        return element("li", {}, look, forget);
    }
}
