/** The best size for a budget, and curves of equal compute. */

import {logRange} from './axes.js';
import {frame} from './chart.js';
import {amount, figures, flops, h, interval, list, rampColor, s, value} from './dom.js';
import {bar, between, drawBand, drawPoints, line} from './marks.js';
import {answers, busy} from './server.js';
import {state} from './state.js';
import {leftOutList} from './size.js';

/** @typedef {import('./dom.js').Run} Run */

const NORMAL_90 = 1.645; // standard deviations to either side that hold 90 % of a normal distribution
const KEYS = [['dot', 'points that enter', '.every'], ['ring', 'no other reached its error with less compute', '.envelope'],
  ['line', 'compute-optimal size', '.law.joint'], ['band', '90 % interval', '.band'], ['end', 'best of equal compute', '.isoflop-best'], ['mark', 'your budget', '.budget']];
const EQUAL_KEYS = [['dot', 'error of a size for that compute', '.equal'], ['star', 'best size', '.star']];

/** The budget that is asked about: as typed, or ten times the largest so far. @returns {number|null} */
export const budget = () => state.targets.compute || (answers.frontier && answers.frontier.range ? answers.frontier.start : null);

/** @param {Run[]} runs */
export function frontierPanels(runs) {
  const found = answers.frontier;
  const none = busy.frontier && !found ? 'Looking for the best sizes …' : found ? found.sentence : 'Nothing to show.';
  const equal = found && found.isoflop.length;
  return [{
    name: 'frontier', title: 'Best model size against compute', busy: busy.frontier, none, keys: KEYS,
    label: `Best model size against compute, log axes, ${runs.length} runs. Arrow keys read the values.`,
    draw: (/** @type {any} */ panel) => drawFrontier(panel, runs),
  }, {
    name: 'isoflop', title: `${state.data.metric} at equal compute`, busy: busy.frontier, keys: EQUAL_KEYS,
    none: found && !equal && found.without_isoflop ? found.without_isoflop : none,
    label: `${state.data.metric} against model size at equal compute, log axes. Arrow keys read the values.`,
    draw: (/** @type {any} */ panel) => (equal ? drawIsoflop(panel) : null),
  }];
}

/** @param {any} panel @param {Run[]} runs */
function drawFrontier(panel, runs) {
  const found = answers.frontier;
  if (!found || !found.points.length) return null;
  const {line: band, points} = found, at = budget(), best = bestNow();
  const stars = found.isoflop.filter((/** @type {any} */ curve) => curve.best);
  const xs = [...points.map((/** @type {any} */ p) => p[1]), ...(band ? band.x : []), ...(at ? [at] : [])];
  const ys = [...points.map((/** @type {any} */ p) => p[2]), ...(band ? band.median : []), ...(best && best.told ? [best.size.median] : [])];
  const f = frame(panel, {xRange: logRange(xs, 0.03), yRange: logRange(ys, 0.06), xLabel: 'training FLOPs', yLabel: 'parameters', xTick: flops,
    guides: at ? [{x: at, label: 'budget', kind: 'strong'}] : []});
  if (band) drawBand(f, band, 'var(--law)');
  for (const [c, n] of found.envelope) f.marks.append(s('circle', {cx: f.x(c).toFixed(1), cy: f.y(n).toFixed(1), r: 5, class: 'envelope'}));
  for (const run of runs) {
    const own = points.filter((/** @type {any} */ p) => p[0] === run.name).map((/** @type {any} */ p) => [p[1], p[2]]);
    if (own.length) drawPoints(f, run, own, 'every');
  }
  const names = new Map(runs.map((run) => [run.name, run.short]));
  for (const [run, c, n, d, y] of points) f.targets.push({px: f.x(c), py: f.y(n), run, lines: [names.get(run) || run,
    `${amount(n)} parameters`, `${amount(d)} ${found.data_label}`, `${flops(c)} FLOPs`, `${state.data.metric} ${value(y)}`]});
  if (band) {
    f.marks.append(s('path', {d: line(f, band.x, band.median), class: 'law joint', color: 'var(--law)'}));
    f.readout = {curve: between(band, f.xRange[0], f.xRange[1]), lines: (i) => {
      const shown = between(band, f.xRange[0], f.xRange[1]);
      return ['compute-optimal size', `${amount(shown.median[i])} parameters`, `90 %: ${amount(shown.lower[i])} – ${amount(shown.upper[i])}`, `at ${flops(shown.x[i])} FLOPs`];
    }};
  }
  for (const curve of stars) {
    const [n, y] = curve.best, px = f.x(curve.budget), spread = Math.exp(NORMAL_90 * (curve.log_std || 0));
    const group = s('g', {class: 'projection isoflop-best', color: 'var(--flag)'});
    if (curve.log_std) group.append(bar(f, px, n / spread, n * spread));
    group.append(s('path', {d: `M${px - 4} ${f.y(n) - 4}h8v8h-8z`, class: 'mark'}));
    f.marks.append(group);
    f.targets.push({px, py: f.y(n), main: true, lines: ['best of equal compute', `${amount(n)} parameters`, `${state.data.metric} ${value(y)}`, `at ${flops(curve.budget)} FLOPs`]});
  }
  if (at && best && best.told) {
    const px = f.x(at), group = s('g', {class: 'projection budget', color: 'var(--law)'});
    if (best.size.lower && best.size.upper) group.append(bar(f, px, best.size.lower, best.size.upper));
    group.append(s('path', {d: `M${px} ${f.y(best.size.median) - 7}l7 7l-7 7l-7-7z`, class: 'mark'}));
    f.marks.append(group);
    f.targets.push({px, py: f.y(best.size.median), main: true, lines: ['your budget', `best size ${amount(best.size.median)}`,
      `90 %: ${amount(best.size.lower)} – ${amount(best.size.upper)}`, `at ${flops(at)} FLOPs`]});
  }
  f.csv = {columns: ['kind', 'FLOPs', 'parameters', 'lower 90 %', 'upper 90 %', found.data_label, state.data.metric, 'run'], rows: [
    ...points.map((/** @type {any} */ p) => ['point', p[1], p[2], null, null, p[3], p[4], p[0]]),
    ...(band ? band.x.map((/** @type {number} */ x, /** @type {number} */ i) => ['compute-optimal', x, band.median[i], band.lower[i], band.upper[i], null, null, null]) : []),
    ...stars.map((/** @type {any} */ curve) => ['best of equal compute', curve.budget, curve.best[0], null, null, null, curve.best[1], null])]};
  return f;
}

