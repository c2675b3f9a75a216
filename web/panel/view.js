/** What the panel of a training node shows. It knows the state of a training, and nothing of the page around it. */

import { SLIDER_KEYS, addStyle, element, keepKeys } from "../elements.js";
import { Charts } from "./charts.js";
import { LayerMap } from "./layer_map.js";

addStyle("./panel.css", import.meta.url);

const STATUS = {
    running: "Training",
    finished: "Finished",
    stopped: "Stopped and kept",
    cancelled: "Cancelled",
    failed: "Ended by an error",
};

function duration(exactly) {
    const seconds = Math.round(exactly);
    const minutes = Math.floor(seconds / 60);
    if (minutes >= 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
    return minutes ? `${minutes} min ${seconds % 60} s` : `${seconds} s`;
}

function pace(seconds) {
    return seconds < 1 ? `${(1 / seconds).toFixed(1)} steps/s` : `${seconds.toFixed(1)} s a step`;
}

const after = (step) => (step ? `after ${step} step${step === 1 ? "" : "s"}` : "before training");

export class View {
    /** pictureOf(step, version): the address of a moment's picture. ask(action, step): a promise of what the user asks for;
     * it is rejected with what there is to say. */
    constructor(pictureOf, ask) {
        this.pictureOf = pictureOf;
        this.ask = ask;
        this.state = {};
        this.following = true; // the strip shows what is new, until the user goes back

        this.status = element("strong");
        this.status.setAttribute("role", "status");
        this.numbers = element("span", { className: "numbers" });
        this.bar = element("div", { className: "bar" }, element("div"));
        this.bar.setAttribute("role", "progressbar");
        this.bar.setAttribute("aria-label", "Progress of the training");

        this.picture = element("img", { alt: "Samples", draggable: false });
        this.scrubber = element("input", { type: "range", min: 0, step: 1, oninput: () => this.scrub() });
        this.scrubber.setAttribute("aria-label", "Moment of the training");
        keepKeys(this.scrubber, SLIDER_KEYS);
        this.moment = element("span", { className: "moment" });
        this.strip = element("div", { className: "strip" }, this.picture, this.scrubber, this.moment);

        this.stop = this.button("Stop and keep", "End the training now; the graph goes on with what was trained.", "end");
        this.keep = this.button("Keep this moment", "The graph goes on with the generator of the moment shown above. A training that runs ends for that.", "keep");
        this.goOn = this.button("Go on", "Train on from where this training ended, whatever moment is kept.", "go on");
        const buttons = element("div", { className: "buttons" }, this.stop, this.keep, this.goOn);

        this.answer = element("p", { className: "answer" });
        this.answer.setAttribute("role", "alert");
        this.charts = new Charts();
        this.map = new LayerMap();
        this.notes = element("div", { className: "notes" });
        this.notes.setAttribute("role", "log");
        const head = element("div", { className: "head" }, this.status, this.numbers);
        this.body = element("div", {}, head, this.bar, this.strip, buttons, this.answer, this.notes, this.charts.root, this.map.root);
        this.empty = element("p", { textContent: "Run the graph to watch the training here." });
        this.root = element("div", { className: "stylegan-fusion-panel" }, this.empty, this.body);
        this.root.setAttribute("role", "group");
        this.root.setAttribute("aria-label", "Training");
        this.sizes = new ResizeObserver(() => this.charts.fit());
        this.theme = new MutationObserver(() => this.draw());
        this.show({});
    }

    /** Follow the node's size and the page's theme. */
    connect() {
        this.sizes.observe(this.root);
        for (const place of [document.documentElement, document.body]) {
            this.theme.observe(place, { attributes: true, attributeFilter: ["class", "style"] });
        }
        this.draw(); // a node that was taken out and put back has lost its charts
    }

    /** What all of it takes, in pixels. */
    get height() {
        return this.body.offsetHeight + 8;
    }

    /** Leave nothing behind when the node goes. */
    disconnect() {
        this.sizes.disconnect();
        this.theme.disconnect();
        this.charts.dispose();
    }

    button(text, title, action) {
        const made = element("button", { type: "button", textContent: text, title });
        made.onclick = async () => {
            this.asked = made;
            this.answer.textContent = "";
            this.enable();
            try {
                await this.ask(action, action === "keep" ? this.shownStep : null);
            } catch (error) {
                this.answer.textContent = error.message;
            } finally {
                this.asked = null;
                this.enable();
            }
        };
        return made;
    }

    /** Show a state, as the server sends it; {} is none. */
    show(state) {
        const begins = state.status === "running" && this.state.status !== "running";
        if (begins || state.training !== this.state.training) this.following = true;
        this.state = state;
        const none = !state.status;
        this.empty.hidden = !none;
        this.body.hidden = none;
        if (none) return;
        this.root.dataset.status = state.status;
        if (this.status.textContent !== STATUS[state.status]) this.status.textContent = STATUS[state.status];
        const running = state.status === "running";
        this.numbers.textContent = [
            `step ${state.step} of ${state.steps}`,
            state.seconds_per_step && pace(state.seconds_per_step),
            running && state.seconds_left != null && `${duration(state.seconds_left)} left`,
        ]
            .filter(Boolean)
            .join(" · ");
        this.bar.firstChild.style.width = `${(100 * state.step) / state.steps}%`;
        this.bar.setAttribute("aria-valuenow", Math.round((100 * state.step) / state.steps));
        this.bar.setAttribute("aria-valuetext", this.numbers.textContent);
        this.say(state.notes);
        this.showMoments();
        this.enable();
        this.draw();
    }

    showMoments() {
        const { moments } = this.state;
        this.strip.hidden = !moments.length;
        if (!moments.length) return;
        const index = this.following ? moments.length - 1 : Math.max(0, moments.indexOf(this.shownStep));
        this.scrubber.max = moments.length - 1;
        this.scrubber.value = index;
        this.lookAt(moments[index]);
    }

    scrub() {
        const { moments } = this.state;
        const index = Number(this.scrubber.value);
        this.following = index === moments.length - 1;
        this.lookAt(moments[index]);
        this.enable();
    }

    lookAt(step) {
        this.shownStep = step;
        const source = this.pictureOf(step, this.state.training);
        if (this.picture.getAttribute("src") !== source) this.picture.src = source;
        this.picture.alt = `Samples ${after(step)}`;
        const kept = step === this.state.kept ? ", kept" : "";
        this.moment.textContent = after(step)[0].toUpperCase() + after(step).slice(1) + kept;
        this.scrubber.setAttribute("aria-valuetext", this.moment.textContent);
    }

    enable() {
        const { status, step, steps, kept } = this.state;
        const running = status === "running";
        this.stop.hidden = !running || step >= steps; // what ends by itself is not stopped
        this.goOn.textContent = `Go on from step ${step}`; // not from a moment that was kept
        this.goOn.hidden = running || status === "finished" || !(step > 0 && step < steps);
        const present = running ? step : (kept ?? step);
        this.stop.disabled = this.goOn.disabled = Boolean(this.asked);
        this.keep.disabled = Boolean(this.asked) || (running && step >= steps) || !this.shownStep || this.shownStep === present;
    }

    say(notes) {
        const said = notes.join("\n");
        if (said === this.said) return; // or a screen reader would read it again
        this.said = said;
        this.notes.replaceChildren(...notes.map((textContent) => element("p", { textContent })));
    }

    draw() {
        const { status, curves, diversity, layers, map_steps: mapSteps, steps, step } = this.state;
        if (!status) return;
        this.charts.draw(curves, diversity, status === "running" ? Math.min(steps, Math.max(10, step)) : step);
        this.map.draw(layers, mapSteps);
    }
}
