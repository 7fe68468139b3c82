/* The page: what is looked at (slice, window, map), what changes it, and what follows when it has changed. */

const PAGE_STEP = 5; // slices, by Page Up and Page Down
const WHEEL_STEP = 50; // pixels of wheel a slice: one notch of a mouse, a short stroke on a pad
const LINE_PIXELS = 33; // where a browser counts wheels in lines
const TOUCH_STEP = 12; // pixels of a finger's way a slice
const DRAG_WIDTHS = 300; // pixels of the mouse's way for a window as wide again
const ADDRESS_DELAY = 300; // ms; browsers allow few changes of the address a second
const FREE = "free";
const FIRST_SLICE = "first slice"; // mark of when there is something to see

const element = (id) => document.getElementById(id);
const all = (selector) => [...document.querySelectorAll(selector)];
const clamped = (value, least, most) => Math.min(most, Math.max(least, value));
const said = (probability) => (probability < 0.0005 ? "< 0.001" : probability.toFixed(3));

const data = JSON.parse(element("data").textContent);
const volume = new Volume(data, all("script.slice"));
const last = volume.count - 1;
const screen = element("image");
const gray = new GrayPicture(element("gray"));
const map = new MapPicture(element("map"), bytesOf(data.heat));
const thumbnails = all("#strip button");
const chart = element("chart");
const namedWindows = all('input[name="window"]').filter((input) => input.value !== FREE);
const labelsNow = all(".now").map((output) => [output, data.labels.indexOf(output.dataset.label)]);
const view = { slice: 0, window: windowOf(namedWindows[0]), label: "", opacity: 0.6 };
let frame = 0;
let addressTimer = 0;

function windowOf(input) {
  return { name: input.value, center: Number(input.dataset.center), width: Number(input.dataset.width) };
}

/* ---- what follows from the view ---- */

function change(patch) {
  const from = view.slice;
  Object.assign(view, patch);
  view.slice = clamped(view.slice, 0, last);
  if (view.slice !== from) writeAddressSoon();
  frame ||= requestAnimationFrame(show);
}

function show() {
  frame = 0;
  showSlice();
  showWindow();
  showMap();
  showPlace();
}

function showSlice() {
  const hu = volume.get(view.slice);
  screen.classList.toggle("waiting", !hu);
  element("empty").hidden = !hu || gray.draw(hu, view.window);
}

function showWindow() {
  const { name, center, width } = view.window;
  element("window").replaceChildren(name, document.createElement("br"), `C ${center}  W ${width}`);
  for (const input of all('input[name="window"]')) input.checked = input.value === name;
  for (const [id, value] of [["center", center], ["width", width]]) {
    if (document.activeElement !== element(id)) element(id).value = value;
  }
}

function showMap() {
  const values = data.maps[view.label]?.[view.slice];
  map.canvas.hidden = !values;
  map.canvas.style.opacity = view.opacity;
  if (values) map.draw(bytesOf(values));
  for (const input of all('input[name="map"]')) input.checked = input.value === view.label;
  if (element("mapped")) sayOfMaps(Boolean(values));
}

/* Said anew only when it changes, or a screen reader would say it for every slice. */
function sayOfMaps(here) {
  const remark = element("mapped"), about = `${view.label} ${here}`;
  if (remark.dataset.about === about) return;
  remark.dataset.about = about;
  remark.replaceChildren(...(view.label ? mapRemark(here) : []));
}

/* Which slices have a map of the label, as links. */
function mapRemark(here) {
  const links = Object.keys(data.maps[view.label]).flatMap((place) => {
    const link = document.createElement("a");
    link.href = `#slice=${Number(place) + 1}`;
    link.textContent = `${Number(place) + 1}`;
    return [" ", link];
  });
  return [here ? "" : "No map of this slice. ", `Maps of ${view.label}: slices`, ...links];
}

