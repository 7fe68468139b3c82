"""Pictures of class activation maps: a slice in gray, a map laid over it, the line around a mask."""

import cv2
import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.colors import ListedColormap, to_hex

PIXELS = 320  # side of a picture
HEAT = ListedColormap(matplotlib.colormaps["turbo"](np.linspace(0.1, 0.88, 256)))  # its ends are dark
OPACITY = 0.75  # where a map is highest; nothing covers the slice where it is 0
DIMMED = 0.8  # of the gray under a map, or bone would outshine it
OUTLINE = (1.0, 0.2, 0.9)  # a colour HEAT has not


def normalise(maps: np.ndarray, axes: tuple[int, ...] = (-2, -1)) -> tuple[np.ndarray, np.ndarray]:
    """(..., h, w) -> every map divided by its maximum, and (...) True where a map is zero and stays so.

    axes: those of one map; of videos (-3, -2, -1), so that frames compare.
    """
    peak = maps.max(axis=axes, keepdims=True)
    return maps / np.where(peak > 0, peak, 1), (peak <= 0).squeeze(axes)


def gray_picture(hu: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """(h, w) HU -> (PIXELS, PIXELS, 3) float32 in [0, 1] through a window (center, width)."""
    center, width = window
    gray = _sized(np.clip((hu.astype(np.float32) - center) / width + 0.5, 0, 1))
    return np.repeat(gray[:, :, None], 3, axis=2)


def with_map(picture: np.ndarray, cam: np.ndarray) -> np.ndarray:
    """The picture under a normalised map (h, w): the higher the map, the more it covers."""
    return _covered(picture, _sized(cam.astype(np.float32))).astype(np.float32)


def with_outline(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The picture with a line around a mask (h, w)."""
    inside = cv2.resize(mask.astype(np.uint8), picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    lines, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(picture.copy(), lines, -1, OUTLINE, thickness=1)


def picture_uri(picture: np.ndarray) -> str:
    """A data URI of (h, w, 3) in [0, 1]."""
    from matplotlib.figure import Figure  # which the page of a study has no use for

    from ..run.data_pictures import PIXELS_PER_INCH, data_uri

    height, width = picture.shape[:2]
    figure = Figure(figsize=(width / PIXELS_PER_INCH, height / PIXELS_PER_INCH))
    figure.figimage(picture)
    return data_uri(figure)


def heat_gradient(stops: int = 9) -> Markup:
    """The legend, a CSS gradient: colours from 0 to the maximum of a map, over middle gray."""
    values = np.linspace(0, 1, stops)
    colours = _covered(np.full((stops, 3), 0.5), values)
    return Markup("linear-gradient(to right, {})").format(", ".join(map(to_hex, colours)))


def _covered(picture: np.ndarray, cam: np.ndarray) -> np.ndarray:
    """(..., 3) under the colours of (...)."""
    opacity = OPACITY * cam[..., None]
    return (1 - opacity) * DIMMED * picture + opacity * HEAT(cam)[..., :3]


def _sized(image: np.ndarray) -> np.ndarray:
    """(h, w) -> (PIXELS, PIXELS)"""
    way = cv2.INTER_AREA if image.shape[0] > PIXELS else cv2.INTER_LINEAR
    return cv2.resize(image, (PIXELS, PIXELS), interpolation=way)
