/** Error at one amount of data against model size, with one law for all runs. */

import {logRange, widen} from './axes.js';
import {frame} from './chart.js';
import {amount, figures, formula, h, interval, list, s, shortNames, value} from './dom.js';
import {between, drawBand, drawPoints, drawProjection, line} from './marks.js';
import {answers, busy} from './server.js';
import {state} from './state.js';

/** @typedef {import('./dom.js').Run} Run */

const KEYS = [['dot', 'measured', '.dot'], ['hollow', 'not there yet: projected', '.hollow'], ['flag', 'flagged run', '.flagged'],
  ['line', 'law across the runs', '.law'], ['band', '90 % interval', '.band'], ['mark', 'larger model', '.projection'], ['slice', 'where they had seen less', '.slice']];

/** @param {Run[]} runs @param {Run|null} selected */
export function sizePanels(runs, selected) {
  const what = `${state.data.metric} against model size`;
  return [{
    name: 'size', title: what, label: `${what}, log axes, ${runs.length} runs. Arrow keys read the values.`, busy: busy.law,
    none: busy.law && !answers.law ? 'Fitting the law across the runs …' : 'No run here can be drawn yet.', keys: KEYS,
    draw: (/** @type {any} */ panel) => draw(panel, runs, selected),
  }];
}

/** @param {any} panel @param {Run[]} runs @param {Run|null} selected */
function draw(panel, runs, selected) {
  const {data} = state, law = answers.law, byName = new Map(runs.map((run) => [run.name, run]));
  const finals = law ? law.finals.filter((/** @type {any} */ final) => byName.has(final.name)) : [];
  if (!finals.length) return null;
  const {projections} = law, params = (/** @type {any} */ p) => p.params;
  const xRange = logRange([...finals.map(params), ...projections.map(params)], 0.05);
  const whole = law.by_size ? between(law.by_size, xRange[0], xRange[1]) : null;
  const values = [...finals.map((/** @type {any} */ p) => p.value), ...projections.map((/** @type {any} */ p) => p.median), ...(whole ? whole.median : []), ...law.slices.flatMap((/** @type {any} */ one) => one.points.map((/** @type {number[]} */ [, y]) => y))];
  const f = frame(panel, {
    xRange, yRange: widen(logRange(values, 0.08), projections.flatMap((/** @type {any} */ p) => [p.lower, p.upper])),
    xLabel: 'trainable parameters', yLabel: `${data.metric} at ${law.at_label}`,
    guides: projections.map((/** @type {any} */ p) => ({x: p.params, label: p.name, kind: ''})),
  });
  drawSlices(f, law.slices);
  const curve = law.by_size ? between(law.by_size, f.xRange[0], f.xRange[1]) : null;
  if (curve && curve.x.length > 1) {
    drawBand(f, curve, 'var(--law)');
    const last = Math.max(...finals.filter((/** @type {any} */ p) => p.used).map(params));
    const inside = between(curve, f.xRange[0], last), beyond = between(curve, last, f.xRange[1]);
    for (const [piece, kind] of /** @type {[any, string][]} */ ([[beyond, 'law beyond joint'], [inside, 'law joint']])) {
      f.marks.append(s('path', {d: line(f, piece.x, piece.median), class: kind, color: 'var(--law)'}));
    }
    f.readout = {curve, lines: (i) => ['law across the runs', `${data.metric} ${value(curve.median[i])}`,
      `90 %: ${interval({lower: curve.lower[i], upper: curve.upper[i]})}`, `at ${amount(curve.x[i])} parameters`]};
  }
  for (const final of finals) {
    const run = /** @type {Run} */ (byName.get(final.name));
    const kind = `final${final.measured ? '' : ' hollow'}${run === selected ? ' selected' : ''}${final.used ? '' : ' unused'}`;
    if (run === selected) f.marks.append(s('circle', {cx: f.x(final.params), cy: f.y(final.value), r: 9, class: 'ring', color: run.color}));
    drawPoints(f, run, [[final.params, final.value]], kind);
    f.targets.push({px: f.x(final.params), py: f.y(final.value), run: run.name, main: true, lines: [
      run.short, `${data.metric} ${value(final.value)}${final.measured ? '' : ' (projected)'}`,
      `${amount(final.params)} parameters`, ...(final.used ? [] : ['not in the law'])]});
  }
  for (const p of projections) drawProjection(f, p.params, p, 'var(--law)');
  f.csv = {columns: ['run', 'kind', 'parameters', data.metric, 'lower 90 %', 'upper 90 %', 'in the law'], rows: [
    ...finals.map((/** @type {any} */ p) => [p.name, p.measured ? 'measured' : 'projected', p.params, p.value, null, null, p.used ? 'yes' : 'no']),
    ...law.slices.flatMap((/** @type {any} */ one) => one.points.map((/** @type {number[]} */ [n, y]) => [null, `measured at ${one.label}`, n, y, null, null, null])),
    ...projections.map((/** @type {any} */ p) => [null, `projected: ${p.name}`, p.params, p.median, p.lower, p.upper, null]),
    ...(law.by_size ? law.by_size.x.map((/** @type {number} */ x, /** @type {number} */ i) =>
      [null, 'law', x, law.by_size.median[i], law.by_size.lower[i], law.by_size.upper[i], null]) : [])]};
  return f;
}

