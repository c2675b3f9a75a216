"""What the study measures: cells, each a training by the words that name it, and the tables that they belong to."""

import re
from dataclasses import dataclass, field, replace

from comfyui_stylegan_fusion.miniature.settings import prompt_for
from comfyui_stylegan_fusion.sds import AllLayers, ManualLayers, TopKLayers, TrainSettings
from study_variants import RankedByDistillation

BASE = "steps=240 batch_size=4"
TOWARDS = "steps=300 batch_size=8 learning_rate=0.001"
LEFT_OUT = TrainSettings(steps=350, batch_size=4, learning_rate=0.006, cooldown=0.6, t_min=0.3, t_max=0.95)
"""What a cell's words do not say, whatever becomes of the presets."""
EDITS = 2.0  # the guidance scale of targets
TRADE_OFF = (0.1, 0.3, 0.5, 0.7, 0.95)
EDITED = (0.5, 0.7, 0.9)  # strengths of image to image
STATUE = "statue"  # a target that no prompt names: the diffusion model is tuned on it


@dataclass(frozen=True)
class Cell:
    """A Cell is one training, by the words that name it."""

    name: str
    source: str = ""
    target: str = ""
    terms: tuple[tuple[str, dict], ...] = ()
    settings: dict = field(default_factory=dict)  # of the training
    scale: float = 1.25
    layers: str = "all"
    negative: str | None = None  # None: what the source shows
    extra: str = ""  # a further prompt of scale 0
    prompt: str = ""  # "": the one that names the target
    clamp: str = "each"  # of the terms' gradients, or their "sum"
    ranking: str = "all"  # by which terms layers are chosen: all, or the "distillation"
    edits: int = 0  # 1: the distances from edited pictures, too, as the paper measures
    watch: int = 0  # steps between two measurements while it trains; 0: none

    @classmethod
    def parse(cls, text: str) -> "Cell":
        """Read a cell's words. Raises ValueError."""
        pair, *words = text.split()
        source, target = pair.split("-")
        terms, own, settings = [], {}, {}
        for word in words:
            if term := re.fullmatch(r"([a-z_]+)(?:\((.*)\))?", word):
                given = dict(part.split("=") for part in term[2].split(",")) if term[2] else {}
                terms.append((term[1], {name: _value(value) for name, value in given.items()}))
                continue
            name, value = word.split("=", 1)
            if name in ("scale", "watch", "edits"):
                own[name] = _value(value)
            elif name in ("layers", "negative", "extra", "prompt", "clamp", "ranking"):
                own[name] = value.replace("_", " ")
            else:
                settings[name] = _value(value)
        return cls(" ".join(text.split()), source, target, tuple(terms), settings, **own)

    @property
    def edit(self) -> float:
        """How far from image to image goes; 0: it is a training."""
        return next((given.get("strength", 0.5) for kind, given in self.terms if kind == "edited"), 0.0)

    @property
    def wanted(self) -> str:
        """The prompt."""
        return self.prompt or prompt_for("person" if self.target == STATUE else self.target)

    @property
    def training(self) -> TrainSettings:
        return replace(LEFT_OUT, **self.settings)

    @property
    def choice(self):
        if self.layers == "all":
            return AllLayers()
        if not self.layers.startswith("top"):
            return ManualLayers.parse(self.layers)
        return (RankedByDistillation if self.ranking == "distillation" else TopKLayers)(int(self.layers[3:]))


def _value(text: str):
    if text == "None":
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def cells(pairs, terms, more="") -> list[tuple[str, str]]:
    """Name a cell for each pair and term: (what a row is called, the cell's words)."""
    return [(label, f"{pair} {term} {BASE} {more}".strip()) for pair in pairs for label, term in terms.items()]


KEPT = "directional(weight=2)"
FAKE = "rank=0,learning_rate=0.0004,warmup=20"
CLIP = "steps=240 batch_size=4 cooldown=0"
FASTER = "learning_rate=0.012"
"""Of .003 to .024 about the best for SDS, to foxes and to robots."""
STRONGER_SDS = f"sds {KEPT} {BASE} {FASTER} scale=2"
"""With the scale that does more for robots, and too much for foxes."""

PAIRS = [
    f"{source}-{target}"
    for source, targets in {
        "person": ("fox", "robot", "zombie", "doll", "cat"),
        "cat": ("fox", "robot", "zombie", "doll", "person"),
    }.items()
    for target in targets
]
LONG = {
    "fox": "a portrait of a fox, wearing glasses, smiling, on a purple background",
    "robot": "a portrait of a robot, wearing a scarf, sad, on a yellow background",
    "zombie": "a portrait of a zombie, wearing a hat, on a blue background",
}


