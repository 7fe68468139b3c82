/* The slices of the page in HU, unpacked as they are asked for; hu_packing.py packs them. */

const LOWEST_HU = -1024;

function bytesOf(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) bytes[at] = text.charCodeAt(at);
  return bytes;
}

async function inflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/* Two byte planes -> Int16Array of height * width HU. A row and a column of zeros stand before the first. */
function unpredicted(planes, height, width, levels) {
  const pixels = height * width;
  if (planes.length !== 2 * pixels) throw new Error(`${planes.length} bytes for ${pixels} pixels`);
  const hu = new Int16Array(pixels);
  const stride = width + 1;
  const numbers = new Int16Array(stride * (height + 1));
  for (let row = 0, pixel = 0; row < height; row++) {
    let at = stride * (row + 1) + 1;
    for (let column = 0; column < width; column++, at++, pixel++) {
      const left = numbers[at - 1], above = numbers[at - stride];
      const least = left < above ? left : above, most = left < above ? above : left;
      const plane = left + above - numbers[at - stride - 1];
      const guess = plane < least ? least : plane > most ? most : plane;
      const signed = planes[pixel] | (planes[pixels + pixel] << 8);
      const number = guess + ((signed >>> 1) ^ -(signed & 1));
      numbers[at] = number;
      hu[pixel] = levels[number];
    }
  }
  return hu;
}

class Volume {
  #texts;
  #slices = [];
  #asked = new Set();
  #data;

  constructor(data, texts) {
    this.#data = data;
    this.#texts = texts;
    this.count = texts.length;
  }

  /* HU of a slice, or undefined as long as it is packed. */
  get(place) {
    return this.#slices[place];
  }

  async unpack(place) {
    this.#asked.add(place);
    const { height, width, levels } = this.#data;
    const planes = await inflated(bytesOf(this.#texts[place].textContent));
    this.#slices[place] = unpredicted(planes, height, width, levels);
    this.#texts[place].remove(); // the text is as large as what it became
  }

  /* Where to go on: the slice nearest to `place` that is not asked for yet; undefined when none is left. */
  nearestPacked(place) {
    for (let away = 0; away < this.count; away++) {
      for (const candidate of [place + away, place - away]) {
        if (candidate >= 0 && candidate < this.count && !this.#asked.has(candidate)) return candidate;
      }
    }
    return undefined;
  }
}