/** The same sizes where they had seen less data, as measured. @param {any} f @param {any[]} slices */
function drawSlices(f, slices) {
  for (const {label, points} of slices) {
    const xs = points.map((/** @type {number[]} */ [n]) => n), ys = points.map((/** @type {number[]} */ [, y]) => y);
    f.marks.append(s('path', {d: line(f, xs, ys), class: 'slice'}));
    f.marks.append(s('text', {x: f.x(xs[0]) + 4, y: f.y(ys[0]) - 6, class: 'slice-label'}, label));
    for (const [n, y] of points) f.targets.push({px: f.x(n), py: f.y(y), lines: [`${state.data.metric} ${value(y)}`, `${amount(n)} parameters`, `at ${label} ${state.data.axis_label}`]});
  }
}

/** @param {Run[]} runs */
export function sizeDetail(runs) {
  const {data} = state, law = answers.law;
  if (!law) return [h('h2', {}, 'Across the runs'), h('p', {class: 'hint'}, busy.law ? 'Fitting …' : 'Nothing to fit.')];
  const rows = law.projections.map((/** @type {any} */ p) => [p.name, amount(p.params), value(p.median), interval(p)]);
  return [
    h('h2', {}, 'Law across the runs'),
    h('p', {class: 'facts'}, law.at_label === null ? '' : `at ${law.at_label}`),
    law.headline ? h('p', {class: 'headline'}, law.headline) : null,
    law.by_size ? null : h('p', {class: 'headline'}, 'There is no law to draw yet: the dots are the errors as they are.'),
    law.status === 'ok' && law.sentence ? h('p', {class: 'facts after'}, law.sentence) : null,
    rows.length ? h('h3', {}, `${data.metric} by parameters, with the 90 % interval`) : null, rows.length ? figures(rows) : null,
    list('Reasons to doubt it', 'doubts', law.doubts), leftOutList('Left out of the law', law.left_out, runs),
    law.law ? h('details', {}, h('summary', {}, 'Law'), formula(law.law, law.parameters, null)) : null,
  ];
}

/** The runs that do not enter, of those that are shown. @param {string} title @param {[string, string][]} out @param {Run[]} runs */
export function leftOutList(title, out, runs) {
  const shown = new Set(runs.map((run) => run.name));
  const short = shortNames(state.data.runs.map((/** @type {Run} */ run) => run.name));
  const told = out.filter(([name]) => shown.has(name)).map(([name, reason]) => `${short.get(name)}: ${reason}`);
  return list(title, 'doubts', told.slice(0, 50));
}
