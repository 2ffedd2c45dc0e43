"""The names of everything that can be drawn, and one phrase for each.

Captions, evaluation prompts and packs all speak through ``ATTRIBUTE_PHRASES``, so that the text encoder meets one
vocabulary. Importing this module imports nothing else.
"""

HELD_OUT_SEED = 1_000_000
"""Seeds from here on are kept for evaluation."""

CLASS_NOUNS = ("woman", "man")

# How the person is pictured.
STYLES = (
    "photo",
    "pencil sketch",
    "black and white",
    "pop art",
    "pixel art",
    "oil painting",
    "watercolour",
    "comic",
    "sepia",
)
COLOURLESS_STYLES = frozenset({"pencil sketch", "black and white", "sepia", "pop art"})
"""Styles in which neither hair nor clothes keep their colour."""
EXPRESSIONS = ("neutral", "smiling", "laughing", "sad", "surprised", "angry", "winking")
GAZES = ("straight", "left", "right")
"""Where the eyes look; left and right are those of the picture."""
LIGHTS = ("neutral", "warm", "cold", "dim", "left", "right")
CLOTHES = (
    "t-shirt",
    "shirt",
    "suit",
    "hoodie",
    "dress",
    "striped sweater",
    "lab coat",
    "armour",
    "turtleneck",
    "overalls",
)
CLOTHING_COLOURS = (
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "pink",
    "white",
    "black",
    "grey",
    "brown",
)
ACCESSORIES = (
    "none",
    "glasses",
    "sunglasses",
    "hat",
    "cap",
    "crown",
    "headphones",
    "scarf",
    "earrings",
    "flower",
    "eye patch",
    "santa hat",
    "party hat",
    "headband",
)
HATS = frozenset({"hat", "cap", "santa hat"})
"""Accessories that cover the top of the head."""

# Who is pictured: the look, which a twin shares.
SKIN_NAMES = ("pale", "light", "tan", "brown", "dark")
AGES = ("adult", "older")
HAIR_STYLES = (
    "bald",
    "buzz cut",
    "short",
    "side-parted",
    "spiky",
    "mohawk",
    "afro",
    "curly",
    "bob",
    "long straight",
    "long wavy",
    "ponytail",
    "bun",
    "pigtails",
)
HAIR_COLOURS = ("black", "brown", "blonde", "red", "grey", "white", "blue", "pink", "green", "purple")
FRINGES = ("none", "straight", "swept")
BEARDS = ("none", "stubble", "moustache", "goatee", "full beard")

# Who is pictured: the face.
FACE_SHAPES = ("oval", "round", "square", "heart", "long", "pear")
EYES = ("round", "almond", "cat", "drooping", "sleepy", "doe")
EYE_COLOURS = ("brown", "blue", "green", "grey")
BROWS = ("thin", "straight", "bushy", "arched", "angled", "short")
NOSES = ("button", "long", "wide", "pointed", "bulbous", "snub")
MOUTHS = ("thin", "full", "heart", "wide", "small", "pouting")
EARS = ("small", "large", "pointed")
MARKS = ("none", "mole left", "mole right", "freckles", "scar", "dimples", "blush")
GLASSES = ("none", "round", "square", "half-rim")
"""Glasses that belong to the person; the accessory "glasses" is another, red pair."""

_BACKGROUND_PHRASES = {
    "plain white": "on a plain white background",
    "plain grey": "on a plain grey background",
    "plain blue": "on a plain blue background",
    "plain pink": "on a plain pink background",
    "plain yellow": "on a plain yellow background",
    "studio": "in a studio",
    "beach": "at the beach",
    "forest": "in a forest",
    "city": "in a city",
    "snow": "in the snow",
    "mountains": "in the mountains",
    "night sky": "under a night sky",
    "space": "in space",
    "sunset": "at sunset",
    "office": "in an office",
    "library": "in a library",
    "garden": "in a garden",
    "brick wall": "in front of a brick wall",
    "desert": "in the desert",
    "underwater": "underwater",
}
BACKGROUNDS = tuple(_BACKGROUND_PHRASES)

