/** Error against the data seen, steps or compute: every run's points and law, the chosen run's projections. */

import {logRange, widen} from './axes.js';
import {frame} from './chart.js';
import {amount, figures, formula, h, interval, list, swatch, value, words} from './dom.js';
import {between, drawBand, drawEvents, drawLaw, drawPoints, drawProjection, drawRegions} from './marks.js';
import {answers} from './server.js';
import {state} from './state.js';

/** @typedef {import('./dom.js').Run} Run */

export const KEYS = [['dot', 'measured', '.dot'], ['flag', 'flagged run', '.flagged'], ['line', 'fitted law', '.law'], ['band', '90 % interval', '.band'],
  ['end', 'as planned', '.kind-as-planned, .planned:not(.kind-not-annealed, .kind-schedule-unknown)'], ['wedge', 'annealed: longer, with the schedule stretched', '.kind-annealed'],
  ['mark', 'projection, not annealed', '.kind-not-annealed'], ['mark', 'projection, schedule unknown', '.kind-schedule-unknown'], ['mark', 'projection', '.kind-:not(.planned)'],
  ['region', 'small data or irreducible', '.region-shade'], ['edge', 'learning rate', '.mark-decay, .mark-warm-up'], ['tick', 'epoch', '.mark-epoch']];

export const MOST_LAWS = 200; // of more runs only the chosen one's law is drawn: the others could not be told apart

/** @param {Run[]} runs @param {Run|null} selected */
export function curvesPanels(runs, selected) {
  const what = `${state.data.metric} against ${state.data.data_label}`;
  return [{
    name: 'curves', title: what, label: `${what}, log axes, ${runs.length} runs. Arrow keys read the values.`,
    none: 'No run here can be drawn yet.', keys: KEYS, draw: (/** @type {any} */ panel) => draw(panel, runs, selected),
  }];
}

/** @param {Run} run */
export const guides = (run) => shownProjections(run).map((p) => ({
  x: p.data, label: p.kind === 'annealed' ? `${p.name} annealed` : p.name, kind: p.name === 'planned end' ? 'strong' : ''}));

/** @param {Run|null} run */
export const shownProjections = (run) => (run ? run.projections.filter((p) => !state.near || p.kind !== 'annealed') : []);

/** The amount of data that is asked about, where it lies on this axis. */
const askedData = () => (state.data.along === state.data.axis ? state.targets.data : null);

/** @param {any} panel @param {Run[]} runs @param {Run|null} selected */
function draw(panel, runs, selected) {
  const metric = state.data.metric, drawn = runs.filter((run) => run.points.length);
  if (!drawn.length) return null;
  const projections = shownProjections(selected), asked = askedData();
  const pointsX = drawn.flatMap((run) => run.points.map((p) => p[0]));
  const xRange = logRange([...pointsX, ...projections.map((p) => p.data), ...(asked ? [asked] : [])], 0.03);
  const whole = selected && selected.curve ? between(selected.curve, xRange[0], xRange[1]) : null;
  const values = [...drawn.flatMap((run) => run.points.map((p) => p[1])), ...projections.map((p) => p.median), ...(whole ? whole.median : [])];
  const f = frame(panel, {
    xRange, yRange: widen(logRange(values, 0.05), projections.flatMap((p) => [p.lower, p.upper])), xLabel: state.data.data_label, yLabel: metric,
    guides: [...(selected ? guides(selected) : []), ...(asked ? [{x: asked, label: 'asked', kind: 'asked'}] : [])],
  });
  if (selected && selected.regions) drawRegions(f, selected);
  if (selected && answers.run && answers.run.name === selected.name && state.data.along === state.data.axis) drawEvents(f, answers.run.marks, state.data.axis_label);
  const curve = selected && selected.curve ? between(selected.curve, f.xRange[0], f.xRange[1]) : null;
  const crowd = drawn.length > 40 ? ' crowd' : '';
  for (const run of [...drawn.filter((r) => r !== selected), ...(selected ? [selected] : [])]) {
    const mine = run === selected, kind = (mine ? 'selected' : 'other') + crowd;
    const end = run.points.length ? run.points[run.points.length - 1][0] : 0;
    if (mine && curve) drawBand(f, curve, run.color);
    if (run.curve && (mine || drawn.length <= MOST_LAWS)) drawLaw(f, run.curve, end, run.color, kind);
    drawPoints(f, run, run.points, kind);
    for (const [px, py] of run.points) {
      f.targets.push({px: f.x(px), py: f.y(py), run: run.name, main: mine,
        lines: [run.short, `${metric} ${value(py)}`, `at ${amount(px)} ${state.data.data_label}`]});
    }
  }
  const last = (/** @type {any} */ p) => Number(p.name === 'planned end'); // drawn over the others
  if (selected) for (const p of [...projections].sort((a, b) => last(a) - last(b))) drawProjection(f, p.data, p, selected.color, selected.name);
  if (curve && curve.x.length && selected) f.readout = {curve, lines: (i) => [selected.short, `law ${value(curve.median[i])}`,
    ...(curve.lower[i] === null ? [] : [`90 %: ${interval({lower: curve.lower[i], upper: curve.upper[i]})}`]), `at ${amount(curve.x[i])}`]};
  f.csv = asTable(drawn, selected);
  return f;
}