def long_prompts() -> list[tuple[str, str]]:
    rows = []
    for target, prompt in LONG.items():
        words = f"prompt={prompt.replace(' ', '_')}"
        rows.append(("CLIP-directional", f"person-{target} clip {CLIP} learning_rate=0.008 {words}"))
        rows.append(("SDS", f"person-{target} sds {BASE} {words}"))
        for label, more in (("targets", ""), ("targets from noise", ",inversion=noise,strength=0.9,scale=3")):
            rows.append((label, f"person-{target} targets(count=150{more}) {TOWARDS} {words}"))
    return rows


def layers() -> list[tuple[str, str]]:
    """Fewer layers take more steps in the official runs: 1.2, 3, 5 and 10 times as many for 12, 6, 3 and 1 of 17."""
    rows = [
        (f"{k} of 9 layers", f"person-fox sds {KEPT} {BASE} {FASTER} layers={'all' if k == 9 else f'top{k}'} edits=1")
        for k in (9, 6, 3, 1)
    ]
    for k, steps in ((6, 288), (3, 720), (1, 1200)):
        for label, terms in (("", f"sds {KEPT}"), (", no regularizer", "sds")):
            words = f"person-fox {terms} steps={steps} batch_size=4 {FASTER} layers=top{k} edits=1"
            rows.append((f"{k} of 9 layers, {steps} steps{label}", words))
    for label, ranking in (("", ""), (", ranked by SDS alone", "ranking=distillation ")):
        words = f"person-fox sds {KEPT} {BASE} layers=top3 {ranking}edits=1"
        rows.append((f"3 of 9 layers, rate .006{label}", words))
    rows += [(f"image to image, {s}", f"person-fox edited(strength={s}) scale=2") for s in EDITED]
    return rows