# `{colour}` stands for "red " or for nothing.
ATTRIBUTE_PHRASES: dict[str, dict[str, str]] = {
    "background": _BACKGROUND_PHRASES,
    "accessory": {
        "none": "",
        "glasses": "glasses",
        "sunglasses": "sunglasses",
        "hat": "a hat",
        "cap": "a cap",
        "crown": "a crown",
        "headphones": "headphones",
        "scarf": "a scarf",
        "earrings": "earrings",
        "flower": "a flower",
        "eye patch": "an eye patch",
        "santa hat": "a santa hat",
        "party hat": "a party hat",
        "headband": "a headband",
    },
    "clothes": {
        "t-shirt": "a {colour}t-shirt",
        "shirt": "a {colour}shirt",
        "suit": "a {colour}suit",
        "hoodie": "a {colour}hoodie",
        "dress": "a {colour}dress",
        "striped sweater": "a {colour}striped sweater",
        "lab coat": "a {colour}lab coat",
        "armour": "{colour}armour",
        "turtleneck": "a {colour}turtleneck",
        "overalls": "{colour}overalls",
    },
    "hair_style": {
        "bald": "a bald head",
        "buzz cut": "{colour}hair in a buzz cut",
        "short": "short {colour}hair",
        "side-parted": "side-parted {colour}hair",
        "spiky": "spiky {colour}hair",
        "mohawk": "{colour}hair in a mohawk",
        "afro": "{colour}hair in an afro",
        "curly": "curly {colour}hair",
        "bob": "{colour}hair in a bob",
        "long straight": "long straight {colour}hair",
        "long wavy": "long wavy {colour}hair",
        "ponytail": "{colour}hair in a ponytail",
        "bun": "{colour}hair in a bun",
        "pigtails": "{colour}hair in pigtails",
    },
    "hair_colour": {name: f"{name} hair" for name in HAIR_COLOURS},
    "beard": {
        "none": "",
        "stubble": "stubble",
        "moustache": "a moustache",
        "goatee": "a goatee",
        "full beard": "a full beard",
    },
    "eye_colour": {name: f"{name} eyes" for name in EYE_COLOURS},
    "skin": {name: f"{name} skin" for name in SKIN_NAMES},
    "face_shape": {
        "oval": "an oval face",
        "round": "a round face",
        "square": "a square face",
        "heart": "a heart-shaped face",
        "long": "a long face",
        "pear": "a pear-shaped face",
    },
    "eyes": {name: f"{name} eyes" for name in EYES},
    "brows": {name: f"{name} eyebrows" for name in BROWS},
    "nose": {name: f"a {name} nose" for name in NOSES},
    "mouth": {name: f"{name} lips" for name in MOUTHS}
    | {"heart": "heart-shaped lips", "small": "a small mouth", "wide": "a wide mouth"},
    "mark": {
        "none": "",
        "mole left": "a mole",
        "mole right": "a mole",
        "freckles": "freckles",
        "scar": "a scar",
        "dimples": "dimples",
        "blush": "rosy cheeks",
    },
    "glasses": {
        "none": "",
        "round": "round spectacles",
        "square": "square spectacles",
        "half-rim": "half-rim spectacles",
    },
    "expression": {name: "calm" if name == "neutral" else name for name in EXPRESSIONS},
    "gaze": {"straight": "looking at the camera", "left": "looking left", "right": "looking right"},
    "light": {
        "neutral": "",
        "warm": "in warm light",
        "cold": "in cold light",
        "dim": "in dim light",
        "left": "with light from the left",
        "right": "with light from the right",
    },
    "style": {
        "photo": "photo of",
        "pencil sketch": "pencil sketch of",
        "black and white": "black and white photo of",
        "pop art": "pop art portrait of",
        "pixel art": "pixel art portrait of",
        "oil painting": "oil painting of",
        "watercolour": "watercolour of",
        "comic": "comic portrait of",
        "sepia": "sepia photo of",
    },
}
