"""The command draw: pictures of a diffusion model, with and without a domain."""

import argparse
import json
from pathlib import Path

from .arguments import add_device, add_domain, add_on_model, add_output, at_least, positive
from .load import diffusion_model, domain_copy, named_domain
from .planning import domain_of
from .signals import stop_noted, stopping
from .terminal import MINIATURE, UsageError, counting_bar, device_named, make_folder, write_png

NOTES = "stylegan-fusion"  # the text entry of a picture that says how it was drawn
TEXT_SCALE, OF_MINIATURE = 7.5, 2.0  # of the prompt, where no other is asked for


def add(commands) -> None:
    parser = commands.add_parser(
        "draw",
        help="draw pictures with a diffusion model, with or without a domain",
        description="Draws pictures with a diffusion model: 00000.png, 00001.png and so on. With --domain they are of the "
        "domain that learn-domain has learned; without a prompt they show anything, or anything of the domain.",
    )
    add_output(parser, "folder for the pictures")
    add_on_model(parser)
    parser.add_argument("--prompt", default="", help="what the pictures shall show (default: anything)")
    parser.add_argument("--negative-prompt", default="", help="what they shall stay away from (default: nothing)")
    parser.add_argument(
        "--text-scale",
        type=float,
        metavar="S",
        help=f"how strongly the prompt pulls (default: {TEXT_SCALE:g}; {MINIATURE} {OF_MINIATURE:g})",
    )
    add_domain(parser)
    parser.add_argument("--count", type=positive, default=8, metavar="N", help="number of pictures (default: 8)")
    parser.add_argument(
        "--seed", type=at_least(0), default=0, help="the same seed gives the same pictures (default: 0)"
    )
    parser.add_argument(
        "--steps", type=positive, default=25, metavar="N", help="steps of DPM-Solver++ for each (default: 25)"
    )
    parser.add_argument("--image-size", type=positive, metavar="PIXELS", help="side of the pictures (the model's own)")
    parser.add_argument(
        "--batch-size", type=positive, default=1, metavar="N", help="pictures that are drawn together (default: 1)"
    )
    add_device(parser)
    parser.add_argument("--half", action="store_true", help="evaluate the diffusion model in half precision (GPU)")
    parser.set_defaults(command=draw)


def draw(options: argparse.Namespace) -> int:
    from ..domain.on_diffusers import DomainPrior
    from ..metrics.figures import to_pictures
    from ..sds.priors.drawing import draw_pictures

    if options.text_scale is not None and not options.prompt:
        raise UsageError("--text-scale is for a prompt; add --prompt TEXT.")
    usual = OF_MINIATURE if options.model == MINIATURE else TEXT_SCALE
    scale = (usual if options.text_scale is None else options.text_scale) if options.prompt else 0.0
    files = [options.output / f"{number:05}.png" for number in range(options.count)]
    taken = next((file for file in files if file.exists()), None)
    if taken:
        raise UsageError(f"{taken} exists; give another folder as --output, so that nothing is lost.")
    asked = argparse.Namespace(**{"domain": "", "domain_scale": 0.0, "domain_blend": 1.0, **domain_of(options)})
    domain = named_domain(asked)
    model = diffusion_model(options, device_named(options.device), decoder=True)
    given = model, options.prompt, options.negative_prompt, scale
    prior = DomainPrior(*given, domain_copy(asked, domain, model), asked.domain_scale, options.image_size)
    about = {
        "model": Path(options.model).name,
        "prompt": options.prompt,
        "negative_prompt": options.negative_prompt,
        "scales": dict(prior.scales),
        "steps": options.steps,
        **vars(asked),
    }
    make_folder(options.output)
    done = 0
    try:
        with stop_noted() as request, stopping(request, counting_bar(options.count, "picture")) as report:
            drawn = draw_pictures(prior, 0, options.count, options.steps, options.seed, options.batch_size)
            for file, image in zip(files, drawn, strict=True):
                notes = {NOTES: json.dumps({**about, "seed": options.seed + done})}
                write_png(to_pictures(image)[0], file, notes)
                done += 1
                report(1)
    except KeyboardInterrupt:
        print(f"Stopped. {done} of {options.count} pictures are in {options.output}.")
        return request.status
    print(f"Wrote {options.count} pictures to {options.output.resolve()}")
    return 0
