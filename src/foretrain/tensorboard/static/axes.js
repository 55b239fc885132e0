/** Log axes: their ticks, their ranges, and how labels of guides find room. */

/**
 * The densest readable ticks of a log axis.
 * @param {number} low
 * @param {number} high
 * @param {(v: number) => number} at the scale
 * @param {number} room least distance in pixels
 * @returns {{list: number[], digits: number|null}}
 */
export function logTicks(low, high, at, room) {
  const inside = (/** @type {number[]} */ list) => list.filter((v) => v >= low * 0.9999 && v <= high * 1.0001);
  /** @type {{list: number[], digits: number|null}[]} */
  const choices = [];
  if (high / low < 12) choices.push(...even(low, high));
  const decades = [];
  for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++) decades.push(e);
  for (const steps of [[1, 2, 5], [1, 3], [1]]) {
    choices.push({list: inside(decades.flatMap((e) => steps.map((m) => Number(`${m}e${e}`)))), digits: null});
  }
  for (const stride of [2, 3, 4, 6]) {
    choices.push({list: inside(decades.filter((e) => e % stride === 0).map((e) => Number(`1e${e}`))), digits: null});
  }
  return choices.find((choice) => fits(choice, at, room)) || {list: inside([low, high]), digits: null};
}

/** Ticks of an axis that is not logarithmic. @type {typeof logTicks} */
export function linearTicks(low, high, at, room) {
  return even(low, high).find((choice) => fits(choice, at, room)) || {list: [low, high], digits: null};
}

/** @param {number} low @param {number} high */
function even(low, high) {
  const fine = 10 ** Math.floor(Math.log10((high - low) / 10));
  return [1, 2, 5, 10, 20, 50].map((m) => m * fine).map((step) => {
    const list = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-6 * step && list.length < 60; i++) list.push(i * step);
    return {list, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9))};
  });
}

/** @param {{list: number[]}} choice @param {(v: number) => number} at @param {number} room */
const fits = ({list}, at, room) => list.length > 1 && list.every((v, i) => !i || Math.abs(at(v) - at(list[i - 1])) >= room);

/** A range on a log axis, a little wider than what it holds. @param {number[]} values @param {number} padding */
export function logRange(values, padding) {
  let low = Infinity, high = -Infinity;
  for (const v of values) {
    if (v < low) low = v;
    if (v > high) high = v;
  }
  const pad = Math.max((high / low) ** padding, 1.01);
  return [low / pad, high * pad];
}

/**
 * Widens a range for the ends of intervals, but never so far that the measured part is squeezed flat.
 * @param {number[]} range
 * @param {(number|null)[]} ends
 */
export function widen([low, high], ends) {
  const most = Math.max(high / low, 1.2) ** 0.9;
  const inner = /** @type {number[]} */ (ends.filter((v) => v !== null));
  const range = [Math.max(Math.min(low, ...inner), low / most), Math.min(Math.max(high, ...inner), high * most)];
  return logRange(range, 0.03);
}

/**
 * Joins labels of one place, and gives each the first row in which it touches no other.
 * @param {{px: number, label: string, kind: string}[]} guides
 * @param {number} width
 */
export function placeLabels(guides, width) {
  /** @type {number[]} */
  const ends = [];
  /** @type {{px: number, label: string, kind: string}[]} */
  const apart = [];
  for (const g of guides) {
    const same = apart.find((other) => Math.abs(other.px - g.px) < 3);
    if (same) Object.assign(same, {label: `${same.label} · ${g.label}`, kind: same.kind || g.kind});
    else apart.push({...g});
  }
  const list = apart.map((g) => {
    const half = g.label.length * 3.4 + 6;
    const at = Math.max(half, Math.min(width - half, g.px));
    let row = ends.findIndex((end) => end <= at - half);
    if (row < 0) row = ends.length;
    ends[row] = at + half;
    return {...g, at, row};
  });
  return {list, count: ends.length};
}
