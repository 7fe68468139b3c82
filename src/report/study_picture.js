/* Pictures: a slice through a window, a map of the network's evidence over it, thumbnails. */

const HU_LEVELS = 4096;
const OPAQUE = 0xff000000;

/* Pixel of every HU from LOWEST_HU on: black at center - width / 2, white at center + width / 2. */
function grayTable({ center, width }) {
  const table = new Uint32Array(HU_LEVELS);
  for (let at = 0; at < HU_LEVELS; at++) {
    const share = Math.min(1, Math.max(0, (at + LOWEST_HU - center) / width + 0.5));
    table[at] = OPAQUE | (Math.floor(255 * share + 0.5) * 0x010101);
  }
  return table;
}

class GrayPicture {
  #context;
  #image;

  constructor(canvas) {
    this.canvas = canvas;
    this.#context = canvas.getContext("2d", { alpha: false });
    this.#image = this.#context.createImageData(canvas.width, canvas.height);
  }

  /* Whether there is anything to see: pixels that differ. */
  draw(hu, window) {
    const table = grayTable(window);
    const pixels = new Uint32Array(this.#image.data.buffer);
    let differing = 0;
    for (let at = 0; at < hu.length; at++) {
      pixels[at] = table[hu[at] - LOWEST_HU];
      differing |= pixels[at] ^ pixels[0];
    }
    this.#context.putImageData(this.#image, 0, 0);
    return differing !== 0;
  }
}

/* A small canvas that the page stretches over the slice: the higher the map, the more it covers. */
class MapPicture {
  #context;
  #heat;

  constructor(canvas, heat) {
    this.canvas = canvas;
    this.#context = canvas.getContext("2d");
    this.#heat = heat;
  }

  draw(values) {
    const image = this.#context.createImageData(this.canvas.width, this.canvas.height);
    values.forEach((value, at) => {
      image.data.set(this.#heat.subarray(3 * value, 3 * value + 3), 4 * at);
      image.data[4 * at + 3] = value;
    });
    this.#context.putImageData(image, 0, 0);
  }
}

/* The picture made small, whole, on black; aspect: width by height of the picture as it is shown. */
function drawThumbnail(canvas, picture, aspect) {
  const context = canvas.getContext("2d", { alpha: false });
  const width = canvas.width * Math.min(1, aspect), height = canvas.height * Math.min(1, 1 / aspect);
  context.imageSmoothingQuality = "medium";
  context.drawImage(picture, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
}
