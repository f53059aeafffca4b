"""The embedded mini-Taskonomy: furnished rooms drawn by ray casting, 20 tasks with exact labels,
and one small network trained for each of them.

Scenes are functions of (seed, index, style): no file is read, and scene i is the same for every
batch it is drawn in. See docs/rooms.md.
"""

from __future__ import annotations

# Seeds by purpose, so that no two uses ever share a scene.
TRAIN_SEED = 101
HELD_OUT_SEED = 202
PROBE_SEED = 303
TRANSFER_TRAIN_SEED = 404
TRANSFER_TEST_SEED = 505
