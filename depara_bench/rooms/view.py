"""A chunk of scenes as the camera sees it: every quantity that labels are made of, on demand."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from depara_bench.rooms.kinds import BALL, CONE
from depara_bench.rooms.layout import Scenes
from depara_bench.rooms.primitives import cone_curvature
from depara_bench.rooms.raycast import Hits, cast, pixel_rays
from depara_bench.rooms.shading import clean_images, sensed, shade
from depara_bench.rooms.solids import FACES, ROOM

_WALL_FLOOR_CEILING = np.array([0, 0, 0, 0, 1, 2])


class View:
    """A chunk of scenes and everything that can be read off them, computed on demand."""

    def __init__(self, scenes: Scenes, size: int, device: torch.device | None = None) -> None:
        self.scenes, self.size = scenes, size
        self.device = device or torch.device("cpu")

    @cached_property
    def hits(self) -> Hits:
        """What each pixel sees."""
        return cast(self.scenes, self.size, self.device)

    @cached_property
    def _shade(self) -> Tensor:
        return shade(self.scenes, self.hits)

    @cached_property
    def shading(self) -> Tensor:
        """Light on each surface (N, 1, S, S), without its colour."""
        return self.hits.image(self._shade)[:, None]

    @cached_property
    def clean(self) -> Tensor:
        """Images before sensor noise (N, 3, S, S) in [0, 1]."""
        return clean_images(self.scenes, self.hits, self._shade)

    @cached_property
    def sensed(self) -> Tensor:
        """Images (N, 3, S, S) uint8."""
        return sensed(self.scenes, self.clean)

    @cached_property
    def luminance(self) -> Tensor:
        """Of the clean image (N, 1, S, S)."""
        r, g, b = self.clean[:, 0:1], self.clean[:, 1:2], self.clean[:, 2:3]
        return 0.299 * r + 0.587 * g + 0.114 * b

    @cached_property
    def distance(self) -> Tensor:
        """From the camera, metres (N, 1, S, S)."""
        return self.hits.image(self.hits.distance)[:, None]

    @cached_property
    def depth(self) -> Tensor:
        """Along the optical axis, metres (N, 1, S, S)."""
        forward = torch.from_numpy(pixel_rays(self.size)[2].astype(np.float32)).to(self.device)
        return self.hits.image(self.hits.distance * forward)[:, None]

    @cached_property
    def normals(self) -> Tensor:
        """Unit normals in the frame of the camera: right, up, towards it (N, 3, S, S)."""
        world = torch.stack(list(self.hits.normal), dim=1)
        seen = self.hits.basis @ world
        seen[:, 2] *= -1
        return self.hits.image(seen)

    @cached_property
    def curvature(self) -> Tensor:
        """Principal curvatures, the larger first, 1/m, convex is positive (N, 2, S, S)."""
        hits = self.hits
        x, y, z = hits.point
        sizes = (hits.extent[0], hits.extent[1], hits.extent[2])
        ball = (hits.shape == BALL).float() / hits.extent[0]
        cone = (hits.shape == CONE).float() * cone_curvature((x, y, z), sizes)
        return hits.image(torch.stack([ball + cone, ball], dim=1))

    @cached_property
    def surface(self) -> Tensor:
        """Number of the surface over the batch (N, S, S) int64, see raycast.Hits."""
        return self.hits.image(self.hits.surface)

    @cached_property
    def _lookup(self) -> tuple[Tensor, Tensor]:
        """Per surface: segment of its image and semantic class."""
        n, solids = len(self.scenes), self.hits.solids
        kind = self.scenes.kind[solids.image, solids.slot]
        segment = np.concatenate([np.tile(np.arange(FACES), n), FACES + solids.slot])
        classes = np.concatenate([np.tile(_WALL_FLOOR_CEILING, n), 3 + kind])
        return torch.from_numpy(segment).to(self.device), torch.from_numpy(classes).to(self.device)

    @cached_property
    def segment(self) -> Tensor:
        """0-5 faces of the room, then 6 + object (N, S, S) int64."""
        return self._lookup[0][self.surface]

    @cached_property
    def semantic(self) -> Tensor:
        """Class of each pixel, kinds.SEMANTIC_NAMES (N, S, S) int64."""
        return self._lookup[1][self.surface]

    @cached_property
    def in_room(self) -> Tensor:
        """Does the pixel see the room itself (N, S, S) bool?"""
        return self.hits.image(self.hits.shape == ROOM)