function showPlace() {
  const { slice } = view;
  const position = data.positions[slice];
  element("number").textContent = slice + 1;
  element("place").textContent = position === null ? "" : `${position.toFixed(1)} mm`;
  screen.setAttribute("aria-valuenow", slice + 1);
  screen.setAttribute("aria-valuetext", spoken(slice));
  chart.style.setProperty("--slice", slice);
  for (const [output, label] of labelsNow) output.textContent = said(data.probabilities[slice][label]);
  showInStrip(slice);
}

function spoken(slice) {
  const position = data.positions[slice];
  const place = position === null ? "" : `, ${position.toFixed(1)} millimetres`;
  const values = data.labels.map((label, at) => `${label} ${said(data.probabilities[slice][at])}`);
  return `slice ${slice + 1} of ${volume.count}${place}; ${values.join(", ")}`;
}

function showInStrip(slice) {
  thumbnails.forEach((button, place) => {
    const current = place === slice;
    button.tabIndex = current ? 0 : -1;
    if (current) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  });
  const strip = element("strip"), button = thumbnails[slice];
  strip.scrollLeft = button.offsetLeft - (strip.clientWidth - button.offsetWidth) / 2;
  if (strip.contains(document.activeElement)) button.focus({ preventScroll: true });
}

/* ---- the address ---- */

function addressed() {
  const found = /^#slice=(\d+)$/.exec(location.hash);
  return found ? Number(found[1]) - 1 : undefined;
}

function writeAddressSoon() {
  clearTimeout(addressTimer);
  addressTimer = setTimeout(() => history.replaceState(null, "", `#slice=${view.slice + 1}`), ADDRESS_DELAY);
}

function followAddress() {
  const slice = addressed();
  if (slice !== undefined) change({ slice });
}

/* ---- wheel, mouse, touch ---- */

function scrollByWheel() {
  let turned = 0;
  screen.addEventListener("wheel", (event) => {
    if (event.ctrlKey) return; // the browser's zoom
    event.preventDefault();
    turned += event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? LINE_PIXELS : 1);
    if (Math.abs(turned) < WHEEL_STEP) return;
    change({ slice: view.slice - Math.sign(turned) });
    turned = 0;
  }, { passive: false });
}

function draggedWindow(start, right, down) {
  const perPixel = Math.max(0.25, start.width / DRAG_WIDTHS);
  const center = clamped(Math.round(start.center + down * perPixel), LOWEST_HU, LOWEST_HU + HU_LEVELS - 1);
  return { name: FREE, center, width: clamped(Math.round(start.width + right * perPixel), 1, HU_LEVELS) };
}

function dragOnScreen() {
  let start = null;
  screen.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !event.isPrimary) return;
    start = { x: event.clientX, y: event.clientY, ...view };
    screen.setPointerCapture(event.pointerId);
  });
  screen.addEventListener("pointermove", (event) => {
    showHu(event);
    if (!start || !event.isPrimary) return;
    const right = event.clientX - start.x, down = event.clientY - start.y;
    if (event.pointerType === "touch") change({ slice: start.slice - Math.round(down / TOUCH_STEP) });
    else if (right || down) change({ window: draggedWindow(start.window, right, down) });
  });
  for (const end of ["pointerup", "pointercancel"]) screen.addEventListener(end, () => (start = null));
  screen.addEventListener("pointerleave", () => (element("here").textContent = ""));
}

/* HU below the mouse. */
function showHu(event) {
  const box = gray.canvas.getBoundingClientRect();
  const column = Math.floor(((event.clientX - box.left) / box.width) * data.width);
  const row = Math.floor(((event.clientY - box.top) / box.height) * data.height);
  const inside = column >= 0 && column < data.width && row >= 0 && row < data.height;
  const hu = inside ? volume.get(view.slice)?.[row * data.width + column] : undefined;
  element("here").textContent = hu === undefined || event.pointerType === "touch" ? "" : `${hu} HU`;
}

