/** One run: its points and those left out, its law and what that leaves over, how its projection came about. */

import {logRange, widen} from './axes.js';
import {frame} from './chart.js';
import {amount, h, interval, list, s, value, words} from './dom.js';
import {KEYS as CURVE_KEYS, asTable, guides, runDetail, shownProjections} from './curves.js';
import {bar, between, cross, drawBand, drawEvents, drawLaw, drawPoints, drawProjection, drawRegions, line} from './marks.js';
import {answers, busy} from './server.js';
import {state} from './state.js';

/** @typedef {import('./dom.js').Run} Run */

const KEYS = [...CURVE_KEYS, ['cross', 'left out', '.left-out']];
const RESIDUAL_KEYS = [['dot', 'error above or below the law', '.dot'], ['band', '90 % interval', '.band']];
const FORECAST_KEYS = [['line', 'projected end, as told then', '.law'], ['band', 'its 90 % interval', '.band'],
  ['end', 'projected again from a part of the run', '.replayed'], ['came', 'what came', '.came']];

/** What the server tells of the chosen run; null while it is another's. @param {Run|null} run */
const told = (run) => (run && answers.run && answers.run.name === run.name ? answers.run : null);

/** @param {Run|null} run */
export function runPanels(run) {
  if (!run) return [];
  const found = told(run), wait = busy.run && !found, {metric, axis_label: axis} = state.data;
  const panels = [{
    name: 'run', title: `${run.short}: ${metric} against ${axis}`, busy: wait, keys: KEYS, none: 'This run cannot be drawn yet.',
    label: `${metric} of ${run.short} against ${axis}, log axes. Arrow keys read the values.`,
    draw: (/** @type {any} */ panel) => drawRun(panel, run, found),
  }];
  if (found && found.residuals.length) panels.push({
    name: 'residuals', title: 'What the law leaves over', busy: wait, keys: RESIDUAL_KEYS, none: '',
    label: `Distance of the points of ${run.short} from its law, in percent. Arrow keys read the values.`,
    draw: (/** @type {any} */ panel) => drawResiduals(panel, run, found),
  });
  if (found) panels.push({
    name: 'forecasts', title: 'What was projected for its end, as it was trained', busy: wait, keys: FORECAST_KEYS,
    none: 'No projection of this run’s end was logged while it was trained, and none could be made again.',
    label: `Projected end of ${run.short} against the data it had seen then. Arrow keys read the values.`,
    draw: (/** @type {any} */ panel) => drawForecasts(panel, run, found),
  });
  return panels;
}

/** @param {any} panel @param {Run} run @param {any} found */
function drawRun(panel, run, found) {
  const points = found ? found.points : run.points, metric = state.data.metric;
  if (!points.length) return null;
  const projections = shownProjections(run), out = found ? found.left_out.filter((/** @type {any} */ p) => p.data) : [];
  const xRange = logRange([...points.map((/** @type {any} */ p) => p[0]), ...projections.map((p) => p.data), ...out.map((/** @type {any} */ p) => p.data)], 0.03);
  const whole = run.curve ? between(run.curve, xRange[0], xRange[1]) : null;
  const values = [...points.map((/** @type {any} */ p) => p[1]), ...projections.map((p) => p.median), ...(whole ? whole.median : [])];
  const f = frame(panel, {xRange, yRange: widen(logRange(values, 0.05), projections.flatMap((p) => [p.lower, p.upper])),
    xLabel: state.data.axis_label, yLabel: metric, guides: guides(run)});
  if (run.regions) drawRegions(f, run);
  if (found) drawEvents(f, found.marks, state.data.axis_label);
  const end = points[points.length - 1][0];
  if (run.curve) {
    drawBand(f, between(run.curve, f.xRange[0], f.xRange[1]), run.color);
    drawLaw(f, run.curve, end, run.color, 'selected');
  }
  drawPoints(f, run, points, 'selected');
  for (const [x, y] of points) f.targets.push({px: f.x(x), py: f.y(y), main: true, run: run.name,
    lines: [`${metric} ${value(y)}`, `at ${amount(x)} ${state.data.axis_label}`]});
  for (const p of out) { // what was not finite stands at the upper edge
    const px = f.x(p.data), py = p.value === null ? f.edge.top + 6 : Math.max(f.edge.top + 6, Math.min(f.height - f.edge.bottom - 6, f.y(p.value)));
    f.marks.append(s('path', {d: cross(px, py), class: 'left-out'}));
    f.targets.push({px, py, main: true, run: run.name, lines: [`left out: ${p.reason}`, `${metric} ${p.value === null ? 'not a positive number' : value(p.value)}`, `at step ${amount(p.step)}`]});
  }
  for (const p of projections) drawProjection(f, p.data, p, run.color, run.name);
  const table = asTable([{...run, points}], run);
  f.csv = {columns: [...table.columns, 'reason'], rows: [...table.rows.map((row) => [...row, null]),
    ...out.map((/** @type {any} */ p) => [run.name, 'left out', p.data, p.value, null, null, run.params, p.reason])]};
  return f;
}