GROUPS: dict[str, list[tuple[str, str]]] = {
    "terms": cells(
        ["person-fox", "person-robot"],
        {
            "SDS": f"sds {KEPT}",
            "SDS, rate .012": f"sds {KEPT} {FASTER}",
            "CSD": f"csd {KEPT}",
            "Bridge": f"bridge {KEPT}",
            "NFSD": f"nfsd {KEPT} extra=a_blurry_picture",
            "ASD": f"asd {KEPT}",
            "DDS": f"dds {KEPT}",
            "LD": f"ld {KEPT}",
            "VSD": f"vsd({FAKE},normalization=none) {KEPT}",
            "DMD": f"vsd({FAKE},normalization=dmd) {KEPT}",
            "DMD in low rank": f"vsd(rank=8,learning_rate=0.002,warmup=20) {KEPT}",
        },
    ),
    "terms at a scale of 4": cells(
        ["person-fox"],
        {
            "CSD": f"csd {KEPT}",
            "NFSD": f"nfsd {KEPT} extra=a_blurry_picture",
            "ASD": f"asd {KEPT}",
            "DDS": f"dds {KEPT}",
            "LD": f"ld {KEPT}",
        },
        "scale=4",
    ),
    "rates": [
        (f"{label}, rate {rate}", f"{pair} {words} learning_rate={rate}")
        for pair in ("person-fox", "person-robot")
        for label, words, rates in (
            ("SDS", f"sds {KEPT} {BASE}", (0.003, 0.006, 0.012, 0.024)),
            ("CSD", f"csd {KEPT} {BASE}", (0.003, 0.006, 0.012)),
            (
                "targets and discriminator",
                "targets(count=150,adversarial=0.5) steps=300 batch_size=8",
                (0.0005, 0.001, 0.002),
            ),
        )
        for rate in rates
    ]
    + [
        (f"{kind.upper()}, rate {rate}, scale 2", f"{pair} {kind} {KEPT} {BASE} learning_rate={rate} scale=2")
        for pair in ("person-fox", "person-robot")
        for kind, rate in (("sds", 0.012), ("csd", 0.006))
    ],
    "pairs": [
        (label, f"{pair} {words}")
        for pair in PAIRS
        for label, words in {
            "CLIP-directional": f"clip {CLIP} learning_rate=0.008",
            "SDS, scale 1.25": f"sds {KEPT} {BASE} {FASTER}",
            "SDS, scale 2": STRONGER_SDS,
            "CSD": f"csd {KEPT} {BASE}",
            "targets": f"targets(count=150) {TOWARDS}",
            "targets and discriminator": f"targets(count=150,adversarial=0.5) {TOWARDS}",
        }.items()
    ],
    "long prompts": long_prompts(),
    "regularizers": [
        (label, f"person-fox {terms} steps=1200 batch_size=4 cooldown=0 watch=100")
        for label, terms in {
            "none": "sds",
            "directional": f"sds {KEPT}",
            "reconstruction": "sds reconstruction(weight=1)",
            "reconstruction, a tenth": "sds reconstruction(weight=0.1)",
            "both": f"sds {KEPT} reconstruction(weight=1)",
            "both, reconstruction a tenth": f"sds {KEPT} reconstruction(weight=0.1)",
        }.items()
    ],
    "timesteps": [(f"t_max {t}", f"person-fox sds {BASE} scale=2 t_min=0 t_max={t}") for t in TRADE_OFF],
    "timesteps of an image": [
        (f"{per_image}, {steps} steps", f"{pair} csd {KEPT} steps={steps} batch_size=4 timesteps_per_image={per_image}")
        for pair in ("person-fox", "person-robot")
        for per_image, steps in ((1, 240), (4, 240), (1, 720))
    ],
    "latents of a pool": [
        (label, f"{pair} csd {KEPT} {BASE} {words}".strip())
        for pair in ("person-fox", "person-robot")
        for label, words in {
            "new ones in every step": "",
            "100 latents": "latent_pool=100",
            "100 latents, 8 noises": "latent_pool=100 noise_pool=8",
            "25 latents": "latent_pool=25",
            "25 latents, 8 noises": "latent_pool=25 noise_pool=8",
        }.items()
    ],
    "layers": layers(),
    "sds": [
        (label, f"person-robot {words}")
        for label, words in {
            "scale 1.25, rate .006": f"sds {KEPT} {BASE}",
            "regularizer a quarter as strong": f"sds directional(weight=0.5) {BASE}",
            "no regularizer": f"sds {BASE}",
            "four times as many steps": f"sds {KEPT} steps=960 batch_size=4",
            "four times as many pictures a step": f"sds {KEPT} steps=240 batch_size=16",
            "rate .012": f"sds {KEPT} {BASE} {FASTER}",
            "rate .012, scale 2": STRONGER_SDS,
            "without its noise (CSD)": f"csd {KEPT} {BASE}",
            "without its noise (CSD), rate .012": f"csd {KEPT} {BASE} {FASTER}",
        }.items()
    ],
    "scales": [
        (f"scale {s}", f"{pair} sds {KEPT} {BASE} {FASTER}{'' if s == 1.25 else f' scale={s}'}")
        for pair, scales in {
            "person-fox": (1, 1.25, 2, 4, 10, 100),
            "person-robot": (1.25, 2, 4, 10),
            "person-zombie": (1.25, 2, 4, 10),
        }.items()
        for s in scales
    ],
    "clamps": [
        (label, f"person-fox sds {KEPT} {BASE} {FASTER} {words}")
        for label, words in {
            "latents not clamped": "gradient_clamp=None",
            "pictures not clamped": "image_clamp_quantile=None",
            "the sum clamped": "clamp=sum",
        }.items()
    ],
    "tuned on a style": [
        (label, f"person-{STATUE} {words} negative=")
        for label, words in {
            "SDS": f"sds {KEPT} {BASE}",
            "CSD": f"csd {KEPT} {BASE}",
            "DMD in low rank": f"vsd(rank=8,learning_rate=0.002,warmup=20) {KEPT} {BASE}",
            "targets and discriminator": f"targets(count=150,adversarial=0.5) {TOWARDS}",
        }.items()
    ],
    "optimizers": [
        (f"{label}, {name}", f"{pair} {words} optimizer={name} learning_rate={rate}")
        for pair in ("person-fox", "person-robot")
        for label, words, rates in (
            ("SDS", f"sds {KEPT} {BASE}", {"adam": 0.006, "muon": 0.001}),
            ("CSD", f"csd {KEPT} {BASE}", {"adam": 0.006, "muon": 0.001}),
            ("targets", "targets(count=150) steps=300 batch_size=8", {"adam": 0.006, "muon": 0.001}),
        )
        for name, rate in rates.items()
    ],
}
"""What belongs together in a table: a row's label and its cell."""
