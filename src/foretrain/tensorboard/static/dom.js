/**
 * Elements and words. Text reaches the page through textContent alone, because run names and messages are
 * whatever a training script wrote.
 */

const SVG = 'http://www.w3.org/2000/svg';

/** @typedef {{name: string, data: number, median: number, lower: number|null, upper: number|null, kind?: string, params?: number|null}} Projection */
/** @typedef {{x: number[], median: number[], lower: (number|null)[], upper: (number|null)[]}} Band */
/** @typedef {{kind: string, severity: string, message: string, step: number|null}} Flag */
/** @typedef {{name: string, short: string, color: string, index: number, flagged: boolean, leaves_out: boolean, params: number|null,
 *   data: number|null, last: number|null, state: string, status: string, sentence: string, headline: string,
 *   points: number[][], curve: Band|null, projections: Projection[], flags: Flag[], doubts: string[], notes: string[],
 *   laws: {law: string, weight: number|null, parameters: [string, number|null][]}[], excluded: [string, number][],
 *   regions: {now: string, sentence: string, marks: {kind: string, x: number, label: string}[], spans: number[][]}|null}} Run */

/** The page's fixed elements, by name. @type {Map<string, any>} */
export const part = new Map();

/**
 * Makes an HTML element; children are elements or texts.
 * @param {string} tag
 * @param {Record<string, any>} [props]
 * @param {...any} children
 * @returns {any}
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'color') element.style.setProperty('--c', value);
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/**
 * Makes an SVG element.
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...any} children
 * @returns {any}
 */