/** @param {any} panel @param {Run} run @param {any} found */
function drawResiduals(panel, run, found) {
  const rows = found.residuals.map((/** @type {number[]} */ [x, r]) => [x, 100 * Math.expm1(r)]);
  const curve = run.curve, most = Math.max(0.5, ...rows.map((/** @type {number[]} */ [, r]) => Math.abs(r))) * 1.2;
  const f = frame(panel, {xRange: logRange(rows.map((/** @type {number[]} */ [x]) => x), 0.03), yRange: [-most, most], linear: true, flat: true,
    xLabel: state.data.axis_label, yLabel: 'above the law', tick: (v) => `${Number(v.toFixed(2))} %`});
  if (curve) {
    const inside = between(curve, f.xRange[0], f.xRange[1]);
    const off = (/** @type {(number|null)[]} */ ends) => ends.map((v, i) => (v === null ? null : 100 * (v / inside.median[i] - 1)));
    drawBand(f, {...inside, lower: off(inside.lower), upper: off(inside.upper)}, run.color);
  }
  f.marks.append(s('line', {x1: f.edge.left, x2: f.width - f.edge.right, y1: f.y(0), y2: f.y(0), class: 'zero'}));
  drawPoints(f, run, rows, 'selected');
  for (const [x, r] of rows) f.targets.push({px: f.x(x), py: f.y(r), main: true, lines: [`${r > 0 ? '+' : ''}${r.toFixed(2)} %`, `at ${amount(x)} ${state.data.axis_label}`]});
  f.csv = {columns: [state.data.axis_label, 'percent above the law'], rows};
  return f;
}

/** @param {any} panel @param {Run} run @param {any} found */
function drawForecasts(panel, run, found) {
  const told = found.forecasts, again = found.ended ? found.track.filter((/** @type {any} */ p) => p.data) : [], came = found.came, metric = state.data.metric;
  if (!told.length && !again.length) return null;
  const all = [...told, ...again];
  const f = frame(panel, {
    xRange: logRange([...all.map((p) => p.data), ...(found.now[0] ? [found.now[0]] : [])], 0.04), flat: true, xLabel: `${state.data.axis_label} at the time`, yLabel: 'projected end',
    yRange: widen(logRange([...all.map((p) => p.median), ...(came ? [came] : [])], 0.2), all.flatMap((p) => [p.lower, p.upper])),
  });
  if (told.length) {
    const band = {x: told.map((/** @type {any} */ p) => p.data), median: told.map((/** @type {any} */ p) => p.median), lower: told.map((/** @type {any} */ p) => p.lower), upper: told.map((/** @type {any} */ p) => p.upper)};
    drawBand(f, band, run.color);
    f.marks.append(s('path', {d: line(f, band.x, band.median), class: 'law selected as-told', color: run.color}));
    drawPoints(f, {...run, flagged: false}, told.map((/** @type {any} */ p) => [p.data, p.median]), 'selected');
  }
  if (came) f.marks.append(s('line', {x1: f.edge.left, x2: f.width - f.edge.right, y1: f.y(came), y2: f.y(came), class: 'came'}));
  for (const p of again) {
    const px = f.x(p.data), group = s('g', {class: 'projection replayed', color: 'var(--law)'});
    if (p.lower && p.upper) group.append(bar(f, px, p.lower, p.upper));
    group.append(s('path', {d: `M${px - 4} ${f.y(p.median) - 4}h8v8h-8z`, class: 'mark'}));
    f.marks.append(group);
  }
  for (const p of all) f.targets.push({px: f.x(p.data), py: f.y(p.median), main: true, lines: [
    p.share ? `after ${Math.round(100 * p.share)} % of its steps` : 'as told then', `projected end ${value(p.median)}`,
    p.lower ? `90 %: ${interval(p)}` : '', came ? `came: ${value(came)}` : '', `at ${amount(p.data)}`].filter(Boolean)});
  f.csv = {columns: ['kind', state.data.axis_label, `projected ${metric}`, 'lower 90 %', 'upper 90 %', 'came'], rows: [
    ...told.map((/** @type {any} */ p) => ['as told then', p.data, p.median, p.lower, p.upper, came]),
    ...again.map((/** @type {any} */ p) => ['projected again', p.data, p.median, p.lower, p.upper, p.came])]};
  return f;
}

/** @param {Run|null} run */
export function oneRunDetail(run) {
  const found = told(run);
  if (!found || !run) return runDetail(run, busy.run ? [h('p', {class: 'hint'}, 'Reading the run …')] : []);
  const percent = (/** @type {number} */ share) => `${Math.round(100 * share)} %`;
  const inside = (/** @type {any} */ p) => (p.inside === null ? '' : p.inside ? 'inside' : 'outside');
  return runDetail({...run, flags: []}, [
    found.flags.length ? h('section', {class: 'doubts flags'}, h('h3', {}, 'Flagged'), ...found.flags.map((/** @type {any} */ flag) => h('div', {class: 'flag'},
      h('p', {}, h('b', {}, words(flag.kind)), `, ${words(flag.severity)}`, flag.step === null ? '' : `, since step ${amount(flag.step)}`), h('p', {}, flag.message),
      flag.evidence.length ? h('p', {class: 'evidence'}, flag.evidence.map((/** @type {any} */ [name, v]) => `${words(name)} ${v === null ? '–' : Number(v.toPrecision(4))}`).join(' · ')) : null))) : null,
    found.track.length ? h('section', {}, h('h3', {}, `Past forecasts of ${found.ended ? 'its end' : 'where it is now'}, made again`), h('table', {class: 'figures'}, h('tbody', {}, ...found.track.map((/** @type {any} */ p) =>
      h('tr', {}, h('th', {scope: 'row'}, `after ${percent(p.share)}`, h('small', {}, inside(p))), h('td', {}, value(p.median), h('small', {}, interval(p)))))),
    h('caption', {class: 'facts'}, `What came: ${value(found.track[0].came)}`))) : null,
    found.history ? null : h('p', {class: 'facts after'}, 'This report is of an earlier foretrain: it does not tell the learning rates, nor what was left out where.'),
    list('Left out', 'doubts', [...new Set(found.left_out.map((/** @type {any} */ p) => p.reason))].map((reason) =>
      `${reason}: ${found.left_out.filter((/** @type {any} */ p) => p.reason === reason).length}`)),
  ]);
}
