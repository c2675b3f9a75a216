/** Callbacks of the page's nodes, which other extensions may have set, too. */

/** Call follow after what the node's hook does already. */
export function after(node, hook, follow) {
    const before = node[hook];
    node[hook] = function (...rest) {
        const given = before?.apply(this, rest);
        follow(...rest);
        return given;
    };
}
