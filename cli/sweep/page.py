"""The page of a sweep: index.html, which needs neither a server nor anything from elsewhere."""

import contextlib
import html
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...training.files import write_atomically
from .jobs import Job
from .worker import DONE

INDEX, RESULT = "index.html", "sweep.json"
WAITING = "waiting"


@dataclass(frozen=True)
class Row:
    """A Row is a run as the page shows it."""

    job: Job
    result: dict  # what became of it; empty while it waits

    @property
    def state(self) -> str:
        return self.result.get("state", WAITING)


def kept_result(folder: Path) -> dict:
    """Return what is noted of a run in its folder; empty without a note."""
    try:
        found = json.loads((folder / RESULT).read_text("utf-8"))
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


def keep_result(folder: Path, result: dict) -> None:
    """Note what became of a run in its folder."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / RESULT, json.dumps(result).encode())


def write_page(root: Path, rows: Sequence[Row], title: str) -> None:
    """Write the page of a sweep. Raises OSError."""
    shown = [_shown(root, row) for row in rows]
    # A text that holds the end of a script must not end it.
    data = json.dumps(shown).replace("</", "<\\/")
    page = TEMPLATE.replace("{{title}}", html.escape(title)).replace("{{data}}", data)
    write_atomically(root / INDEX, page.encode())


def _shown(root: Path, row: Row) -> dict:
    job, folder = row.job, row.job.folder(root)
    scores, curves = {}, {}
    if row.state == DONE:
        curves = _history(folder)
        scores = _scores(curves) | ({"CLIP score": row.result["clip"]} if "clip" in row.result else {})
        scores["seconds"] = row.result.get("seconds", 0.0)
    pictures = {name: f"{job.name}/{name}" for name in ("before_after.png", "loss.png") if (folder / name).is_file()}
    return {
        "name": job.name,
        "prompt": job.plan.prompt,
        "state": row.state,
        "said": row.result.get("said", ""),
        "settings": " ".join(job.arguments[1:]),
        "scores": {name: value for name, value in scores.items() if math.isfinite(value)},
        "pictures": pictures,
        "curves": curves,
        "graph": f"{job.name}/graph.json" if (folder / "graph.json").is_file() else "",
    }


def _history(folder: Path) -> dict[str, list]:
    """The curves of a run: steps and values by name."""
    try:
        found = json.loads((folder / "history.json").read_text("utf-8"))
        return found["curves"]
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def _scores(curves: dict[str, list]) -> dict[str, float]:
    """What a run came to: each curve's mean over its last tenth, and the share of the diversity that is left."""
    scores = {}
    for name, (_, values) in curves.items():
        if name == "diversity":
            if values and values[0]:
                scores["diversity left, %"] = 100 * values[-1] / values[0]
        elif values:
            last = values[-max(1, len(values) // 10) :]
            scores[name] = sum(last) / len(last)
    return scores


TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{title}}</title>
<style>
:root { color-scheme: light dark; --line: #8885; --soft: #8882; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 1500px; padding: 16px 20px 60px; }
h1 { font-size: 20px; margin: 4px 0; }
#bar { position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; gap: 10px; align-items: center; padding: 10px 0;
  background: Canvas; border-bottom: 1px solid var(--line); }
#bar input, #bar select { font: inherit; padding: 5px 8px; }
#bar input { flex: 1 1 220px; min-width: 0; }
#count { margin-left: auto; opacity: .75; }
#runs { display: grid; gap: 18px; align-items: start; grid-template-columns: repeat(auto-fill, minmax(min(440px, 100%), 1fr)); margin-top: 16px; }
article { border: 1px solid var(--line); border-radius: 8px; overflow: hidden; display: flex; flex-direction: column; }
article img { width: 100%; display: block; background: var(--soft); }
article a { color: inherit; }
.text { padding: 10px 12px 12px; }
h2 { font-size: 16px; margin: 0 0 2px; overflow-wrap: anywhere; }
.name { opacity: .7; font-size: 13px; overflow-wrap: anywhere; }
.scores { display: flex; flex-wrap: wrap; gap: 4px 14px; margin: 8px 0 0; font-size: 13px; }
.scores b { font-weight: 600; font-variant-numeric: tabular-nums; }
.failed .said { color: light-dark(#b00020, #ff8a80); }
.said { margin: 8px 0 0; }
details { margin-top: 8px; font-size: 13px; }
code { overflow-wrap: anywhere; white-space: pre-wrap; }
svg { width: 100%; height: 70px; display: block; }
svg path { fill: none; stroke: currentColor; stroke-width: 1.5; vector-effect: non-scaling-stroke; }
.empty { padding: 34px 12px; text-align: center; background: var(--soft); opacity: .8; }
</style>
</head>
<body>
<h1>{{title}}</h1>
<div id="bar">
<input id="words" type="search" placeholder="words in prompt, name, settings" aria-label="Filter by words">
<label>state <select id="state"></select></label>
<label>sort by <select id="sort"></select></label>
<label><input id="down" type="checkbox"> highest first</label>
<span id="count" role="status"></span>
</div>
<main id="runs"></main>
<script id="data" type="application/json">{{data}}</script>
<script>
const runs = JSON.parse(document.getElementById("data").textContent);
const place = id => document.getElementById(id);
const element = (name, text, more = {}) => Object.assign(document.createElement(name), { textContent: text ?? "" }, more);
const names = [...new Set(runs.flatMap(run => Object.keys(run.scores)))];
const states = [...new Set(runs.map(run => run.state))];
for (const state of ["all", ...states]) place("state").append(element("option", state, { value: state }));
for (const name of ["order of the file", "prompt", ...names]) place("sort").append(element("option", name, { value: name }));
const number = value => Math.abs(value) >= 100 ? value.toFixed(0) : Math.abs(value) >= 1 ? value.toFixed(1) : value.toPrecision(2);
function curve([steps, values]) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg"), low = Math.min(...values), high = Math.max(...values);
  const last = steps[steps.length - 1] || 1, path = document.createElementNS(svg.namespaceURI, "path");
  const at = values.map((value, i) => `${100 * steps[i] / last} ${34 - 32 * (value - low) / (high - low || 1)}`);
  svg.setAttribute("viewBox", "0 0 100 36"); svg.setAttribute("preserveAspectRatio", "none"); svg.setAttribute("role", "img");
  path.setAttribute("d", "M" + at.join("L")); svg.append(path);
  svg.setAttribute("aria-label", `from ${number(values[0])} to ${number(values[values.length - 1])}`);
  return svg;
}
function card(run) {
  const article = element("article", "", { className: run.state }), text = element("div", "", { className: "text" });
  const picture = run.pictures["before_after.png"];
  if (picture) {
    const link = element("a", "", { href: encodeURI(picture) });
    link.append(element("img", "", { src: encodeURI(picture), loading: "lazy", alt: `before and after: ${run.prompt}` }));
    article.append(link);
  } else article.append(element("div", run.state, { className: "empty" }));
  text.append(element("h2", run.prompt || run.name), element("div", run.name, { className: "name" }));
  const scores = element("div", "", { className: "scores" });
  for (const [name, value] of Object.entries(run.scores)) {
    const one = element("span", `${name} `); one.append(element("b", number(value))); scores.append(one);
  }
  if (scores.childNodes.length) text.append(scores);
  if (run.said) text.append(element("p", run.said, { className: "said" }));
  const more = element("details"); more.append(element("summary", "settings and curves"));
  more.append(element("code", run.settings));
  if (run.graph) more.append(element("p", "")), more.lastChild.append(
    element("a", "graph.json", { href: encodeURI(run.graph) }), " opens in ComfyUI: drop it on the page.");
  more.addEventListener("toggle", () => {
    if (!more.open || more.dataset.drawn) return;
    more.dataset.drawn = "yes";
    for (const [name, values] of Object.entries(run.curves)) if (values[1].length > 1) more.append(element("div", name), curve(values));
  });
  text.append(more); article.append(text);
  return article;
}
function show() {
  const words = place("words").value.toLowerCase().split(/\\s+/).filter(Boolean), state = place("state").value;
  const by = place("sort").value, turn = place("down").checked ? -1 : 1;
  let found = runs.filter(run => (state === "all" || run.state === state) &&
    words.every(word => `${run.prompt} ${run.name} ${run.settings} ${run.said}`.toLowerCase().includes(word)));
  const value = run => by === "prompt" ? run.prompt : run.scores[by];
  if (by === "order of the file") { if (turn < 0) found = [...found].reverse(); }
  else found = [...found].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
    return turn * (x < y ? -1 : x > y ? 1 : 0);
  });
  place("runs").replaceChildren(...found.map(card));
  place("count").textContent = `${found.length} of ${runs.length} runs`;
}
for (const id of ["words", "state", "sort", "down"]) place(id).addEventListener("input", show);
show();
</script>
</body>
</html>
"""
