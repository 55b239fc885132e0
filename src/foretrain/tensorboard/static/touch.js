/** Fingers on a chart: a tap chooses a run, two fingers zoom and move. One finger scrolls the page. */

/** @typedef {import('./chart.js').Panel} Panel */

const TAPPED = 10; // pixels that a tap may slip
const NEAREST = 20; // pixels; fingers closer than this tell no distance

/** @param {Panel} panel */
export function listenToFingers(panel) {
  /** Where each finger is and where it came down. @type {Map<number, {at: [number, number], from: [number, number]}>} */
  const fingers = new Map();
  /** @type {{x: number, y: number, apart: number, ranges: {x: number[], y: number[]}}|null} */
  let begun = null;
  let tap = false;

  /** The middle between two fingers, and how far they are apart. */
  const grip = () => {
    const [[ax, ay], [bx, by]] = [...fingers.values()].map(({at}) => at);
    return {x: (ax + bx) / 2, y: (ay + by) / 2, apart: Math.max(NEAREST, Math.hypot(ax - bx, ay - by))};
  };
  const {box} = panel;
  box.addEventListener('pointerdown', (/** @type {PointerEvent} */ event) => {
    if (event.pointerType !== 'touch' || !panel.frame || fingers.size === 2) return;
    const at = panel.place(event);
    fingers.set(event.pointerId, {at, from: at});
    tap = fingers.size === 1;
    if (fingers.size < 2) return;
    begun = {...grip(), ranges: panel.ranges()};
    panel.showTip(null);
    for (const id of fingers.keys()) box.setPointerCapture(id); // what was touched is drawn anew
  });
  box.addEventListener('pointermove', (/** @type {PointerEvent} */ event) => {
    const finger = fingers.get(event.pointerId);
    if (!finger) return;
    finger.at = panel.place(event);
    if (Math.hypot(finger.at[0] - finger.from[0], finger.at[1] - finger.from[1]) > TAPPED) tap = false;
    if (begun && fingers.size === 2) panel.setZoom(pinched(panel, begun, grip()) || panel.zoom);
  });
  for (const end of ['pointerup', 'pointercancel']) {
    box.addEventListener(end, (/** @type {PointerEvent} */ event) => {
      const finger = fingers.get(event.pointerId);
      if (!finger) return;
      fingers.delete(event.pointerId);
      begun = null;
      if (!tap || end === 'pointercancel') return;
      const target = panel.pointAt(...finger.at);
      if (target && target.run) panel.on.select(target.run);
    });
  }
  box.addEventListener('touchmove', (/** @type {TouchEvent} */ event) => {
    if (event.touches.length > 1) event.preventDefault(); // or the page would scroll, too
  }, {passive: false});
}

/**
 * What is shown once two fingers have moved: each value stays under its finger as far as one factor allows.
 * @param {Panel} panel
 * @param {{x: number, y: number, apart: number, ranges: {x: number[], y: number[]}}} from
 * @param {{x: number, y: number, apart: number}} to
 * @returns {{x: number[], y: number[]}|null} null where that is too near or too far
 */
function pinched(panel, from, to) {
  const {edge, width, height, linear} = /** @type {import('./chart.js').Frame} */ (panel.frame);
  const across = width - edge.left - edge.right, up = height - edge.top - edge.bottom, factor = from.apart / to.apart;
  const moved = (/** @type {number} */ low, /** @type {number} */ high, /** @type {number} */ then, /** @type {number} */ now) => {
    const start = low + then * (high - low) - now * factor * (high - low);
    return [start, start + factor * (high - low)];
  };
  const share = {x: (/** @type {number} */ px) => (px - edge.left) / across, y: (/** @type {number} */ py) => (height - edge.bottom - py) / up};
  const log = (/** @type {number[]} */ range, /** @type {number} */ then, /** @type {number} */ now) =>
    moved(Math.log(range[0]), Math.log(range[1]), then, now).map(Math.exp);
  const {x, y} = from.ranges;
  const next = {
    x: log(x, share.x(from.x), share.x(to.x)),
    y: linear ? moved(y[0], y[1], share.y(from.y), share.y(to.y)) : log(y, share.y(from.y), share.y(to.y)),
  };
  return next.x[1] / next.x[0] > 1.0005 && next.x[1] / next.x[0] < 1e30 ? next : null;
}
