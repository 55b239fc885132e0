/** What is drawn on a chart: curves, bands, points, projections, regions. */

import {amount, assumes, interval, s, value} from './dom.js';

/** @typedef {import('./chart.js').Frame} Frame */
/** @typedef {import('./dom.js').Band} Band */
/** @typedef {import('./dom.js').Run} Run */

/** @param {Frame} f @param {number[]} xs @param {number[]} ys */
export const line = (f, xs, ys) => xs.map((v, i) => `${i ? 'L' : 'M'}${f.x(v).toFixed(1)} ${f.y(ys[i]).toFixed(1)}`).join('');

/** The part of a curve from one x to another. @param {Band} curve @param {number} from @param {number} to @returns {Band} */
export function between(curve, from, to) {
  const keep = curve.x.map((v) => v >= from * 0.9999 && v <= to * 1.0001);
  const cut = (/** @type {any[]} */ rows) => rows.filter((_, i) => keep[i]);
  return {x: cut(curve.x), median: cut(curve.median), lower: cut(curve.lower), upper: cut(curve.upper)};
}

/** @param {Frame} f @param {Band} curve @param {string} color */
export function drawBand(f, curve, color) {
  const known = curve.x.map((_, i) => i).filter((i) => curve.lower[i] !== null && curve.upper[i] !== null);
  if (known.length < 2) return;
  const side = (/** @type {(number|null)[]} */ ends) => (/** @type {number} */ i) => `${f.x(curve.x[i]).toFixed(1)} ${f.y(/** @type {number} */ (ends[i])).toFixed(1)}`;
  const top = known.map(side(curve.upper)), bottom = known.reverse().map(side(curve.lower));
  f.marks.append(s('path', {d: `M${top.join('L')}L${bottom.join('L')}Z`, class: 'band', color}));
}

/**
 * A run's law: solid where the run has been, dashed beyond.
 * @param {Frame} f
 * @param {Band} curve
 * @param {number} end where the run has come to
 * @param {string} color
 * @param {string} kind
 */
export function drawLaw(f, curve, end, color, kind) {
  const inside = between(curve, f.xRange[0], end), beyond = between(curve, end, f.xRange[1]);
  if (inside.x.length && beyond.x.length && beyond.x[0] > inside.x[inside.x.length - 1]) {
    beyond.x.unshift(inside.x[inside.x.length - 1]);
    beyond.median.unshift(inside.median[inside.median.length - 1]);
  }
  f.marks.append(s('path', {d: line(f, beyond.x, beyond.median), class: `law beyond ${kind}`, color}),
    s('path', {d: line(f, inside.x, inside.median), class: `law ${kind}`, color}));
}

/**
 * All points of a run as one path: dots are strokes of no length with round ends, flagged ones triangles.
 * @param {Frame} f
 * @param {{color: string, flagged: boolean}} run
 * @param {number[][]} points
 * @param {string} kind
 */
export function drawPoints(f, run, points, kind) {
  const size = kind.startsWith('final') ? 13 : 8.6;
  if (kind.includes('hollow') && !run.flagged) {
    for (const [px, py] of points) f.marks.append(s('circle', {cx: f.x(px), cy: f.y(py), r: 4.5, class: `points ${kind}`, color: run.color}));
    return;
  }
  const place = (/** @type {number[]} */ [px, py]) => [f.x(px).toFixed(1), f.y(py).toFixed(1)];
  const d = points.map(place).map(([px, py]) =>
    run.flagged ? `M${px} ${py}m0-${0.55 * size}l${size / 2} ${0.9 * size}h-${size}z` : `M${px} ${py}h0.01`).join('');
  f.marks.append(s('path', {d, class: `points ${run.flagged ? 'flagged' : 'dot'} ${kind}`, color: run.color}));
}

/** A vertical bar between two values, with feet. @param {Frame} f @param {number} px @param {number} low @param {number} high */
export const bar = (f, px, low, high) =>
  s('path', {d: `M${px} ${f.y(low)}V${f.y(high)}M${px - 4} ${f.y(low)}h8M${px - 4} ${f.y(high)}h8`, class: 'bar'});