export function s(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === 'color') element.style.setProperty('--c', value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/**
 * Makes an element that never goes away, and remembers it by name.
 * @param {string} name
 * @param {any} element
 */
export function fixed(name, element) {
  part.set(name, element);
  return element;
}

/** A count in three digits: 512, 1.6k, 48.2M, 7B. @param {number|null} x */
export function amount(x) {
  if (x === null || x === undefined) return '–';
  for (const [scale, letter] of /** @type {[number, string][]} */ ([[1e12, 'T'], [1e9, 'B'], [1e6, 'M'], [1e3, 'k']])) {
    if (x < 1e15 && x >= scale * 0.9995) return Number((x / scale).toPrecision(3)) + letter;
  }
  return x >= 1e15 || (x > 0 && x < 1e-3) ? shortest(x) : String(Number(x.toPrecision(3)));
}

/** Compute in three digits, as it is written everywhere: 1.34e14. @param {number|null} x */
export const flops = (x) => (x === null || x === undefined ? '–' : x < 1e4 ? amount(x) : shortest(x));

/** @param {number} x */
const shortest = (x) => x.toExponential(2).replace(/\.?0+e/, 'e').replace('e+', 'e');

/** An error in four digits. @param {number|null} y */
export function value(y) {
  if (y === null || y === undefined) return '–';
  return y >= 1e-3 && y < 1e4 ? y.toPrecision(4) : y.toExponential(2);
}

/**
 * A typed amount: "1e18", "70B", "1.5k"; null where it is empty, NaN where it is none.
 * @param {string} text
 */
export function typed(text) {
  const found = /^\s*([0-9.]+(?:e[+-]?\d+)?)\s*([kmbtKMBT]?)\s*$/i.exec(text);
  if (!text.trim()) return null;
  if (!found) return NaN;
  const scale = {k: 1e3, m: 1e6, b: 1e9, t: 1e12}[found[2].toLowerCase()] || 1;
  const number = Number(found[1]) * scale;
  return number > 0 && Number.isFinite(number) ? number : NaN;
}

/** @param {{lower: number|null, upper: number|null}|null} p */
export const interval = (p) => (p && p.lower !== null && p.upper !== null ? `${value(p.lower)} – ${value(p.upper)}` : '');
/** @param {string} code */
export const words = (code) => code.replaceAll('_', ' ');
/** @param {Run} run @param {string} name */
export const named = (run, name) => run.projections.find((p) => p.name === name) || null;

/** What a projection assumes of the learning rate, in a few words. @param {string} kind */
export const assumes = (kind) => (kind === 'annealed' ? 'annealed: schedule stretched to end here' : kind);

/** Run names without the folders that all of them share. @param {string[]} names */
export function shortNames(names) {
  const split = names.map((name) => name.split('/'));
  const least = Math.min(...split.map((parts) => parts.length)) - 1;
  const same = (/** @type {number} */ at) => split.every((parts) => parts.at(at) === split[0].at(at));
  let head = 0, tail = 0;
  if (names.length > 1) {
    while (head < least && same(head)) head++;
    while (tail < least - head && same(-1 - tail)) tail++;
  }
  return new Map(names.map((name, i) => [name, split[i].slice(head, split[i].length - tail).join('/')]));
}

/** A colour of the ramp that goes with model size; the ends are the theme's. @param {number} t */
export function rampColor(t) {
  const stop = Math.min(2, Math.floor(t * 3));
  return `color-mix(in oklab, var(--ramp-${stop}), var(--ramp-${stop + 1}) ${Math.round((t * 3 - stop) * 100)}%)`;
}

/** @param {{color: string, flagged: boolean}} run */
export const swatch = (run) => s('svg', {class: 'swatch', width: 22, height: 12, 'aria-hidden': 'true', color: run.color},
  s('path', {d: 'M1 6h20', class: 'law selected'}),
  s('path', {d: run.flagged ? 'M11 1.5l4.4 7.6h-8.8z' : 'M11 6h0.01', class: `points ${run.flagged ? 'flagged' : 'dot'}`}));

/** A table of numbers: name, place, number, interval, kind. @param {any[][]} rows */
export const figures = (rows) => h('table', {class: 'figures'}, h('tbody', {}, ...rows.map(([name, at, number, range, kind]) =>
  h('tr', {}, h('th', {scope: 'row'}, name, h('small', {}, at), kind ? h('small', {class: 'kind'}, kind) : ''), h('td', {}, number, h('small', {}, range))))));

/** @param {string} title @param {string} kind @param {any[]} items */
export const list = (title, kind, items) => (items.length
  ? h('section', {class: kind}, h('h3', {}, title), h('ul', {}, ...items.map((item) => h('li', {}, item)))) : null);

/** @param {string} law @param {[string, number|null][]} parameters @param {number|null} weight */
export const formula = (law, parameters, weight) => h('p', {class: 'formula'}, weight === null ? words(law) : `${words(law)}, weight ${weight.toFixed(2)}`,
  h('small', {}, parameters.map(([name, v]) => `${name} = ${v === null ? '–' : Number(v.toPrecision(4))}`).join('   ')));

/**
 * A sorted copy; what is unknown goes last either way.
 * @template T
 * @param {T[]} rows
 * @param {(row: T) => string|number|null} read
 * @param {boolean} down
 */
export function sorted(rows, read, down) {
  const sign = down ? -1 : 1;
  return [...rows].sort((a, b) => {
    const va = read(a), vb = read(b);
    if (va === null || vb === null) return Number(va === null) - Number(vb === null);
    return sign * (typeof va === 'string' ? va.localeCompare(String(vb), undefined, {numeric: true}) : va - Number(vb));
  });
}

/**
 * The heads of a sortable table.
 * @param {[string, string, any][]} columns key, label and reader of each
 * @param {{sort: string, down: boolean}} order
 * @param {string} table its name, for the focus
 * @param {(key: string) => void} sortBy
 */
export const heads = (columns, order, table, sortBy) => columns.map(([key, label]) => h('th', {
  scope: 'col', class: key, 'aria-sort': order.sort !== key ? 'none' : order.down ? 'descending' : 'ascending'},
h('button', {type: 'button', 'data-key': `${table} ${key}`, onclick: () => sortBy(key)}, label)));
