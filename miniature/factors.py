"""The named factors of a miniature portrait, how they are drawn at random, and the caption that names them.

Every factor is a function of one uniform number in [0, 1), so a row of `COUNT` uniforms is a portrait. The generator is
trained on the same row read through the normal distribution function, which makes its latent space cover them all.
"""

from dataclasses import dataclass, fields

import torch

DOMAINS = ("person", "cat", "fox", "robot", "zombie", "doll")
HAIR_STYLES = ("bald", "short", "long", "curly")
ACCESSORIES = ("none", "glasses", "hat", "scarf")
# Outlines of what can be worn in more than one way.
HAT_SHAPES = ("top", "pointed", "crown")
HAIR_SHAPES = ("smooth", "spiky", "buns")
COLLARS = ("none", "pointed", "ruff")

# sRGB in [0, 1].
BACKGROUNDS = {
    "red": (0.78, 0.22, 0.22),
    "orange": (0.92, 0.58, 0.24),
    "yellow": (0.93, 0.86, 0.42),
    "green": (0.32, 0.62, 0.36),
    "blue": (0.28, 0.44, 0.80),
    "purple": (0.52, 0.34, 0.68),
    "pink": (0.93, 0.66, 0.76),
    "grey": (0.56, 0.58, 0.60),
}
HAIR_COLOURS = {
    "black": (0.10, 0.09, 0.10),
    "brown": (0.38, 0.23, 0.13),
    "blond": (0.88, 0.74, 0.40),
    "red": (0.66, 0.25, 0.10),
    "white": (0.86, 0.86, 0.88),
}
EYE_COLOURS = {"brown": (0.36, 0.20, 0.09), "green": (0.16, 0.55, 0.28), "blue": (0.18, 0.40, 0.82)}
CLOTHES = {
    "red": (0.70, 0.16, 0.20),
    "green": (0.16, 0.46, 0.30),
    "blue": (0.16, 0.26, 0.56),
    "white": (0.88, 0.87, 0.84),
}
# What the head is made of, from one end of `surface` to the other.
SURFACES = {
    "person": {"light": (0.97, 0.82, 0.72), "tan": (0.82, 0.60, 0.44), "dark": (0.45, 0.28, 0.19)},
    "cat": {
        "grey": (0.56, 0.57, 0.61),
        "orange": (0.90, 0.58, 0.27),
        "black": (0.20, 0.19, 0.22),
        "white": (0.93, 0.91, 0.88),
    },
    "fox": {"orange": (0.90, 0.45, 0.13), "red": (0.72, 0.26, 0.12), "white": (0.90, 0.90, 0.93)},
    "robot": {"silver": (0.70, 0.74, 0.78), "gold": (0.84, 0.68, 0.30), "blue": (0.36, 0.52, 0.72)},
    "zombie": {"green": (0.50, 0.66, 0.38), "grey": (0.58, 0.64, 0.58), "olive": (0.52, 0.54, 0.28)},
    "doll": {"pale": (0.99, 0.91, 0.87), "pink": (0.99, 0.82, 0.77), "brown": (0.68, 0.47, 0.35)},
}
_SURFACE_WORDS = {"person": "skin", "cat": "fur", "fox": "fur", "robot": "metal", "zombie": "skin", "doll": "skin"}
_HAIRY = {"person", "zombie", "doll"}


