/** Whose panel a key is: a copy of a workflow has panels of its own, wherever its original is open. */

import { activeWorkflow, openWorkflows } from "../workflow.js";

/** A key that nobody guesses; pages that are not served over https have no randomUUID. */
export function newKey() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The workflow of this page in which each key was seen first, and since when. */
const owners = new Map();

/** What keys have become in a copy, by the copy: going back to it, and undoing, may bring those of the original again. */
const exchanged = new WeakMap();

function ownerOf(key) {
    const owner = owners.get(key);
    return owner && openWorkflows().includes(owner.workflow) ? owner : null;
}

/** Note that a key is of the workflow that is shown. */
export function claim(key) {
    const workflow = activeWorkflow();
    if (!workflow || ownerOf(key)?.workflow === workflow) return;
    owners.set(key, { workflow, since: Date.now() + Math.random() });
}

/** The key that stands in the place of one that the workflow that is shown was saved with: the same one, unless that is of
 * another workflow, of which this one is a copy. */
export function keyHere(key) {
    const here = activeWorkflow();
    const owner = ownerOf(key);
    return here && owner && owner.workflow !== here ? exchange(key) : key;
}

/** Another key for the workflow that is shown, each time the same one. */
export function exchange(key) {
    const here = activeWorkflow();
    const known = exchanged.get(here) ?? new Map();
    exchanged.set(here, known);
    if (!known.has(key)) known.set(key, newKey());
    if (owners.get(key)?.workflow === here) owners.delete(key);
    return known.get(key);
}

/** Pages of one browser ask each other. The same workflow may be open in several; one of another name is a copy. */
const channel = window.BroadcastChannel && new BroadcastChannel("stylegan_fusion.panels");
const PAGE = newKey();

/** Ask the other pages whether a key is of another workflow there. */
export function askOthers(key) {
    const path = activeWorkflow()?.path;
    if (path) channel?.postMessage({ asked: key, path, since: owners.get(key)?.since, page: PAGE });
}

/** Call back with each key that turns out to be of another workflow of another page. */
export function onTaken(callback) {
    channel?.addEventListener("message", ({ data }) => {
        const owner = ownerOf(data.asked);
        if (data.page === PAGE && data.taken) callback(data.taken);
        else if (owner && owner.since < data.since && owner.workflow.path !== data.path) {
            channel.postMessage({ taken: data.asked, page: data.page });
        }
    });
}
