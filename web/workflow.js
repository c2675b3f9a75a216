/** The workflow that the page shows. */

import { app } from "../../scripts/app.js";

const SETTLING = 100; // milliseconds
const LOOKING = 20; // milliseconds between two looks
const PATIENCE = 3000; // milliseconds, for a page that tells in another way, or not at all

/** The graph that holds all others; older pages name it differently. */
export const rootGraph = () => app.rootGraph ?? app.graph;

/** What tells the workflow from others, "" when nothing does: an id of zeros could be any. */
export const workflowId = () => (/[1-9a-f]/.test(rootGraph().id ?? "") ? rootGraph().id : "");

/** The page's workflows that are open, each with a place of its own; older pages keep none. */
export const openWorkflows = () => app.extensionManager?.workflow?.openWorkflows ?? [];

/** Which of them is shown. */
export const activeWorkflow = () => app.extensionManager?.workflow?.activeWorkflow ?? null;

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function until(isSo) {
    for (let waited = 0; !isSo() && waited < PATIENCE; waited += LOOKING) await pause(LOOKING);
}

/** What the page has noted of the workflow that it shows: another object with each graph that it loads. */
const noted = () => activeWorkflow()?.activeState;

/** Fulfilled once the page knows which workflow the graph is of that it loads: it tells so only after its nodes are made. */
let loaded = Promise.resolve();

app.registerExtension({
    name: "StyleGANFusion.Workflow",
    beforeConfigureGraph() {
        const before = noted();
        if (app.extensionManager?.workflow) loaded = until(() => noted() !== before);
    },
});

/** Once the graph is whole, and the page knows which workflow it is of. Graphs in API form are opened without a word. */
export async function settled() {
    let before;
    do {
        before = [loaded, activeWorkflow()];
        await loaded;
        await pause(SETTLING);
    } while (loaded !== before[0] || activeWorkflow() !== before[1]);
}

/** Let the page note that a text of the graph has become another, for tabs and reloads to find it. */
export async function note(text) {
    const workflow = activeWorkflow();
    const isNoted = () => {
        const tracker = workflow.changeTracker;
        if (JSON.stringify(tracker.activeState).includes(text)) return true;
        tracker.captureCanvasState ? tracker.captureCanvasState() : tracker.checkState(); // not while the page loads
        return false;
    };
    if (workflow?.changeTracker) await until(() => activeWorkflow() !== workflow || isNoted());
}
