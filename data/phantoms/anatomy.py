"""Chest radiographs that nobody ever had: anatomy of a patient, pose of a visit, and the picture of both.

Attenuations add up, as they do along a ray after the logarithm; the picture is their sum through a film
curve. Coordinates: x from -1 (image left, the patient's right) to 1, y from -1 (top) to 1. All is drawn for
a batch at once: a parameter is an array ``(B, 1, 1)``, a picture ``(B, S, S)`` float32.
"""

import numpy as np
from scipy.special import ndtri  # pyright: ignore[reportMissingTypeStubs]

Array = np.ndarray
Parameters = dict[str, Array]

FINDINGS = ("normal", "effusion", "pneumonia")
"""The classes, by label."""

SHARES = (0.4, 0.3, 0.3)
"""Their shares among the patients."""

ANATOMY: dict[str, tuple[float, float]] = {
    "width": (0.74, 0.065),  # half the thorax at its widest
    "top": (-0.80, 0.055),  # apex of the lungs
    "roundness": (2.5, 0.11),  # exponent of the thorax's outline
    "taper": (0.03, 0.017),  # how the chest wall leans in below
    "asymmetry": (0.0, 0.01),  # one lung wider than the other
    "dome_right": (0.40, 0.075),  # height of the diaphragm, right and left
    "dome_left": (0.47, 0.075),
    "dome_depth": (0.26, 0.021),  # from the dome to the angle beside the ribs
    "mediastinum": (0.150, 0.0077),  # half its width
    "heart_x": (0.15, 0.012),
    "heart_y": (-0.12, 0.014),  # above the dome
    "heart_a": (0.36, 0.017),  # long half axis
    "heart_b": (0.265, 0.035),
    "heart_tilt": (0.60, 0.056),  # radians
    "aorta": (0.085, 0.0077),  # radius of the arch
    "rib_spacing": (0.190, 0.0063),
    "rib_phase": (0, 0.042),
    "rib_fall": (0.32, 0.017),  # how far a rib falls from spine to side
    "rib_strength": (0.045, 0.02),
    "clavicle_y": (-0.60, 0.017),
    "clavicle_fall": (0.24, 0.025),
    "spine": (0.075, 0.0038),
    "spine_lean": (0.0, 0.0087),
    "tissue": (0.60, 0.065),  # attenuation of the chest wall
    "air": (0.44, 0.05),  # what the lungs take off it
    "breast": (0.0, 0.026),  # soft shadows, only where positive
    "hilum": (0.085, 0.0087),
    "vessels": (0.03, 0.0035),
    "stomach": (0.10, 0.025),
    "shoulder": (-0.66, 0.07),
}
"""Mean and deviation of what belongs to a patient.

What varies most are the large, smooth things: a small network learns these in a minute, fine lines not.
"""

VISIT: dict[str, tuple[float, float]] = {
    "shift_x": (0.0, 0.012),
    "shift_y": (0.0, 0.012),
    "rotation": (0.0, 0.009),  # radians
    "zoom": (1.0, 0.008),
    "inspiration": (0.0, 0.022),  # moves both domes
    "exposure": (0.0, 0.016),
    "stage": (0.0, 0.35),  # the finding grows or shrinks
    "focus": (0.0, 1.0),  # sharp or soft; see `film`
    "contrast": (0.0, 0.25),  # logarithm of the film's slope
    "mottle": (0.0, 0.4),  # logarithm of the quantum noise
}
"""Mean and deviation of what belongs to one visit."""

_CELLS = 9
"""The fine structure of the lungs is a field of that many cells a side, smoothly joined."""


def draw_anatomy(rng: np.random.Generator, patients: int) -> Parameters:
    """Return each patient's anatomy and finding; a larger cohort of a seed begins with the same ones."""
    luck = rng.random((patients, len(ANATOMY) + 7))  # one row a patient, or more of them would change all
    spread = np.clip(ndtri(luck[:, 7:]), -2.3, 2.3)
    chance = luck[:, :7]
    found: Parameters = {
        name: (mean + deviation * spread[:, column]).astype(np.float32)
        for column, (name, (mean, deviation)) in enumerate(ANATOMY.items())
    }
    found["finding"] = np.searchsorted(np.cumsum(SHARES)[:-1], chance[:, 0], side="right").astype(np.float32)
    found["side"] = np.where(chance[:, 1] < 0.55, -1.0, 1.0).astype(np.float32)
    found["severity"] = chance[:, 2].astype(np.float32)
    found["lobe_x"] = chance[:, 3].astype(np.float32)
    found["lobe_y"] = chance[:, 4].astype(np.float32)
    found["patch"] = (2 * np.pi * chance[:, 5]).astype(np.float32)
    found["gas_x"] = (0.30 + 0.25 * chance[:, 6]).astype(np.float32)
    return found


def draw_fields(rng: np.random.Generator, patients: int) -> Array:
    """Return each patient's fine structure, ``(patients, cells, cells)``."""
    return rng.standard_normal((patients, _CELLS, _CELLS)).astype(np.float32)