/**
 * A square lies on this run's own course, a wedge at the end of a longer schedule, a diamond on no schedule.
 * @param {Frame} f
 * @param {number} at
 * @param {import('./dom.js').Projection} p
 * @param {string} color
 * @param {string} [run]
 */
export function drawProjection(f, at, p, color, run = '') {
  const px = f.x(at), py = f.y(p.median), planned = p.name === 'planned end', kind = p.kind || '';
  const group = s('g', {class: `projection kind-${kind.replaceAll(' ', '-')}${planned ? ' planned' : ''}`, color});
  if (p.lower !== null && p.upper !== null) group.append(bar(f, px, p.lower, p.upper));
  const square = planned || kind === 'as planned';
  const shape = square ? `M${px - 4.5} ${py - 4.5}h9v9h-9z` : kind === 'annealed' ? `M${px - 6.5} ${py - 4.5}h13l-6.5 11z`
    : `M${px} ${py - 6}l6 6l-6 6l-6-6z`;
  group.append(s('path', {d: shape, class: 'mark'}));
  f.marks.append(group);
  const lines = [p.name, `projected ${value(p.median)}`, assumes(kind), p.lower === null ? '' : `90 %: ${interval(p)}`, `at ${amount(at)}`];
  f.targets.push({px, py, lines: lines.filter(Boolean), run, main: true});
}

/** Where the chosen run's curve enters another region: a line with a name, and a shade beside the power law. @param {Frame} f @param {Run} run */
export function drawRegions(f, run) {
  if (!run.regions) return;
  const top = f.edge.top, bottom = f.height - f.edge.bottom;
  for (const [from, to] of run.regions.spans) {
    f.marks.append(s('rect', {x: f.x(from), y: top, width: Math.max(0, f.x(to) - f.x(from)), height: bottom - top, class: 'region-shade', color: run.color}));
  }
  for (const {kind, x, label} of run.regions.marks) {
    const px = f.x(x), wide = label.length * 6.6 + 12, right = px + wide < f.width - f.edge.right;
    f.marks.append(s('line', {x1: px, x2: px, y1: top, y2: bottom, class: 'region-edge', color: run.color}),
      s('text', {x: px + (right ? 6 : -6), y: kind === 'irreducible' ? top + 16 : bottom - 8, 'text-anchor': right ? 'start' : 'end', class: 'region-label'}, label));
  }
}

/** Where the learning rate bends and where passes over the data begin. @param {Frame} f @param {{kind: string, x: number, label: string}[]} events @param {string} unit of the axis */
export function drawEvents(f, events, unit) {
  const top = f.edge.top, bottom = f.height - f.edge.bottom;
  let row = 0;
  for (const {kind, x, label} of events) {
    if (x < f.xRange[0] || x > f.xRange[1]) continue;
    const px = f.x(x), wide = label.length * 6.6 + 12, epoch = kind === 'epoch';
    // What is named before the end of the decay stands left of its line, so that the two names do not meet.
    const fits = px + wide < f.width - f.edge.right, right = fits && (label !== 'rate falls' || px - wide < f.edge.left);
    f.marks.append(s('line', {x1: px, x2: px, y1: epoch ? bottom - 9 : top, y2: bottom, class: `event mark-${kind}`}));
    if (!epoch) f.marks.append(s('text', {x: px + (right ? 5 : -5), y: bottom - 26 - 15 * row++, 'text-anchor': right ? 'start' : 'end', class: 'event-label'}, label));
    else f.targets.push({px, py: bottom - 4, lines: [label, `at ${amount(x)} ${unit}`]});
  }
}

/** A small cross. @param {number} px @param {number} py @param {number} [r] */
export const cross = (px, py, r = 4) => `M${px - r} ${py - r}l${2 * r} ${2 * r}M${px - r} ${py + r}l${2 * r} ${-2 * r}`;
