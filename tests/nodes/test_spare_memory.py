"""What a training leaves behind: looked for now and then, and at once where it matters."""

import gc
import time

from comfyui_stylegan_fusion.nodes.adapt import spare_memory


def test_it_is_not_looked_for_again_soon_unless_at_once(monkeypatch):
    looked, now = [], [100.0]
    monkeypatch.setattr(gc, "collect", lambda: looked.append(now[0]))
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(spare_memory, "_given_back", float("-inf"))
    for now[0], at_once in ((100.0, False), (105.0, False), (106.0, True), (115.0, False), (116.5, False)):
        spare_memory.give_back(at_once)
    assert looked == [100.0, 106.0, 116.5]
