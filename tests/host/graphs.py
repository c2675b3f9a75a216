"""Graphs in API form that several tests submit."""

MINIATURE = {"class_type": "StyleGANFusionLoadMiniature", "inputs": {}}
"""Outputs: 0 model, 1 clip, 2 vae, 3 generator, 4 clip_vision."""


def training(steps=3, **changes) -> dict:
    """Adapt the miniature generator and save what comes out.

    Changes: "node.input" = value, e.g. **{"guidance.t_min": 0.5}."""
    graph = {
        "miniature": MINIATURE,
        "positive": {
            "class_type": "CLIPTextEncode",
            "inputs": {"clip": ["miniature", 1], "text": "a portrait of a fox"},
        },
        "negative": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["miniature", 1], "text": ""}},
        "guidance": {
            "class_type": "StyleGANFusionSDSGuidance",
            "inputs": {
                "model": ["miniature", 0],
                "vae": ["miniature", 2],
                "positive": ["positive", 0],
                "negative": ["negative", 0],
                "guidance_scale": 7.5,
                "t_min": 0.02,
                "t_max": 0.8,
                "image_size": 0,
            },
        },
        "regularizer": {"class_type": "StyleGANFusionDirectionalRegularizer", "inputs": {"weight": 0.3}},
        "layers": {
            "class_type": "StyleGANFusionLayerSelect",
            "inputs": {"mode": "top k", "k": 3, "selection_steps": 1, "layers": ""},
        },
        "train": {
            "class_type": "StyleGANFusionTrainGenerator",
            "inputs": {
                "generator": ["miniature", 3],
                "guidance": ["guidance", 0],
                "regularizer": ["regularizer", 0],
                "layers": ["layers", 0],
                "steps": steps,
                "batch_size": 2,
                "learning_rate": 0.001,
                "seed": 1,
                "samples": 2,
                "also_train": "",
            },
        },
        "save": {
            "class_type": "StyleGANFusionSaveGenerator",
            "inputs": {"generator": ["train", 0], "filename_prefix": "fox"},
        },
        "before": {"class_type": "SaveImage", "inputs": {"images": ["train", 1], "filename_prefix": "before"}},
        "after": {"class_type": "SaveImage", "inputs": {"images": ["train", 2], "filename_prefix": "after"}},
        "plot": {"class_type": "PreviewImage", "inputs": {"images": ["train", 3]}},
    }
    for name, value in changes.items():
        node, key = name.split(".")
        graph[node]["inputs"][key] = value
    return graph


def learning(**changes) -> dict:
    """A graph that learns a domain from the folder ink."""
    graph = {
        "miniature": MINIATURE,
        "train": {
            "class_type": "StyleGANFusionTrainDomain",
            "inputs": {
                "model": ["miniature", 0],
                "clip": ["miniature", 1],
                "vae": ["miniature", 2],
                "folder": "ink",
                "name": "ink",
                "steps": 3,
                "batch_size": 2,
                "learning_rate": 0.0004,
                "rank": 0,
                "seed": 0,
                "mirror": True,
                "save_every": 1,
                "crop": "square",
                "accumulation": 1,
                "cooldown": 0.0,
                "average": 0.0,
                "train_vectors": False,
                "precision": "float32",
                "memory": "auto",
                "image_size": 0,
            },
        },
        "samples": {"class_type": "SaveImage", "inputs": {"images": ["train", 1], "filename_prefix": "samples"}},
        "plot": {"class_type": "SaveImage", "inputs": {"images": ["train", 2], "filename_prefix": "plot"}},
    }
    graph["train"]["inputs"].update(changes)
    return graph


def text_to_image(prompt: str, seed=0, steps=20, batch_size=1) -> dict:
    """ComfyUI's own text-to-image graph on the miniature."""
    return {
        "miniature": MINIATURE,
        "positive": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["miniature", 1], "text": prompt}},
        "negative": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["miniature", 1], "text": ""}},
        "empty": {"class_type": "EmptyLatentImage", "inputs": {"width": 128, "height": 128, "batch_size": batch_size}},
        "sampler": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["miniature", 0],
                "positive": ["positive", 0],
                "negative": ["negative", 0],
                "latent_image": ["empty", 0],
                "seed": seed,
                "steps": steps,
                "cfg": 3.0,
                "sampler_name": "euler",
                "scheduler": "normal",
                "denoise": 1.0,
            },
        },
        "decode": {"class_type": "VAEDecode", "inputs": {"samples": ["sampler", 0], "vae": ["miniature", 2]}},
        "save": {"class_type": "SaveImage", "inputs": {"images": ["decode", 0], "filename_prefix": "portrait"}},
    }
