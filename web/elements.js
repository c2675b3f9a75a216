/** Building blocks of what our nodes show on the page. */

/** An HTML element with properties and children. */
export function element(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
}

/** Load a stylesheet once; its address is relative to the module that asks. */
export function addStyle(path, module) {
    const href = new URL(path, module).href;
    if (![...document.styleSheets].some((sheet) => sheet.href === href)) {
        document.head.append(element("link", { rel: "stylesheet", href }));
    }
}

/** What a slider does with keys. */
export const SLIDER_KEYS = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "PageUp", "PageDown"];

/** Keys that the page uses, too, are the element's alone while it has the focus. */
export function keepKeys(control, keys) {
    control.addEventListener("keydown", (event) => {
        if (keys.includes(event.key)) event.stopPropagation();
    });
}
