/** What the panel of a training node shows. It knows the state of a training, and nothing of the page around it. */

import { SLIDER_KEYS, addStyle, element, keepKeys } from "../elements.js";
import { Charts } from "./charts.js";
import { Earlier } from "./earlier.js";
import { LayerMap } from "./layer_map.js";
import { Pictures } from "./pictures.js";
import { STATUS, after, progress } from "./words.js";

addStyle("./panel.css", import.meta.url);

const NOTHING_YET = "Run the graph to watch the training here.";
const LOST =
    "The training that this panel showed is not kept any more: ComfyUI's folder output/stylegan/moments was emptied, or others took its place. " +
    "What was saved by the graph stays. Run the graph to train.";

/** Sentences below each other, each once. */
class Sentences {
    constructor(className, role) {
        this.root = element("div", { className });
        this.root.setAttribute("role", role);
    }

    show(sentences) {
        const said = sentences.join("\n");
        if (said === this.said) return; // or a screen reader would read it again
        this.said = said;
        this.root.replaceChildren(...sentences.map((textContent) => element("p", { textContent })));
    }
}

export class View {
    /** pictureOf(step, training, earlier): the address of a moment's picture. ask(action, {step, training, earlier, whatever, more}):
     * a promise of what the user asks for, rejected with what there is to say. stateOf(training): that of an earlier one. */
    constructor(pictureOf, ask, stateOf) {
        this.pictureOf = pictureOf;
        this.ask = ask;
        this.stateOf = stateOf;
        this.latest = {}; // the state of the latest training
        this.looked = null; // and of an earlier one, while it is looked at
        this.following = true; // the strip shows what is new, until the user goes back

        this.status = element("strong");
        this.status.setAttribute("role", "status");
        this.numbers = element("span", { className: "numbers" });
        this.bar = element("div", { className: "bar" }, element("div"));
        this.bar.setAttribute("role", "progressbar");
        this.bar.setAttribute("aria-label", "Progress of the training");
        this.which = element("p", { className: "which" });
        this.back = this.button("Back to the latest", "Show the latest training of this node again.", () => this.look(null));

        this.pictures = new Pictures((by) => this.scrub(Number(this.scrubber.value) + by));
        this.scrubber = element("input", { type: "range", min: 0, step: 1, oninput: () => this.scrub(Number(this.scrubber.value)) });
        this.scrubber.setAttribute("aria-label", "Moment of the training");
        keepKeys(this.scrubber, SLIDER_KEYS);
        this.moment = element("span", { className: "moment" });
        this.strip = element("div", { className: "strip" }, this.pictures.root, this.scrubber, this.moment);

        this.stop = this.button("Stop and keep", "End the training now; the graph goes on with what was trained.", () => this.ask("end", this.about()));
        this.keep = this.button(
            "Keep this moment",
            "The graph goes on with what was trained at the moment shown above. A training that runs ends for that.",
            () => this.ask("keep", { ...this.about(), step: this.shownStep }),
        );
        this.goOn = this.button("Go on", "Train on from where this training ended, whatever moment is kept.", () => this.ask("go on", this.about()));
        this.count = element("input", { type: "number", min: 1, max: 100000, step: 1, value: 100 });
        this.count.setAttribute("aria-label", "Further steps");
        keepKeys(this.count, [...SLIDER_KEYS, "Enter", "Backspace", "Delete"]);
        this.more = this.button("Train more", "Train this finished training further, from its end: the node's steps grow by as many.", () =>
            this.ask("train more", { ...this.about(), more: Math.max(1, Math.round(Number(this.count.value)) || 1) }),
        );
        this.further = element("div", { className: "further" }, this.count, this.more);
        const buttons = element("div", { className: "buttons" }, this.stop, this.keep, this.goOn, this.further);

        this.problem = new Sentences("problem", "alert");
        this.allTheSame = this.button("Keep it all the same", "The graph goes on with that moment, although the inputs have changed since.", () =>
            this.ask("keep", { ...this.about(), step: this.shownStep, whatever: true }),
        );
        this.answer = element("p", { className: "problem" });
        this.answer.setAttribute("role", "alert");
        this.warnings = new Sentences("warnings", "alert");
        this.notes = new Sentences("notes", "log");
        this.charts = new Charts();
        this.map = new LayerMap();
        this.earlier = new Earlier(
            (training, step) => this.pictureOf(step, training, true),
            (training) => this.try(() => this.look(training)),
            (training) => this.try(() => this.forget(training)),
        );
        const head = element("div", { className: "head" }, this.status, this.numbers);
        const looking = (this.looking = element("div", { className: "looking" }, this.which, this.back));
        const problems = element("div", { className: "problems" }, this.problem.root, this.allTheSame);
        this.body = element(
            "div", {}, head, this.bar, looking, problems, this.warnings.root, this.strip, buttons, this.answer, this.notes.root,
            this.earlier.root, this.charts.root, this.map.root,
        ); // prettier-ignore
        this.empty = element("p", { textContent: NOTHING_YET });
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

    /** What is shown: the latest training, or the one that is looked at. */
    get state() {
        return this.looked ?? this.latest;
    }

    /** What tells the training that is shown to the server. */
    about() {
        return { training: this.state.training, earlier: Boolean(this.looked) };
    }

    /** Leave nothing behind when the node goes. */
    disconnect() {
        this.sizes.disconnect();
        this.theme.disconnect();
        this.charts.dispose();
        this.pictures.dispose();
    }

    button(text, title, act) {
        return element("button", { type: "button", textContent: text, title, onclick: () => this.try(act) });
    }

    /** Do what was asked for; nothing else may be asked meanwhile. */
    async try(act) {
        this.asked = true;
        this.answer.textContent = "";
        this.enable();
        try {
            await act();
        } catch (error) {
            this.answer.textContent = error.message;
        } finally {
            this.asked = false;
            this.enable();
        }
    }

    /** Show an earlier training; null: the latest again. */
    async look(training) {
        const looked = training && (await this.stateOf(training));
        this.looked = looked;
        // The moment to which it is possible to go back.
        const kept = looked?.moments.findLast((step) => step && !looked.pictures_alone.includes(step));
        this.following = kept === undefined;
        this.shownStep = kept ?? this.shownStep;
        this.update();
    }

    async forget(training) {
        await this.ask("forget", { training, earlier: true });
        if (this.looked?.training === training) await this.look(null);
    }

    /** Show a state, as the server sends it; {} is none. `wasShown`: that there has been one. */
    show(state, wasShown = false) {
        const before = this.latest;
        const begins = state.status === "running" && before.status !== "running";
        if (begins) this.looked = null;
        if (!this.looked && (begins || state.training !== before.training)) this.following = true;
        // The moment that the graph goes on with, which may be another than the last.
        if (!this.looked && state.status !== "running" && state.kept !== undefined && state.kept !== before.kept) {
            this.following = !state.moments.includes(state.kept);
            this.shownStep = state.kept;
        }
        // What could not be done may be possible by now.
        if (state.status !== before.status || state.training !== before.training) this.answer.textContent = "";
        this.latest = state;
        this.empty.textContent = wasShown ? LOST : NOTHING_YET;
        this.update();
    }

    update() {
        const { state } = this;
        const none = !state.status;
        this.empty.hidden = !none;
        this.body.hidden = none;
        this.root.dataset.status = state.status ?? "";
        if (none) return;
        if (this.status.textContent !== STATUS[state.status]) this.status.textContent = STATUS[state.status];
        this.numbers.textContent = progress(state);
        this.bar.firstChild.style.width = `${(100 * state.step) / state.steps}%`;
        this.bar.setAttribute("aria-valuenow", Math.round((100 * state.step) / state.steps));
        this.bar.setAttribute("aria-valuetext", this.numbers.textContent);
        this.looking.hidden = !this.looked;
        this.which.textContent = this.looked ? `An earlier training: ${state.prompt || "towards targets"}` : "";
        this.problem.show(this.looked || !state.problem ? [] : [state.problem]);
        this.allTheSame.hidden = Boolean(this.looked) || !state.offers_to_keep;
        this.warnings.show(state.warnings ?? []);
        this.notes.show(state.notes);
        this.earlier.show(this.latest.earlier ?? [], this.latest.details ?? {}, this.looked?.training);
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
        this.lookAt(index);
    }

    scrub(index) {
        const { moments } = this.state;
        const within = Math.max(0, Math.min(moments.length - 1, index));
        this.following = within === moments.length - 1;
        this.answer.textContent = "";
        this.lookAt(within);
        this.enable();
    }

    lookAt(index) {
        const { moments, training, kept, columns = 4, rows = 1 } = this.state;
        const step = moments[index];
        this.scrubber.value = index;
        this.shownStep = step;
        const address = (at) => this.pictureOf(at, training, Boolean(this.looked));
        const before = moments[0] === 0 ? address(0) : null;
        this.pictures.show({ before, now: address(step), caption: after(step), columns, rows });
        this.moment.textContent = after(step)[0].toUpperCase() + after(step).slice(1) + (step === kept ? ", kept" : "");
        this.scrubber.setAttribute("aria-valuetext", this.moment.textContent);
    }

    enable() {
        const { status, step, steps, kept, pictures_alone: alone = [], can_train_more: canTrainMore } = this.state;
        const running = status === "running";
        const looked = Boolean(this.looked);
        const busy = Boolean(this.asked);
        this.stop.hidden = looked || !running || step >= steps; // what ends by itself is not stopped
        this.goOn.textContent = `Go on from step ${step}`; // not from a moment that was kept
        this.goOn.hidden = looked || running || status === "finished" || !(step > 0 && step < steps);
        this.further.hidden = looked || !canTrainMore;
        const present = looked ? null : running ? step : (kept ?? step);
        this.stop.disabled = this.goOn.disabled = this.more.disabled = this.allTheSame.disabled = this.back.disabled = busy;
        const whatever = Boolean(looked && this.latest.status === "running");
        this.keep.disabled =
            busy || whatever || (running && step >= steps) || !this.shownStep || this.shownStep === present || alone.includes(this.shownStep);
        this.keep.title = alone.includes(this.shownStep)
            ? "Of this moment there is a picture only: of earlier trainings, the weights of one moment are kept."
            : "The graph goes on with what was trained at the moment shown above. A training that runs ends for that.";
    }

    draw() {
        const { status, curves, titles, diversity, layers, map_steps: mapSteps, steps, step } = this.state;
        if (!status) return;
        this.charts.draw(curves, diversity, status === "running" ? Math.min(steps, Math.max(10, step)) : step, titles ?? {});
        this.map.draw(layers, mapSteps);
    }
}
