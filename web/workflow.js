/** The workflow that the page shows. */

import { app } from "../../scripts/app.js";

/** The graph that holds all others; older pages name it differently. */
export const rootGraph = () => app.rootGraph ?? app.graph;

/** What tells the workflow from others, "" when nothing does: an id of zeros could be any. */
export const workflowId = () => (/[1-9a-f]/.test(rootGraph().id ?? "") ? rootGraph().id : "");
