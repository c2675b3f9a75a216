"""What a training on a node runs with, without a host: a page and a node that note what they are told."""

from comfyui_stylegan_fusion.sds import Prior


class Cancel(BaseException):
    """What the node raises when its user has pressed cancel."""


class Page:
    """Notes what panels show. `prompt` is the run of the graph."""

    def __init__(self):
        self.prompt, self.states = "a run", []

    def show(self, event, state):
        assert event == "stylegan_fusion.panel"
        self.states.append(state)

    def prompt_id(self):
        return self.prompt


class Node:
    """Notes what it shows. It is cancelled after `cancel_after` steps; what is in `at_step` happens after that many."""

    def __init__(self):
        self.texts, self.bars, self.previews, self.unloaded, self.steps = [], [], [], 0, 0
        self.cancel_after, self.at_step = None, {}

    def progress_bar(self, steps):
        return self

    def update_absolute(self, value, total=None, preview=None):
        self.bars.append((value, total))
        self.previews += [preview] if preview else []
        self.at_step.get(value, lambda: None)()

    def show_text(self, text):
        self.texts.append(text)

    def raise_if_interrupted(self):
        self.steps += 1
        if self.steps == self.cancel_after:
            raise Cancel

    def is_interruption(self, error):
        return isinstance(error, Cancel)

    def unload_models(self):
        self.unloaded += 1

    def retry_without_models(self, body):
        return body()


class Plain(Prior):
    """Pulls every latent to 0; its encoder is the identity. `faults` are raised by evaluations, counted from 0."""

    image_size = 16

    def __init__(self, device):
        self.device, self.evaluations, self.faults = device, 0, {}

    def schedule(self, t):
        sigma = min(max(t, 0.01), 0.99)
        return (1 - sigma**2) ** 0.5, sigma

    def encode(self, images, recompute=False):
        return images

    def guided(self, z_t, t, scaling=1.0):
        fault = self.faults.get(self.evaluations)
        self.evaluations += 1
        if isinstance(fault, BaseException):
            raise fault
        alpha, sigma = self.schedule(t)
        eps_hat = sigma * z_t / (alpha**2 + sigma**2)  # of latents distributed as N(0, 1)
        return eps_hat if fault is None else eps_hat * fault
