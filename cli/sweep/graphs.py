"""Runs as ComfyUI graphs in API form, and back: what a graph's nodes say is what options of `adapt` say."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...sds import TERMS, TargetSettings, TrainSettings
from ...sds.settings import GUIDANCE, LAYERS, OPTIMIZER, TRAIN
from ...sds.targets.settings import MAKE
from ...sds.terms.distribution import MATCHING, DistributionMatching
from ...training.settings import declared_settings, from_node, node_input_of, option_of, to_node
from ..plan import Plan
from ..terminal import MINIATURE, MINIATURE_CAT, UsageError

OURS = "StyleGANFusion"
REGULARIZERS = {
    "directional": "DirectionalRegularizer",
    "reconstruction": "ReconstructionRegularizer",
    "lpips": "LPIPSRegularizer",
}
MINIATURES = {MINIATURE: 3, MINIATURE_CAT: 5, "miniature-3d": 6}
"""The outputs of Load Miniature that are generators."""

_LARGEST = 20_000_000  # bytes of a file that a graph is in


class NoGraph(Exception):
    """NoGraph is raised for a run that nodes cannot do as it is."""


def graph_of(plan: Plan) -> dict[str, Any]:
    """Return a run as a graph in API form, which ComfyUI's page opens; files are named as they are in ComfyUI's folders of
    models. Raises NoGraph where nodes have no place for something."""
    unknown = {
        "--clip": plan.clip, "--domain": plan.domain, "--vae": plan.vae, "--embedding": plan.embeddings,
        "--prediction": plan.prediction, "a folder as --targets": plan.targets_from, "--front-prompt": plan.view_prompts,
        "--target-latents": plan.target_latents, "no --model": not plan.model,
    }  # fmt: skip
    if found := [name for name, given in unknown.items() if given]:
        raise NoGraph(f"A graph of this run would lack {', '.join(found)}.")
    settings, graph = plan.settings, {}

    def node(name: str, kind: str, **inputs: Any) -> None:
        graph[name] = {"class_type": kind, "inputs": inputs, "_meta": {"title": name}}

    small = MINIATURE in (plan.model, plan.lpips_features) or plan.generator in MINIATURES
    if small:
        node("miniature", f"{OURS}LoadMiniature")
    if plan.model == MINIATURE:
        model, clip, vae = (["miniature", output] for output in range(3))
    else:
        node("checkpoint", "CheckpointLoaderSimple", ckpt_name=Path(plan.model).name)
        model, clip, vae = (["checkpoint", output] for output in range(3))
    for number, (file, strength) in enumerate(plan.loras, start=1):
        given = {"lora_name": Path(file).name, "strength_model": strength, "strength_clip": strength}
        node(f"lora {number}", "LoraLoader", model=model, clip=clip, **given)
        model, clip = [f"lora {number}", 0], [f"lora {number}", 1]
    if plan.generator in MINIATURES:
        generator = ["miniature", MINIATURES[plan.generator]]
    else:
        node("generator", f"{OURS}LoadGenerator", file=Path(plan.generator).name)
        generator = ["generator", 0]
    for name, text in (("positive", plan.prompt), ("negative", plan.negative_prompt)):
        node(name, "CLIPTextEncode", clip=clip, text=text)
    guidance = {"model": model, "vae": vae, "positive": ["positive", 0], "negative": ["negative", 0]}
    for number, (text, scale) in enumerate(plan.extra_prompts, start=1):
        node(f"extra text {number}", "CLIPTextEncode", clip=clip, text=text)
        previous = {"previous": [f"extra {number - 1}", 0]} if number > 1 else {}
        node(f"extra {number}", f"{OURS}ExtraPrompt", conditioning=[f"extra text {number}", 0], scale=scale, **previous)
        guidance["extra_prompts"] = [f"extra {number}", 0]
    guidance |= {"guidance_scale": plan.guidance_scale, "image_size": plan.image_size or 0}
    node("guidance", f"{OURS}SDSGuidance", **guidance, **_shown(TrainSettings, GUIDANCE, settings))
    train = {
        "generator": generator,
        "guidance": ["guidance", 0],
        "samples": plan.samples,
        "save_every": plan.save_every,
    }
    regularizer = None
    if plan.distillation and (plan.distillation != "sds" or plan.has_targets):
        regularizer = _distillation(node, plan)
    for kind, weight in plan.weights.items():
        if weight:
            features = {"features": "miniature" if plan.lpips_features == MINIATURE else Path(plan.lpips_features).name}
            given = {"weight": weight, **(features if kind == "lpips" else {})}
            node(kind, f"{OURS}{REGULARIZERS[kind]}", **given, **({"previous": regularizer} if regularizer else {}))
            regularizer = [kind, 0]
    if regularizer:
        train["regularizer"] = regularizer
    if plan.making is not None:
        if plan.source_prompt != plan.negative_prompt:
            node("source", "CLIPTextEncode", clip=clip, text=plan.source_prompt)
        source = {"source": ["source", 0]} if "source" in graph else {}
        made = {**_shown(TargetSettings, MAKE, plan.targets.settings), "guidance_scale": plan.target_scale}
        node("targets", f"{OURS}MakeTargets", generator=generator, guidance=["guidance", 0], **source, **made)
        train["targets"] = ["targets", 0]
    mode, _, number = plan.layers.strip().lower().partition("top")
    choice = {"mode": "top k", "k": int(number or 1)} if not mode else {"mode": "all", "k": 3}
    if mode and mode != "all":
        choice = {"mode": "list", "k": 3}
    chosen = {
        "layers": plan.layers if choice["mode"] == "list" else "1, 2, 3",
        "selection_steps": plan.selection_steps or 1,
    }
    of_layers = _shown(TrainSettings, LAYERS, settings)
    if choice["mode"] != "all" or of_layers != _shown(TrainSettings, LAYERS, TrainSettings()):
        node("layers", f"{OURS}LayerSelect", **choice, **chosen, **of_layers)
        train["layers"] = ["layers", 0]
    of_optimizer = _shown(TrainSettings, OPTIMIZER, settings)
    if of_optimizer != _shown(TrainSettings, OPTIMIZER, TrainSettings()):
        node("optimizer", f"{OURS}Optimizer", **of_optimizer)
        train["optimizer"] = ["optimizer", 0]
    node("train", f"{OURS}TrainGenerator", **train, **_shown(TrainSettings, TRAIN, settings))
    node("save", f"{OURS}SaveGenerator", generator=["train", 0], filename_prefix="generator")
    node("after", "PreviewImage", images=["train", 2])
    return graph


def _distillation(node, plan: Plan) -> list:
    """The node of what pulls to the prompt; the link to it."""
    if plan.distillation == DistributionMatching.kind:
        own = DistributionMatching(**plan.distillation_settings)
        node("distillation", f"{OURS}DistributionMatching", weight=1.0, **_shown(DistributionMatching, MATCHING, own))
    else:
        node("distillation", f"{OURS}DistillationTerm", term=plan.distillation, weight=1.0)
    return ["distillation", 0]


def _shown(owner: type, name: str, values: Any) -> dict[str, Any]:
    """The inputs of the settings that a node shows."""
    declared = declared_settings(owner).values()
    return {node_input_of(one): to_node(one, getattr(values, one.name)) for one in declared if one.setting.node == name}


def read_graph(path: Path) -> dict[str, Any]:
    """Read a graph in API form, from a .json or from within a picture that ComfyUI saved. Raises UsageError."""
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError("it is far too large")
        if path.suffix.lower() == ".json":
            text = path.read_text("utf-8-sig")
        else:
            from PIL import Image

            with Image.open(path) as picture:
                text = picture.info["prompt"]
        graph = json.loads(text)
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise UsageError(f"{path} holds no graph that could be read ({error}).") from None
    if isinstance(graph, dict) and "nodes" in graph:
        raise UsageError(
            f"{path} is a graph as the page saves it; export it with Export (API), which names all inputs."
        )
    if not isinstance(graph, dict) or not all(isinstance(one, dict) and "class_type" in one for one in graph.values()):
        raise UsageError(f"{path} is no graph in API form; export one in ComfyUI with Export (API).")
    return graph


def options_of(graph: Mapping[str, Any], models: Path | None = None) -> dict[str, Any]:
    """Return the options of `adapt` that do what a graph's Train Generator does. Raises UsageError where there is not
    exactly one, or it has something that no option does."""
    return _Reader(graph, models).options()


class _Reader:
    """Follows the links of a graph."""

    def __init__(self, graph: Mapping[str, Any], models: Path | None):
        self.graph, self.models = graph, models

    def options(self) -> dict[str, Any]:
        trains = [one for one in self.graph.values() if one["class_type"] == f"{OURS}TrainGenerator"]
        if len(trains) != 1:
            raise UsageError(f"The graph has {len(trains)} nodes Train Generator; a sweep is made of a graph with one.")
        train = trains[0]["inputs"]
        found = {"generator": self._generator(train)}
        guidance = self._behind(train, "guidance", f"{OURS}SDSGuidance")
        if guidance is None:
            raise UsageError("Its Train Generator has no SDS Guidance; link one.")
        if "guider" in guidance:
            raise UsageError("Its SDS Guidance has a guider, which no option of the command line stands for.")
        found |= self._model(guidance)
        found["prompt"] = self._text(guidance, "positive")
        found["negative-prompt"] = self._text(guidance, "negative")
        found["guidance-scale"] = self._value(guidance, "guidance_scale", 100.0)
        if size := self._value(guidance, "image_size", 0):
            found["image-size"] = size
        if extra := self._extra(guidance):
            found["extra-prompt"] = extra
        found |= self._settings(TrainSettings, TRAIN, train) | self._settings(TrainSettings, GUIDANCE, guidance)
        found["samples"] = self._value(train, "samples", 8)
        found |= self._settings(TrainSettings, OPTIMIZER, self._behind(train, "optimizer", f"{OURS}Optimizer") or {})
        found |= self._layers(self._behind(train, "layers", f"{OURS}LayerSelect"))
        found |= self._terms(train) | self._targets(train)
        return found

    def _value(self, inputs: Mapping[str, Any], name: str, usual: Any = None) -> Any:
        """A value, also one that comes through a link from a node that holds nothing else."""
        value = inputs.get(name, usual)
        if _is_link(value):
            held = self._node(value)["inputs"]
            value = held.get("value", held.get("text", held.get("string")))
            if value is None or _is_link(value):
                raise UsageError(f"What is linked to {name} is not a plain value; write it into the node.")
        return value

    def _node(self, link: list) -> Mapping[str, Any]:
        if (found := self.graph.get(str(link[0]))) is None:
            raise UsageError("A link of the graph leads nowhere; export it again.")
        return found

    def _behind(self, inputs: Mapping[str, Any], name: str, *kinds: str) -> Mapping[str, Any] | None:
        """The inputs of the node that is linked, of one of these kinds; None without a link."""
        if not _is_link(link := inputs.get(name)):
            return None
        node = self._node(link)
        if node["class_type"] not in kinds:
            raise UsageError(
                f"{name} comes from a node {node['class_type']}, which no option of the command line stands for."
            )
        return node["inputs"]

    def _file(self, folder: str, name: str) -> str:
        return str((self.models or Path("models")) / folder / name)

    def _generator(self, inputs: Mapping[str, Any]) -> str:
        link = inputs.get("generator")
        if _is_link(link):
            node = self._node(link)
            if node["class_type"] == f"{OURS}LoadMiniature":
                return next(name for name, output in MINIATURES.items() if output == link[1])
            if node["class_type"] == f"{OURS}LoadGenerator":
                return self._file("stylegan", self._value(node["inputs"], "file"))
        raise UsageError("Its generator comes from neither Load StyleGAN2 nor Load Miniature; save it to a file first.")

    def _model(self, guidance: Mapping[str, Any]) -> dict[str, Any]:
        link, loras = guidance.get("model"), []
        while _is_link(link):
            node = self._node(link)
            kind, inputs = node["class_type"], node["inputs"]
            if kind == f"{OURS}LoadMiniature":
                model = MINIATURE
            elif kind == "CheckpointLoaderSimple":
                model = self._file("checkpoints", self._value(inputs, "ckpt_name"))
            elif kind in ("LoraLoader", "LoraLoaderModelOnly"):
                lora = self._file("loras", self._value(inputs, "lora_name"))
                loras.insert(0, [f"{lora}:{self._value(inputs, 'strength_model', 1.0):g}"])
                link = inputs.get("model")
                continue
            else:
                break
            return {"model": model, **({"lora": loras} if loras else {})}
        raise UsageError("Its model comes from neither Load Checkpoint nor Load Miniature, with LoRAs or without.")

    def _text(self, inputs: Mapping[str, Any], name: str) -> str:
        encoder = self._behind(inputs, name, "CLIPTextEncode")
        return "" if encoder is None else str(self._value(encoder, "text", ""))

    def _extra(self, guidance: Mapping[str, Any]) -> list[list]:
        found, inputs = [], self._behind(guidance, "extra_prompts", f"{OURS}ExtraPrompt")
        while inputs is not None:
            found.insert(0, [self._text(inputs, "conditioning"), self._value(inputs, "scale", 30.0)])
            inputs = self._behind(inputs, "previous", f"{OURS}ExtraPrompt")
        return found

    def _settings(
        self, owner: type, name: str, inputs: Mapping[str, Any], only_changed: bool = False
    ) -> dict[str, Any]:
        """The options of the settings that a node shows, all of them: what options are usually depends on model and
        targets."""
        found = {}
        for one in declared_settings(owner).values():
            place = node_input_of(one)
            if one.setting.node == name and one.setting.option != "" and place in inputs:
                value = from_node(one, self._value(inputs, place))
                if value not in (None, ()) and not (only_changed and value == one.default):  # None: nothing is said
                    found[option_of(one).removeprefix("--")] = _plain(value)
        return found

    def _layers(self, inputs: Mapping[str, Any] | None) -> dict[str, Any]:
        if inputs is None:
            return {}
        found = self._settings(TrainSettings, LAYERS, inputs)
        match self._value(inputs, "mode", "all"):
            case "top k":
                steps = self._value(inputs, "selection_steps", 1)
                more = {"selection-steps": steps} if steps != 1 else {}
                return {**found, "layers": f"top{self._value(inputs, 'k', 3)}", **more}
            case "list":
                return {**found, "layers": self._value(inputs, "layers").replace(" ", "")}
        return found

    def _terms(self, train: Mapping[str, Any]) -> dict[str, Any]:
        """Regularizers and what pulls to the prompt; what a graph has not is turned off."""
        found = {kind: 0.0 for kind, term in TERMS.items() if term.role == "regularizer"}
        kinds = {f"{OURS}{node}": kind for kind, node in REGULARIZERS.items()}
        others = f"{OURS}DistillationTerm", f"{OURS}DistributionMatching"
        link = train.get("regularizer")
        while _is_link(link):
            node = self._node(link)
            kind, inputs = node["class_type"], node["inputs"]
            if kind in kinds:
                found[kinds[kind]] = self._value(inputs, "weight", 1.0)
                features = self._value(inputs, "features", MINIATURE)
                if features != MINIATURE:
                    found["lpips-features"] = self._file("lpips", features)
            elif kind in others:
                if self._value(inputs, "weight", 1.0) != 1.0:
                    raise UsageError(
                        "Its distillation has a weight other than 1, which no option of the command line has."
                    )
                found["distillation"] = self._value(inputs, "term", DistributionMatching.kind)
                found |= (
                    self._settings(DistributionMatching, MATCHING, inputs, only_changed=True)
                    if kind == others[1]
                    else {}
                )
            else:
                raise UsageError(f"Its objective has a node {kind}, which no option of the command line stands for.")
            link = inputs.get("previous")
        return found

    def _targets(self, train: Mapping[str, Any]) -> dict[str, Any]:
        made = self._behind(train, "targets", f"{OURS}MakeTargets")
        if made is None:
            return {"targets": 0}
        found = {"targets": self._value(made, "count", 200), "target-scale": self._value(made, "guidance_scale", 5.0)}
        if "source" in made:
            found["source-prompt"] = self._text(made, "source")
        return {**found, **self._settings(TargetSettings, MAKE, made)}


def _is_link(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[1], int)


def _plain(value: Any) -> Any:
    return ", ".join(value) if isinstance(value, tuple) else value