def picture(body: Parameters, visit: Parameters, fields: Array, size_px: int) -> Array:
    """Return attenuation pictures ``(B, S, S)`` float32, about 0 (air) to 1.3 (bone on heart).

    Args:
        body: anatomy, each entry ``(B,)``.
        visit: pose and stage, each entry ``(B,)``.
        fields: fine structure ``(B, cells, cells)``.
        size_px: S.
    """
    a = {name: value.reshape(-1, 1, 1) for name, value in (body | visit).items()}
    x, y = _coordinates(a, size_px)
    lungs, outer = _lungs(a, x, y)
    texture = _spread(fields, size_px)
    ray = _outline(a, x, y, outer)
    heart = _heart(a, x, y)
    # what is no longer air: each takes its share of what the others left
    air = lungs * (1 - 0.94 * heart) * (1 - _effusion(a, x, y, outer)) * (1 - _pneumonia(a, x, y))
    ray -= a["air"] * air * (1 + 0.10 * texture)
    ray += 0.07 * heart + _middle(a, x, y) + _bones(a, x, y, outer) + _soft(a, x, y, lungs)
    ray += _vessels(a, x, y, texture) * air
    return ray + a["exposure"]


def _coordinates(a: Parameters, size_px: int) -> tuple[Array, Array]:
    line = ((np.arange(size_px, dtype=np.float32) + 0.5) / size_px) * 2 - 1
    column, row = line.reshape(1, 1, -1), line.reshape(1, -1, 1)
    cos, sin = np.cos(a["rotation"]) / a["zoom"], np.sin(a["rotation"]) / a["zoom"]
    return cos * column + sin * row - a["shift_x"], cos * row - sin * column - a["shift_y"]