/** @param {Run[]} runs @param {Run|null} selected */
export function asTable(runs, selected) {
  const {data, metric, data_label: label} = {...state.data, data: state.data};
  /** @type {any[][]} */
  const rows = runs.flatMap((run) => run.points.map(([x, y]) => [run.name, 'measured', x, y, null, null, run.params]));
  for (const run of runs) for (const p of run.projections) rows.push([run.name, `projected: ${p.name}${p.kind ? ` (${p.kind})` : ''}`, p.data, p.median, p.lower, p.upper, run.params]);
  const curve = selected && selected.curve;
  if (curve && selected) curve.x.forEach((x, i) => rows.push([selected.name, 'law', x, curve.median[i], curve.lower[i], curve.upper[i], selected.params]));
  return {columns: ['run', 'kind', label || data.axis, metric, 'lower 90 %', 'upper 90 %', 'parameters'], rows};
}

/** @param {Run|null} run @param {any[]} more what a view puts before the laws */
export function runDetail(run, more = []) {
  const {data_label: label, metric} = state.data;
  if (!run) return [h('p', {class: 'hint'}, 'No run passes the filter.')];
  const facts = [run.params === null ? null : `${amount(run.params)} parameters`, words(run.state)].filter(Boolean).join(' · ');
  const rows = run.last === null ? [] : [['now', amount(run.data), value(run.last), 'measured']];
  for (const p of run.projections) rows.push([p.name, amount(p.data), value(p.median), interval(p), /** @type {any} */ (p.kind)]);
  return [
    h('h2', {title: run.name}, swatch(run), run.name), h('p', {class: 'facts'}, facts),
    run.headline ? h('p', {class: 'headline'}, run.headline) : null,
    ...run.notes.map((note) => h('p', {class: 'facts after'}, note)),
    run.regions && run.regions.sentence ? h('p', {class: 'facts after'}, run.regions.sentence) : null,
    list('Flagged', 'doubts flags', run.flags.map((flag) => flag.message)),
    run.status === 'ok' ? null : h('p', {class: 'notice'}, run.sentence || words(run.status)),
    rows.length ? h('h3', {}, `${metric}, with the 90 % interval`) : null, rows.length ? figures(rows) : null,
    ...more,
    list('Reasons to doubt it', 'doubts', run.doubts),
    run.laws.length || run.excluded.length ? h('details', {}, h('summary', {}, 'Laws and points'),
      run.status === 'ok' && run.sentence ? h('p', {}, run.sentence) : null,
      ...run.laws.map((fit) => formula(fit.law, fit.parameters, fit.weight)),
      ...run.excluded.map(([reason, n]) => h('p', {}, `${n} points left out: ${reason}`)),
      h('p', {}, `x is ${label}.`)) : null,
  ];
}
