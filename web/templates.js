/** The order of our templates in the page's list: the host gives them in the order in which its disk has them. */

import { app } from "../../scripts/app.js";

const ORDER = [
    "quickstart",
    "adapt_my_photo",
    "sd15_ffhq",
    "preview_targets",
    "train_on_targets",
    "style_change",
    "shape_change",
    "lora_guidance",
    "learn_a_domain",
    "domain_image_to_image",
    "generator_to_a_domain",
    "sd15_domain_control",
    "compare_settings",
    "mix_domains",
    "explore",
    "turn_a_head",
];

const FOLDER = decodeURIComponent(new URL(import.meta.url).pathname.split("/").at(-2));
const place = (name) => (ORDER.includes(name) ? ORDER.indexOf(name) : ORDER.length);

const { getWorkflowTemplates } = app.api;
if (getWorkflowTemplates) {
    app.api.getWorkflowTemplates = async function (...rest) {
        const found = await getWorkflowTemplates.apply(this, rest);
        found[FOLDER]?.sort((one, other) => place(one) - place(other));
        return found;
    };
}