@dataclass
class Factors:
    """Factors are a batch of B portraits. Lengths are in half image widths, x to the right and
    y down, angles in radians."""

    domain: torch.Tensor  # [B] int64, index into DOMAINS
    background: torch.Tensor  # [B, 3] colour
    background_name: torch.Tensor  # [B] int64, index into BACKGROUNDS
    x: torch.Tensor  # [B] position of the head, -0.22 to 0.22
    y: torch.Tensor  # [B] -0.14 to 0.14
    size: torch.Tensor  # [B] 0.78 to 1.08
    tilt: torch.Tensor  # [B] rotation in the image plane, -0.26 to 0.26
    yaw: torch.Tensor  # [B] turn of the head, -1 (to the left) to 1
    light: torch.Tensor  # [B] side the light comes from, -1 to 1
    surface: torch.Tensor  # [B, 3] colour of skin, fur or metal
    surface_name: torch.Tensor  # [B] int64, index into SURFACES[domain]
    hair: torch.Tensor  # [B] int64, index into HAIR_STYLES
    hair_colour: torch.Tensor  # [B, 3] colour
    hair_name: torch.Tensor  # [B] int64, index into HAIR_COLOURS
    eye_colour: torch.Tensor  # [B, 3] colour
    eye_name: torch.Tensor  # [B] int64, index into EYE_COLOURS
    eye_size: torch.Tensor  # [B] 0.8 to 1.25
    ear_size: torch.Tensor  # [B] 0.8 to 1.25
    smile: torch.Tensor  # [B] -1 (sad) to 1
    mouth_open: torch.Tensor  # [B] 0 to 1
    accessory: torch.Tensor  # [B] int64, index into ACCESSORIES
    clothes: torch.Tensor  # [B, 3] colour
    hat_shape: torch.Tensor  # [B] int64, index into HAT_SHAPES
    hair_shape: torch.Tensor  # [B] int64, index into HAIR_SHAPES
    collar: torch.Tensor  # [B] int64, index into COLLARS

    def __len__(self):
        return len(self.domain)

    def __getitem__(self, index) -> "Factors":
        """The portraits at `index` (slice, mask or index tensor)."""
        return Factors(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


# The uniform numbers that make one portrait, in order: how many things each chooses from, 0 where it is a continuous amount.
PLAIN_UNIFORMS = (
    len(BACKGROUNDS), 0, 0, 0,  # background and its jitter
    0, 0, 0, 0, 0, 0,  # x, y, size, tilt, yaw, light
    len(SURFACES["person"]), 0, 0, 0,  # surface and its jitter
    len(HAIR_STYLES), len(HAIR_COLOURS), 0, 0, 0,  # hair
    len(EYE_COLOURS), 0, 0, 0, 0,  # eye colour, eye size, ear size, smile, open mouth
    len(ACCESSORIES), len(CLOTHES), 0, 0, 0,  # accessory, clothes
)  # fmt: skip
OUTLINES = (len(HAT_SHAPES), len(HAIR_SHAPES), len(COLLARS))
UNIFORMS = PLAIN_UNIFORMS + OUTLINES
COUNT, PLAIN_COUNT = len(UNIFORMS), len(PLAIN_UNIFORMS)


def factors_from_uniform(u: torch.Tensor, domain: torch.Tensor) -> Factors:
    """Make portraits from uniform numbers u [B, COUNT] in [0, 1) and domain indices [B]; from [B, PLAIN_COUNT], without
    the outlines that came later, plain ones."""
    if u.ndim != 2 or u.shape[1] not in (COUNT, PLAIN_COUNT):
        raise ValueError(f"u must have shape [B, {COUNT}] or [B, {PLAIN_COUNT}], but it has {list(u.shape)}.")
    if u.shape[1] == PLAIN_COUNT:
        u = torch.cat([u, u.new_zeros(len(u), len(OUTLINES))], 1)
    columns = iter(u.unbind(1))

    def between(low, high):
        return low + (high - low) * next(columns)

    def choice(count):
        return (next(columns) * count).long().clamp_(max=count - 1)

    def jittered(palette, name, amount):
        table = torch.tensor(list(palette.values()))
        noise = torch.stack([between(-amount, amount) for _ in range(3)], 1)
        return (table[name] + noise).clamp(0, 1)

    background_name = choice(len(BACKGROUNDS))
    background = jittered(BACKGROUNDS, background_name, 0.06)
    x, y, size = between(-0.22, 0.22), between(-0.14, 0.14), between(0.78, 1.08)
    tilt, yaw, light = between(-0.26, 0.26), between(-1, 1), between(-1, 1)

    pick = next(columns)
    noise = torch.stack([between(-0.05, 0.05) for _ in range(3)], 1)
    surface, surface_name = torch.zeros(len(u), 3), torch.zeros(len(u), dtype=torch.long)
    for index, palette in enumerate(SURFACES.values()):
        table = torch.tensor(list(palette.values()))
        name = (pick * len(table)).long().clamp_(max=len(table) - 1)
        here = domain == index
        surface[here] = (table[name] + noise).clamp(0, 1)[here]
        surface_name[here] = name[here]

    hair = choice(len(HAIR_STYLES))
    hair_name = choice(len(HAIR_COLOURS))
    hair_colour = jittered(HAIR_COLOURS, hair_name, 0.05)
    eye_name = choice(len(EYE_COLOURS))
    eye_colour = torch.tensor(list(EYE_COLOURS.values()))[eye_name]
    eye_size, ear_size = between(0.8, 1.25), between(0.8, 1.25)
    smile, mouth_open = between(-1, 1), between(0, 1)
    accessory = choice(len(ACCESSORIES))
    clothes = jittered(CLOTHES, choice(len(CLOTHES)), 0.05)
    hat_shape, hair_shape, collar = (choice(count) for count in OUTLINES)
    return Factors(
        domain=domain, background=background, background_name=background_name, x=x, y=y, size=size, tilt=tilt, yaw=yaw,
        light=light, surface=surface, surface_name=surface_name, hair=hair, hair_colour=hair_colour, hair_name=hair_name,
        eye_colour=eye_colour, eye_name=eye_name, eye_size=eye_size, ear_size=ear_size, smile=smile, mouth_open=mouth_open,
        accessory=accessory, clothes=clothes, hat_shape=hat_shape, hair_shape=hair_shape, collar=collar,
    )  # fmt: skip


def sample_factors(count: int, generator: torch.Generator, domain: str | None = None, plain: bool = False) -> Factors:
    """Draw `count` random portraits of one domain, or of all domains in equal parts when `domain` is None; `plain` ones
    have the outlines that the judge was trained on."""
    if domain is None:
        index = torch.randint(len(DOMAINS), [count], generator=generator)
    elif domain in DOMAINS:
        index = torch.full([count], DOMAINS.index(domain))
    else:
        raise ValueError(f"There is no domain {domain!r} in the miniature world; choose one of {', '.join(DOMAINS)}.")
    uniform = torch.rand(count, PLAIN_COUNT, generator=generator)
    if not plain:
        uniform = torch.cat([uniform, torch.rand(count, len(OUTLINES), generator=generator)], 1)
    return factors_from_uniform(uniform, index)


def captions(factors: Factors, generator: torch.Generator) -> list[str]:
    """Write one caption for each portrait: always the domain, any other visible factor at most half of the time."""
    opening = ("a portrait of a", "portrait of a", "a picture of a", "a")
    chance = torch.rand(len(factors), 12, generator=generator)
    lines = []
    for i, row in enumerate(chance.tolist()):
        domain = DOMAINS[factors.domain[i]]
        parts = [f"{opening[int(row[0] * len(opening))]} {domain}"]
        details = []
        if row[1] < 0.5:
            details.append(f"with {list(SURFACES[domain])[factors.surface_name[i]]} {_SURFACE_WORDS[domain]}")
        if domain in _HAIRY and row[2] < 0.5:
            style = HAIR_STYLES[factors.hair[i]]
            if style == "bald":
                details.append("bald")
            else:
                details.append(f"with {style} {list(HAIR_COLOURS)[factors.hair_name[i]]} hair")
        if row[3] < 0.4:
            details.append(f"with {list(EYE_COLOURS)[factors.eye_name[i]]} eyes")
        if factors.accessory[i] > 0 and row[4] < 0.3:  # seldom: what is unnamed may still be there
            name = ACCESSORIES[factors.accessory[i]]
            details.append("wearing glasses" if name == "glasses" else f"wearing a {name}")
        if row[5] < 0.4 and abs(factors.smile[i]) > 0.35:
            details.append("smiling" if factors.smile[i] > 0 else "sad")
        if row[6] < 0.3 and factors.mouth_open[i] > 0.6:
            details.append("with an open mouth")
        if row[7] < 0.3 and abs(factors.yaw[i]) > 0.4:
            details.append(f"looking {'right' if factors.yaw[i] > 0 else 'left'}")
        if row[8] < 0.3 and abs(factors.light[i]) > 0.4:
            details.append(f"lit from the {'right' if factors.light[i] > 0 else 'left'}")
        if row[9] < 0.25 and not 0.86 < factors.size[i] < 1.0:
            details.append("close up" if factors.size[i] > 0.93 else "far away")
        if row[10] < 0.5:
            name = list(BACKGROUNDS)[factors.background_name[i]]
            details.append(f"on {'an' if name == 'orange' else 'a'} {name} background")
        lines.append(", ".join([*parts, *details]))
    return lines