/** @param {any} panel */
function drawIsoflop(panel) {
  const curves = answers.frontier.isoflop, metric = state.data.metric;
  const f = frame(panel, {xRange: logRange(curves.flatMap((/** @type {any} */ c) => c.curve.map((/** @type {any} */ p) => p[0])), 0.05),
    yRange: logRange(curves.flatMap((/** @type {any} */ c) => c.curve.map((/** @type {any} */ p) => p[1])), 0.08), xLabel: 'parameters', yLabel: metric});
  curves.forEach((/** @type {any} */ one, /** @type {number} */ i) => {
    const {budget: at, curve, best} = one;
    const color = rampColor(curves.length > 1 ? i / (curves.length - 1) : 0.5), told = `for ${flops(at)} FLOPs`;
    f.marks.append(s('path', {d: line(f, curve.map((/** @type {any} */ p) => p[0]), curve.map((/** @type {any} */ p) => p[1])), class: 'law selected equal-line', color}),
      s('path', {d: curve.map((/** @type {number[]} */ [n, y]) => `M${f.x(n).toFixed(1)} ${f.y(y).toFixed(1)}h0.01`).join(''), class: 'points dot selected equal', color}));
    for (const [n, y] of curve) f.targets.push({px: f.x(n), py: f.y(y), main: true, lines: [`${amount(n)} parameters`, `${metric} ${value(y)}`, told]});
    const [nx, ny] = curve[curve.length - 1];
    f.marks.append(s('text', {x: f.x(nx) - 4, y: f.y(ny) - 8, 'text-anchor': 'end', class: 'region-label'}, `${flops(at)} FLOPs`));
    if (!best) return;
    f.marks.append(s('path', {d: star(f.x(best[0]), f.y(best[1])), class: 'star', color}));
    f.targets.push({px: f.x(best[0]), py: f.y(best[1]), main: true, lines: ['best size', `${amount(best[0])} parameters`, `${metric} ${value(best[1])}`, told]});
  });
  f.csv = {columns: ['kind', 'FLOPs', 'parameters', metric], rows: curves.flatMap((/** @type {any} */ c) => [
    ...c.curve.map((/** @type {any} */ p) => ['measured, between its points', c.budget, ...p]), ...(c.best ? [['best', c.budget, ...c.best]] : [])])};
  return f;
}

/** @param {number} px @param {number} py */
const star = (px, py) => `M${Array.from({length: 10}, (_, i) => {
  const r = i % 2 ? 3.4 : 8, turn = (i * Math.PI) / 5;
  return `${(px + r * Math.sin(turn)).toFixed(1)} ${(py - r * Math.cos(turn)).toFixed(1)}`;
}).join('L')}Z`;

/** The answer for the budget that stands now. */
function bestNow() {
  const best = answers.answer && answers.answer.best, at = budget();
  return best && at && Math.abs(best.compute / at - 1) < 1e-4 ? best : null;
}

/** @param {Run[]} runs */
export function frontierDetail(runs) {
  const found = answers.frontier;
  if (!found) return [h('h2', {}, 'Best size for a budget'), h('p', {class: 'hint'}, busy.frontier ? 'Working it out …' : 'Nothing to tell.')];
  const best = bestNow(), nodes = [h('h2', {}, 'Best size for a budget')];
  if (found.range) nodes.push(h('p', {class: 'facts'}, budget() ? `${flops(budget())} FLOPs` : ''));
  const said = found.status !== 'ok' && best && !best.told; // the sentence below says the same, for all budgets
  if (best && !said) {
    nodes.push(h('p', {class: best.told ? 'headline' : 'notice'}, best.sentence));
    const many = (/** @type {any} */ a) => (a.lower && a.upper ? `${amount(a.lower)} – ${amount(a.upper)}` : '');
    if (best.told) nodes.push(h('h3', {}, 'With the 90 % interval'), figures([
      ['size', 'parameters', amount(best.size.median), many(best.size)], ['data', best.data.unit, amount(best.data.median), many(best.data)],
      [state.data.metric, 'projected', value(best.error.median), interval(best.error)]]));
  } else if (!best && busy.answer) nodes.push(h('p', {class: 'hint'}, 'Working it out …'));
  if (found.sentence) nodes.push(h('p', {class: 'notice'}, found.sentence));
  nodes.push(...found.notes.map((/** @type {string} */ note) => h('p', {class: 'facts after'}, note)));
  nodes.push(leftOutList('Left out', found.left_out, runs));
  return nodes;
}