function clickOnChart() {
  const goTo = (event) => {
    const box = chart.querySelector(".track").getBoundingClientRect();
    change({ slice: Math.floor(((event.clientX - box.left) / box.width) * volume.count) });
  };
  for (const track of all(".track")) {
    track.addEventListener("pointerdown", (event) => {
      track.setPointerCapture(event.pointerId);
      goTo(event);
    });
    track.addEventListener("pointermove", (event) => event.buttons & 1 && goTo(event));
  }
  for (const button of all(".peak")) {
    button.addEventListener("click", () => change({ slice: Number(button.dataset.slice) - 1 }));
  }
  thumbnails.forEach((button, slice) => button.addEventListener("click", () => change({ slice })));
}

/* ---- keys ---- */

const STEPS = {
  ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1,
  PageUp: PAGE_STEP, PageDown: -PAGE_STEP, Home: -Infinity, End: Infinity,
};

function patchOfKey(key) {
  if (key in STEPS) return { slice: view.slice + STEPS[key] };
  const window = namedWindows[Number(key) - 1];
  if (window) return { window: windowOf(window) };
  if (key === "m" || key === "M") return { label: nextLabel() };
  return undefined;
}

function nextLabel() {
  const labels = all('input[name="map"]').map((input) => input.value);
  return labels.length ? labels[(labels.indexOf(view.label) + 1) % labels.length] : "";
}

/* Only on the image and the strip: elsewhere keys are the browser's. */
function listenToKeys() {
  for (const region of [screen, element("strip")]) {
    region.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const patch = patchOfKey(event.key);
      if (!patch) return;
      event.preventDefault();
      change(patch);
    });
  }
}

/* ---- controls ---- */

function listenToControls() {
  for (const input of namedWindows) {
    input.addEventListener("change", () => change({ window: windowOf(input) }));
  }
  document.querySelector(`input[value="${FREE}"]`)
    .addEventListener("change", () => change({ window: { ...view.window, name: FREE } }));
  for (const id of ["center", "width"]) {
    element(id).addEventListener("input", (event) => {
      if (event.target.value === "" || !event.target.validity.valid) return;
      change({ window: { ...view.window, name: FREE, [id]: Number(event.target.value) } });
    });
    element(id).addEventListener("blur", () => change({}));
  }
  for (const input of all('input[name="map"]')) {
    input.addEventListener("change", () => change({ label: input.value }));
  }
  element("opacity")?.addEventListener("input", (event) => change({ opacity: event.target.value / 100 }));
}

/* ---- start ---- */

function showThumbnail(place, small) {
  small.draw(volume.get(place), windowOf(namedWindows[0]));
  const aspect = Number(getComputedStyle(screen).getPropertyValue("--aspect"));
  drawThumbnail(thumbnails[place].querySelector("canvas"), small.canvas, aspect);
}

/* The slice looked at first, then its neighbours: the first picture does not wait for the others. */
async function unpackRest() {
  const small = new GrayPicture(new OffscreenCanvas(data.width, data.height));
  for (let place; (place = volume.nearestPacked(view.slice)) !== undefined; ) {
    await volume.unpack(place);
    if (place === view.slice) show();
    if (!performance.getEntriesByName(FIRST_SLICE).length) performance.mark(FIRST_SLICE);
    showThumbnail(place, small);
  }
}

function complain(error) {
  const old = typeof DecompressionStream === "undefined";
  const damaged = `the file is damaged (${error.message})`;
  const cause = old ? "this browser cannot unpack them; use one of 2023 or later" : damaged;
  element("message").textContent = `No images: ${cause}.`;
  element("message").hidden = false;
}

async function start() {
  scrollByWheel();
  dragOnScreen();
  clickOnChart();
  listenToKeys();
  listenToControls();
  addEventListener("hashchange", followAddress);
  view.slice = clamped(addressed() ?? Number(screen.getAttribute("aria-valuenow")) - 1, 0, last);
  show();
  try {
    // two of them: one slice is inflated while the prediction of the other is undone
    await Promise.all([unpackRest(), unpackRest()]);
    document.body.dataset.complete = "";
  } catch (error) {
    complain(error);
  }
}

start();
