"""Other networks that people have files of: each is recognized by a name that no other one holds, and named."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from .errors import Unsupported

PLAIN = "choose a file of a plain StyleGAN2 or StyleGAN3 generator"
DIFFUSION = "load it with ComfyUI's own nodes, and choose a generator here"


@dataclass(frozen=True)
class Other:
    """An Other is a kind of network that is no generator of ours: a pattern that one of its names matches."""

    pattern: str  # at a beginning of the name, or behind a dot
    what: str  # what it is, to stand behind "is" or "holds"
    advice: str = PLAIN


OTHERS = (
    # Networks around a StyleGAN2 or 3: their own names, for the rest would load.
    Other(r"mapping\.embed_proj\.", "a StyleGAN-XL generator with classes, whose labels StyleGAN Fusion does not know"),
    Other(r"(iwt|dwt)\.(ll|lh|hl|hh)$", "a SWAGAN generator, which draws wavelets"),
    Other(r"res\.\d+\.(conv|norm|conv2|norm2|weight|bias)", "a DualStyleGAN generator, which mixes in the style of a picture"),
    Other(r"(deformation_blocks|DeformationBlocks)\w*\.", "a StyleCariGAN generator, which exaggerates shapes"),
    Other(r"embedder\.|embedding\.\d+\.", "a BlendGAN generator, whose second mapping takes the style of a picture"),
    Other(r"(label_embed|embed_label|label_weight|label_mapping)\w*(\.|$)", "a conditional fork of a StyleGAN2 program"),
    Other(r"student\.|to_img1\.|m_dw\.", "a MobileStyleGAN generator"),
    Other(r"(transformer|sa\d+|kmeans|att_weight|centroids|grid_pos|global2local)\b", "a GANformer generator, which attends"),
    Other(r"stylegan_decoder\.|conv_body_(first|down|up)\.|condition_scale\.", "a GFPGAN network, which restores faces"),
    Other(r"progression\.\d+\.(conv1|adain1|noise1|conv)\.|adain\d\.style\.|epi\d\.style_mod\.|(g_)?synthesis\.layer\d+\."
          r"apply_noise\.|g_mapping\.|g_synthesis\.", "a StyleGAN1 generator, whose layers differ from StyleGAN2's"),
    # Programs with layers of their own.
    Other(r"(G|GE|S|SE|GAN)\.(blocks|net|initial_block|initial_conv)\b|blocks\.\d+\.to_style1\.|initial_block$",
          "a generator of lucidrains' stylegan2-pytorch, whose layers are its own (other upsampling, noise from linear layers)"),
    Other(r"init\.init\.\d+\.|feat_\d+\.\d+\.|se_\d+\.main\.|to_big\.", "a FastGAN (or projected FastGAN) generator"),
    Other(r"style_mapping\.fc\d+\.", "a StyleGAN3 generator of MMGeneration, whose order of colours the file does not tell",
          "choose the .pkl that it was converted from"),
    # What is no generator.
    Other(r"lora_(up|down|A|B|mid|magnitude)\w*\.|\.lora\.|hada_w1_a|lokr_w\d|alpha$", "a LoRA of a diffusion model", DIFFUSION),
    Other(r"model\.diffusion_model\.|down_blocks\.\d+\.(resnets|attentions)\.|double_blocks\.\d+\.|joint_blocks\.\d+\.|"
          r"transformer_blocks\.\d+\.|input_blocks\.\d+\.\d+\.|single_blocks\.\d+\.|cond_stage_model\.|first_stage_model\.|"
          r"control_model\.", "a diffusion model", DIFFUSION),
    Other(r"(encoder|decoder)\.(conv_in|mid|mid_block|down|up)\.|quant_conv\.", "a VAE of a diffusion model", DIFFUSION),
    Other(r"text_model\.|text_projection|token_embedding\.|encoder\.block\.\d+\.layer\.", "a text encoder", DIFFUSION),
    Other(r"visual\.(conv1|transformer)\.|vision_model\.", "a CLIP model", DIFFUSION),
    Other(r"string_to_param|emb_params$", "a textual inversion", DIFFUSION),
    Other(r"model\.\d+\.(sub\.)?\d*\.?RDB\d|body\.\d+\.rdb\d\.|RRDB_trunk\.", "an upscaler", "load it with Load Upscale Model"),
    Other(r"features\.\d+\.weight$|lin\d\.model\.\d", "a network that compares pictures (VGG or LPIPS)",
          "give it to LPIPS Regularizer, and choose a generator here"),
    Other(r"fc\.weight$|Mixed_\d\w\.|layer4\.\d\.conv\d\.", "a network that recognizes pictures"),
    Other(r"input_layer\.\d\.|styles\.\d+\.convs\.|body\.\d+\.res_layer\.", "an encoder without the generator that it is for",
          "choose the checkpoint that has its decoder, too, or the generator itself"),
    Other(r"(final_linear|final_conv)\.\d|from_rgb|fromrgb\.|b4\.out\.|epilogue\.", "a discriminator without its generator"),
    Other(r"eigvec$", "edit directions of a generator, not the generator"),
    Other(r"(ws|latents?|w_plus|latent_in|dlatents?|w_pivot|projected_w)$", "latents of a generator, not the generator",
          "load it where latents are asked for, and choose their generator here"),
    Other(r"exp_avg(_sq)?$|momentum_buffer$|param_groups$", "the state of an optimizer alone",
          "choose the file that holds the weights"),
)  # fmt: skip
"""In this order: what a network around a generator has comes first."""


def name_other(names: Iterable[str], only_around: bool = False) -> Unsupported | None:
    """Return what to say of a network with a weight of one of these names; None when it is none of OTHERS.

    `only_around` asks for those around a generator of ours alone, which would load, and draw something else."""
    listed = list(names)
    for other in OTHERS[:_AROUND] if only_around else OTHERS:
        pattern = re.compile(rf"(^|\.)({other.pattern})")
        if any(pattern.search(name) for name in listed):
            return Unsupported(f"holds {other.what}", other.advice)
    return None


_AROUND = next(i for i, other in enumerate(OTHERS) if "lucidrains" in other.what)
