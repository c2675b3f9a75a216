/** The workflow that the page shows. */

import { app } from "../../scripts/app.js";

const SETTLING = 100; // milliseconds

/** The graph that holds all others; older pages name it differently. */
export const rootGraph = () => app.rootGraph ?? app.graph;

/** What tells the workflow from others, "" when nothing does: an id of zeros could be any. */
export const workflowId = () => (/[1-9a-f]/.test(rootGraph().id ?? "") ? rootGraph().id : "");

/** The page's workflows that are open, each with a place of its own; older pages keep none. */
export const openWorkflows = () => app.extensionManager?.workflow?.openWorkflows ?? [];

/** Which of them is shown. */
export const activeWorkflow = () => app.extensionManager?.workflow?.activeWorkflow ?? null;

/** Once the page has settled on which workflow it shows: it tells so only after its nodes are made. */
export async function settled() {
    let before;
    do {
        before = activeWorkflow()?.path;
        await new Promise((resolve) => setTimeout(resolve, SETTLING));
    } while (activeWorkflow()?.path !== before);
}
