"""Mitsuba 3 (Jakob et al., BSD licence) renders a scene: colour with shadows, and the exact depth of pixel centres.

Its scalar variant is used, which needs no LLVM and no GPU. Light comes from the scene's lights alone, one of which each
sample of a pixel asks; the samples are spread so that every light is asked equally often, and nothing is left to noise.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np

from depthsr.data.dataset import Frame
from depthsr.data.render.camera import Camera
from depthsr.data.render.picture import photograph
from depthsr.data.render.scene import Lamp, Material, Scene, Sun, Surface
from depthsr.data.render.shapes import texture_coordinates
from depthsr.types import UserError

VARIANT = "scalar_rgb"

#: At least so many samples a pixel. 8 take 2.3 s of one core (AMD EPYC, Zen 3) for 640×480 pixels, 4 take 1.4 s.
LEAST_SAMPLES = 8

#: Samples are drawn block by block, so the picture is the same on any number of threads only if the blocks are.
BLOCK_PX = 32

#: Nothing nearer is seen.
NEAR_M = 0.01


class Renderer:
    """Renders one scene from any camera. threads: None for all cores; the picture does not depend on it.

    Raises UserError when Mitsuba is not installed. Selects Mitsuba's variant scalar_rgb for the whole process.
    """

    def __init__(self, scene: Scene, threads: int | None = None) -> None:
        self._mitsuba = mi = _import_mitsuba(threads)
        self._sky = scene.sky
        self._samples = _samples(len(scene.lights))
        materials = {id(surface.material): surface.material for surface in scene.surfaces}
        bsdfs = {key: mi.load_dict(_bsdf(mi, material)) for key, material in materials.items()}
        parts: dict[str, Any] = {"type": "scene"}
        for i, surface in enumerate(scene.surfaces):
            parts[f"surface{i}"] = _mesh(mi, surface, bsdfs[id(surface.material)])
        for i, light in enumerate(scene.lights):
            parts[f"light{i}"] = _light(light)
        self._scene = mi.load_dict(parts)
        # One shadow ray a sample. Only one of the two ways to sample light can hit lights without extent.
        self._colour = mi.load_dict({"type": "direct", "emitter_samples": 1, "bsdf_samples": 0, "block_size": BLOCK_PX})
        self._distance = mi.load_dict({"type": "depth", "block_size": BLOCK_PX})

    def frame(self, camera: Camera, seed: int = 0) -> Frame:
        """RGB (sRGB, exposed by itself) and depth (float32 metres along the optical axis; inf = sky)."""
        depth_m = self.depth(camera)
        surfaces, coverage = self.radiance(camera, seed)
        return Frame(photograph(surfaces, coverage, depth_m, camera.rays(), self._sky), depth_m)

    def radiance(self, camera: Camera, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """H×W×3 linear RGB that surfaces send (0 where the sky is), and H×W: the share of the pixel they cover."""
        sampler = {"type": "multijitter", "sample_count": self._samples}
        rgba = self._render(camera, self._colour, sampler, seed)
        return rgba[..., :3], rgba[..., 3]

    def depth(self, camera: Camera) -> np.ndarray:
        """H×W float32 metres along the optical axis through each pixel's centre; inf = sky."""
        centre = {"type": "stratified", "sample_count": 1, "jitter": False}
        length_m = self._render(camera, self._distance, centre, 0)[..., 0]
        # Mitsuba's depth is a length along the ray, from the near plane on, and 0 where the ray meets nothing.
        depth_m = NEAR_M + length_m / np.linalg.norm(camera.rays(), axis=2)
        return np.where(length_m > 0, depth_m, np.inf).astype(np.float32)

    def _render(self, camera: Camera, integrator: Any, sampler: dict, seed: int) -> np.ndarray:
        mi = self._mitsuba
        up = -camera.axes[1]
        sensor = mi.load_dict(
            {
                "type": "perspective",
                "fov": camera.field_of_view_deg,
                "fov_axis": "x",
                "near_clip": NEAR_M,
                "far_clip": 1e5,
                "to_world": mi.ScalarTransform4f().look_at(
                    list(camera.position_m), list(camera.position_m + camera.axes[2]), list(up)
                ),
                "sampler": sampler,
                # The box filter weighs all samples of a pixel alike, which the equal share of the lights relies on.
                "film": {
                    "type": "hdrfilm",
                    "width": camera.width,
                    "height": camera.height,
                    "pixel_format": "rgba",
                    "component_format": "float32",
                    "rfilter": {"type": "box"},
                },
            }
        )
        return np.array(mi.render(self._scene, sensor=sensor, integrator=integrator, seed=seed))


def _samples(lights: int) -> int:
    """The least number of samples a pixel that gives every light its equal share.

    The sampler lays n samples on a grid of isqrt(n) rows, and would add some where the last row is not full.
    """
    count = lights * math.ceil(LEAST_SAMPLES / lights)
    while count % math.isqrt(count):
        count += lights
    return count


def _import_mitsuba(threads: int | None) -> ModuleType:
    try:
        import drjit
        import mitsuba
    except ImportError as error:
        raise UserError(
            f"scenes are rendered by Mitsuba, which cannot be imported ({error}); pip install '.[render]'."
        ) from error
    mitsuba.set_variant(VARIANT)
    if threads is not None:
        drjit.set_thread_count(threads)
    return mitsuba


def _bsdf(mi: ModuleType, material: Material) -> dict:
    texture = {"type": "bitmap", "data": mi.TensorXf(np.ascontiguousarray(material.texture_HW3)), "raw": True}
    if material.roughness is None:
        surface: dict[str, Any] = {"type": "diffuse", "reflectance": texture}
    else:
        surface = {"type": "roughplastic", "diffuse_reflectance": texture, "alpha": material.roughness}
    return {"type": "twosided", "bsdf": surface}


def _mesh(mi: ModuleType, surface: Surface, bsdf: Any) -> Any:
    count = len(surface.quads_m)
    properties = mi.Properties()
    properties["bsdf"] = bsdf
    mesh = mi.Mesh("surface", 4 * count, 2 * count, has_vertex_texcoords=True, props=properties)
    parameters = mi.traverse(mesh)
    faces = np.arange(count)[:, None, None] * 4 + np.array([[0, 1, 2], [0, 2, 3]])
    coordinates = texture_coordinates(surface.quads_m) / surface.material.size_m
    parameters["vertex_positions"] = surface.quads_m.astype(np.float32).ravel()
    parameters["vertex_texcoords"] = coordinates.astype(np.float32).ravel()
    parameters["faces"] = faces.astype(np.uint32).ravel()
    parameters.update()
    return mesh


def _light(light: Sun | Lamp) -> dict:
    if isinstance(light, Sun):
        return {
            "type": "directional",
            "direction": light.direction.tolist(),
            "irradiance": {"type": "rgb", "value": light.irradiance.tolist()},
        }
    return {
        "type": "point",
        "position": light.position_m.tolist(),
        "intensity": {"type": "rgb", "value": light.intensity.tolist()},
    }