def _step(distance: Array, softness: float) -> Array:
    """A soft edge: 0 far on the negative side, 1 far on the positive; fast, smooth and of bounded reach."""
    t = np.clip(distance / (2 * softness) + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def _bump(distance: Array, radius: Array | float) -> Array:
    """A soft ridge: 1 at distance 0, 0 from ``radius`` on."""
    t = np.clip(1 - np.square(distance / radius), 0, 1)
    return t * t


def _lungs(a: Parameters, x: Array, y: Array) -> tuple[Array, Array]:
    """Return the lungs' mask and the thorax's half width at each height."""
    depth = np.clip((y - a["top"]) / (0.95 - a["top"]), 1e-3, 1)
    outer = a["width"] * np.power(1 - np.power(1 - depth, a["roundness"]), 0.5)
    outer = outer - a["taper"] * np.square(np.clip(y, 0, 1)) + a["asymmetry"] * np.sign(x)
    inner = a["mediastinum"] * (0.72 + 0.35 * np.square(y - 0.1))
    across = np.abs(x)
    side = np.where(x < 0, a["dome_right"], a["dome_left"]) + a["inspiration"]
    bow = np.clip((across - 0.42 * a["width"]) / (0.60 * a["width"]), -0.8, 1.1)
    dome = side + a["dome_depth"] * np.square(bow)
    mask = _step(outer - across, 0.045) * _step(across - inner, 0.04) * _step(dome - y, 0.04)
    return mask, outer


def _outline(a: Parameters, x: Array, y: Array, outer: Array) -> Array:
    """Chest wall, shoulders, neck and what lies below the diaphragm; black outside."""
    across = np.abs(x)
    slope = a["shoulder"] - 0.24 * _step(0.52 - across, 0.30) - 0.85 * _step(0.26 - across, 0.07)
    inside = _step(y - slope, 0.05) * _step(a["width"] + 0.34 - across, 0.05)
    wall = a["tissue"] * (1 + 0.16 * _step(across - outer, 0.07))
    belly = 0.20 * _step(y - a["dome_right"] - a["inspiration"], 0.20)
    head = 0.14 * _bump(across - 0.88, 0.34) * _bump(y - a["shoulder"] - 0.20, 0.36)
    return inside * (wall + belly + head)


def _heart(a: Parameters, x: Array, y: Array) -> Array:
    """Heart on its diaphragm, right atrium and aortic arch, as a mask."""
    dx, dy = x - a["heart_x"], y - a["dome_left"] - a["inspiration"] - a["heart_y"]
    cos, sin = np.cos(a["heart_tilt"]), np.sin(a["heart_tilt"])
    along, aside = (cos * dx + sin * dy) / a["heart_a"], (cos * dy - sin * dx) / a["heart_b"]
    ventricles = _step(1 - np.sqrt(along * along + aside * aside + 1e-6), 0.13)
    atrium = _step(1 - np.sqrt(np.square((x + 0.10) / 0.20) + np.square((dy - 0.02) / 0.28) + 1e-6), 0.15)
    stem = _step(1 - np.sqrt(np.square((x - 0.09) / 0.17) + np.square((dy + 0.27) / 0.26) + 1e-6), 0.22)
    arch = _step(a["aorta"] - np.hypot(x - a["mediastinum"] + 0.02, y + 0.26), 0.04)
    return np.maximum(np.maximum(ventricles, 0.9 * atrium), np.maximum(0.85 * stem, 0.9 * arch))


def _middle(a: Parameters, x: Array, y: Array) -> Array:
    """Mediastinum, the airway in it, and the spine behind it."""
    middle = _step(a["mediastinum"] * 0.9 - np.abs(x), 0.05)
    airway = _bump(x, 0.075) * _step(-0.16 - y, 0.10)
    column = x - a["spine_lean"] * (1 - y * y)
    discs = 0.5 + 0.5 * np.cos((2 * np.pi / 0.17) * y + 3 * a["rib_phase"])
    spine = _step(a["spine"] - np.abs(column), 0.035) * (0.10 + 0.04 * discs)
    return 0.10 * middle - 0.17 * airway + spine


def _vessels(a: Parameters, x: Array, y: Array, texture: Array) -> Array:
    """Hila, and the vessels that fan out from them and thin."""
    dx, dy = np.abs(x) - 0.23, y - 0.02 - 0.05 * np.sign(x)
    reach = np.hypot(dx, dy)
    fan = np.arctan2(dy, dx + 1e-6)
    rays = np.square(np.cos(3.5 * fan + 1.2 * texture + a["patch"]))
    return a["hilum"] * _bump(reach, 0.24) * (0.8 + 0.4 * texture) + 2.2 * a["vessels"] * rays * _bump(
        reach, 0.62
    )


def _bones(a: Parameters, x: Array, y: Array, outer: Array) -> Array:
    """Ribs, behind and in front, and clavicles."""
    across = np.abs(x)
    cage = _step(outer + 0.03 - across, 0.05) * _step(0.62 - y, 0.25) * _step(y - a["top"] - 0.02, 0.06)
    arc = across / a["width"]
    rear = (y - a["rib_fall"] * (arc * arc - 0.7 * arc)) / a["rib_spacing"] + a["rib_phase"]
    front = (y + 0.42 * (arc - 0.2)) / (1.12 * a["rib_spacing"]) + 1.7 * a["rib_phase"]
    edge = 1 + 0.55 * _step(arc - 0.72, 0.20)
    rear_ribs = _bump(rear - np.rint(rear), 0.34) * edge
    front_ribs = _bump(front - np.rint(front), 0.28) * _step(arc - 0.35, 0.2)
    ribs = a["rib_strength"] * cage * (rear_ribs + 0.55 * front_ribs)
    bent = a["clavicle_y"] - a["clavicle_fall"] * (across - 0.12) + 0.20 * np.square(across - 0.42)
    clavicle = _bump(y - bent, 0.062) * _step(across - 0.10, 0.04) * _step(0.86 - across, 0.08)
    return ribs + 0.15 * clavicle


def _soft(a: Parameters, x: Array, y: Array, lungs: Array) -> Array:
    """Breast shadows and the gas in the stomach."""
    radius = np.hypot((np.abs(x) - 0.42) / 0.36, (y - 0.34) / 0.34)
    breast = np.maximum(a["breast"], 0) * _step(1 - radius, 0.10)
    gas = np.hypot((x - a["gas_x"]) / 0.20, (y - a["dome_left"] - a["inspiration"] - 0.15) / 0.09)
    return breast - np.maximum(a["stomach"], 0) * 1.5 * _step(1 - gas, 0.25) * (1 - lungs)


def _effusion(a: Parameters, x: Array, y: Array, outer: Array) -> Array:
    """Fluid in one angle, its surface a meniscus that climbs the chest wall; a mask of lost air."""
    base = np.where(a["side"] < 0, a["dome_right"], a["dome_left"]) + a["inspiration"]
    level = base - 0.06 - (0.14 + 0.40 * a["severity"]) * (1 + 0.25 * a["stage"])
    climb = np.clip(np.abs(x) / np.maximum(outer, 0.2), 0, 1)
    fluid = _step(y - (level + 0.18 - 0.36 * climb * climb), 0.06) * (x * a["side"] > 0)
    return (a["finding"] == 1) * (0.88 + 0.10 * a["severity"]) * fluid


def _pneumonia(a: Parameters, x: Array, y: Array) -> Array:
    """A consolidated patch in one lobe, soft at its edge; a mask of lost air."""
    centre_x = a["side"] * (0.34 + 0.14 * a["lobe_x"])
    centre_y = -0.34 + 0.46 * a["lobe_y"]
    size = (0.27 + 0.13 * a["severity"]) * (1 + 0.18 * a["stage"])
    cloud = _step(1 - np.hypot(x - centre_x, 1.15 * (y - centre_y)) / size, 0.42)
    return (a["finding"] == 2) * np.clip((0.74 + 0.20 * a["severity"]) * cloud, 0, 0.95)


def _spread(fields: Array, size_px: int) -> Array:
    """Join the cells of a field smoothly, ``(B, cells, cells)`` to ``(B, S, S)``, deviation about 0.3."""
    place = (np.arange(size_px) + 0.5) / size_px * (_CELLS - 1)
    weight = np.exp(-0.5 * np.square((place[:, None] - np.arange(_CELLS)[None]) / 0.55)).astype(np.float32)
    weight *= np.sqrt(0.3 / np.square(weight).sum(axis=1, keepdims=True))
    return np.matmul(np.matmul(weight, fields), weight.T)
