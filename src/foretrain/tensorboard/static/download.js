/** A chart's numbers and its picture as files. */

import {h, s} from './dom.js';

/** @typedef {import('./chart.js').Panel} Panel */

const STYLES = ['fill', 'stroke', 'stroke-width', 'stroke-dasharray', 'stroke-linecap', 'stroke-linejoin', 'opacity',
  'font-size', 'font-family', 'font-weight', 'paint-order', 'display'];

/** The buttons of a chart. @param {Panel} panel */
export const downloads = (panel) => /** @type {[string, string, (panel: Panel) => Promise<Blob>][]} */ ([
  ['CSV', 'csv', async () => new Blob([asCsv(panel.frame?.csv || {columns: [], rows: []})], {type: 'text/csv'})],
  ['SVG', 'svg', async () => new Blob([asSvg(panel)], {type: 'image/svg+xml'})],
  ['PNG', 'png', () => asPng(panel)],
]).map(([label, ending, make]) => h('button', {type: 'button', class: 'tool', 'aria-label': `Download this chart as ${label}`,
  onclick: async () => save(await make(panel), `foretrain-${panel.name}.${ending}`)}, label));

/** @param {Blob} blob @param {string} name */
function save(blob, name) {
  const url = URL.createObjectURL(blob);
  h('a', {href: url, download: name}).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/**
 * Comma-separated values (RFC 4180). A text that a spreadsheet would run as a formula is quoted for it.
 * @param {{columns: string[], rows: any[][]}} table
 */
export function asCsv({columns, rows}) {
  const cell = (/** @type {any} */ v) => {
    if (v === null || v === undefined) return '';
    if (typeof v === 'number') return String(v);
    const text = /^[=+\-@\t\r]/.test(v) ? `'${v}` : v;
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [columns, ...rows].map((row) => row.map(cell).join(',')).join('\r\n') + '\r\n';
}

/** The chart as it looks now, with its title, and styles written into its marks. @param {Panel} panel */
export function asSvg(panel) {
  const drawn = /** @type {any} */ (panel.frame).svg, copy = drawn.cloneNode(true);
  const from = [drawn, ...drawn.querySelectorAll('*')], to = [copy, ...copy.querySelectorAll('*')];
  from.forEach((element, i) => {
    const style = getComputedStyle(element);
    for (const name of STYLES) to[i].style.setProperty(name, style.getPropertyValue(name));
  });
  copy.querySelectorAll('.focus, .brush').forEach((/** @type {Element} */ element) => element.remove());
  const {width, height} = /** @type {import('./chart.js').Frame} */ (panel.frame), card = getComputedStyle(panel.box.closest('.card'));
  const head = 30;
  copy.setAttribute('viewBox', `0 ${-head} ${width} ${height + head}`);
  copy.setAttribute('height', String(height + head));
  const title = s('text', {x: 12, y: -10, 'font-size': '15', 'font-weight': '600', 'font-family': card.fontFamily, fill: card.color}, panel.title.textContent);
  copy.prepend(s('rect', {x: 0, y: -head, width, height: height + head, fill: card.backgroundColor}), title);
  return new XMLSerializer().serializeToString(copy);
}

/** The same at twice the size, as a picture of points. @param {Panel} panel @returns {Promise<Blob>} */
async function asPng(panel) {
  const image = new Image(), url = URL.createObjectURL(new Blob([asSvg(panel)], {type: 'image/svg+xml'}));
  try {
    image.src = url;
    await image.decode();
    const canvas = h('canvas', {width: 2 * image.width, height: 2 * image.height});
    const context = canvas.getContext('2d');
    context.scale(2, 2);
    context.drawImage(image, 0, 0);
    return await new Promise((done, fail) => canvas.toBlob((/** @type {Blob|null} */ blob) => (blob ? done(blob) : fail(new Error('no picture')))));
  } finally {
    URL.revokeObjectURL(url);
  }
}
