"""Pictures of the prepared data set: a histogram of its values, examples of every label."""

import base64
import io
import logging
from dataclasses import dataclass

import matplotlib.style
from markupsafe import Markup
from matplotlib.figure import Figure

from ...data.prepared import Prepared
from ...errors import UserError
from ..data_overview import SAMPLE, hu_histogram, is_gray, montage_figure
from ..figures import hu_figure

log = logging.getLogger("ich")
PIXELS_PER_INCH = 110
QUALITY = 80  # of WebP: 0.1 MB for 24 slices, and the noise of CT still looks like it


@dataclass(frozen=True)
class DataPictures:
    """`montage`: a data URI; `slices`: how many the histogram counts; `gray`: gray levels instead of HU."""

    histogram: Markup
    montage: str
    slices: int
    gray: bool


def data_pictures(prepared: Prepared) -> DataPictures | None:
    """The pictures of a prepared folder; None, and a warning, where its volumes are gone or unusable."""
    try:
        slices, volumes = prepared.slices, prepared.volumes
        histogram = hu_histogram(volumes, volumes.image_ids)
        with matplotlib.style.context(["default", {"text.parse_math": False}]):  # ids are text
            montage = data_uri(montage_figure(volumes, slices))
    except (UserError, FileNotFoundError) as error:
        log.warning("no pictures of the data in the report: %s", error)
        return None
    gray, counted = is_gray(slices), min(SAMPLE, len(volumes.image_ids))
    return DataPictures(hu_figure(histogram, gray), montage, counted, gray)


def data_uri(figure: Figure) -> str:
    picture = io.BytesIO()
    figure.savefig(picture, dpi=PIXELS_PER_INCH, format="webp", pil_kwargs={"quality": QUALITY})
    return "data:image/webp;base64," + base64.b64encode(picture.getvalue()).decode()
