/**
 * The Scaling tab. It asks the server for JSON and draws it: every number and every sentence on a law comes
 * from Python; here is only layout. Text reaches the page through textContent alone, because run names and
 * messages are whatever a training script wrote.
 */

const SVG = 'http://www.w3.org/2000/svg';
const LEGEND_MAX = 12;
const state = {
  view: 'data', metric: null, study: null, axis: null, selected: null, filter: '', leaveOut: true,
  sort: 'params', down: false, near: false, data: null, law: null, lawBusy: false, error: null,
};
const part = new Map(); // the page's fixed elements, by name
let asked = 0, askedLaw = 0, outdated = 0, stale = false, typing = 0;

// ---------------------------------------------------------------- elements

/** Makes an HTML element; children are elements or texts. */
function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'color') element.style.setProperty('--c', value);
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Makes an SVG element. */
function s(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === 'color') element.style.setProperty('--c', value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** A count in three digits: 512, 1.6k, 48.2M, 7B. */
function amount(x) {
  if (x === null) return '–';
  for (const [scale, letter] of [[1e12, 'T'], [1e9, 'B'], [1e6, 'M'], [1e3, 'k']]) {
    if (x < 1e15 && x >= scale * 0.9995) return Number((x / scale).toPrecision(3)) + letter;
  }
  return String(Number(x.toPrecision(3)));
}

/** An error in four digits. */
function value(y) {
  if (y === null) return '–';
  return y >= 1e-3 && y < 1e4 ? y.toPrecision(4) : y.toExponential(2);
}

const interval = (p) => (p && p.lower !== null && p.upper !== null ? `${value(p.lower)} – ${value(p.upper)}` : '');
const words = (code) => code.replaceAll('_', ' ');
const named = (run, name) => run.projections.find((p) => p.name === name) || null;

/** What a projection assumes of the learning rate, in a few words. */
const assumes = (kind) => (kind === 'annealed' ? 'annealed: schedule stretched to end here' : kind);

/** Run names without the folders that all of them share. */
function shortNames(names) {
  const split = names.map((name) => name.split('/'));
  const least = Math.min(...split.map((parts) => parts.length)) - 1;
  const same = (at) => split.every((parts) => parts.at(at) === split[0].at(at));
  let head = 0, tail = 0;
  if (names.length > 1) {
    while (head < least && same(head)) head++;
    while (tail < least - head && same(-1 - tail)) tail++;
  }
  return new Map(names.map((name, i) => [name, split[i].slice(head, split[i].length - tail).join('/')]));
}

/** A colour of the ramp that goes with model size; the ends are the theme's. */
function rampColor(t) {
  const stop = Math.min(2, Math.floor(t * 3));
  return `color-mix(in oklab, var(--ramp-${stop}), var(--ramp-${stop + 1}) ${Math.round((t * 3 - stop) * 100)}%)`;
}

// ---------------------------------------------------------------- what is looked at

/** The runs that pass the filter, each with its short name, colour and place in the server's answer. */
function shownRuns() {
  const runs = state.data.runs;
  const short = shortNames(runs.map((run) => run.name));
  const sizes = [...new Set(runs.map((run) => run.params).filter((n) => n !== null))].sort((a, b) => a - b);
  let pattern = null;
  try {
    pattern = state.filter ? new RegExp(state.filter, 'i') : null;
    part.get('filter').removeAttribute('aria-invalid');
  } catch {
    part.get('filter').setAttribute('aria-invalid', 'true');
  }
  return runs
    .map((run, index) => {
      const rank = run.params === null ? 0.5 : sizes.length > 1 ? sizes.indexOf(run.params) / (sizes.length - 1) : 0.5;
      const flagged = run.flags.length > 0;
      return {...run, index, flagged, short: short.get(run.name), color: flagged ? 'var(--flag)' : rampColor(rank)};
    })
    .filter((run) => !pattern || pattern.test(run.name));
}

function pickRun(runs) {
  const find = (name) => runs.find((run) => run.name === name);
  return find(state.selected) || find(state.data.default_run)
    || [...runs].reverse().find((run) => !run.flagged) || runs[0] || null;
}

// ---------------------------------------------------------------- the server

async function ask(route, query) {
  const url = new URL(`./${route}`, import.meta.url);
  for (const [name, text] of Object.entries(query)) if (text !== null) url.searchParams.set(name, text);
  const response = await fetch(url);
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

const question = () => ({metric: state.metric, study: state.study, axis: state.axis});

async function load() {
  if (window.innerHeight === 0) { // another tab is in front: TensorBoard keeps this frame, so idle
    stale = true;
    return;
  }
  stale = false;
  const mine = ++asked;
  part.get('page').setAttribute('aria-busy', 'true');
  try {
    const data = await ask('runs', question());
    if (mine !== asked) return; // a later question has been asked since
    Object.assign(state, {data, error: null});
  } catch (error) {
    if (mine !== asked) return;
    state.error = String(error.message || error).slice(0, 300);
  }
  part.get('page').setAttribute('aria-busy', 'false');
  show();
  loadLaw();
}

async function loadLaw() {
  if (state.view !== 'size' || state.error || !state.data || !state.data.metric) return;
  const mine = ++askedLaw;
  state.lawBusy = true;
  show();
  const kept = new Set(shownRuns().map((run) => run.index));
  const exclude = state.data.runs
    .map((run, i) => (!kept.has(i) || (state.leaveOut && run.flags.length) ? i : -1)).filter((i) => i >= 0);
  try {
    const law = await ask('law', {...question(), version: state.data.version, exclude: exclude.join(',')});
    if (mine !== askedLaw) return;
    if (law.outdated && outdated < 3) { // a run has moved on since it was listed
      outdated++;
      load();
      return;
    }
    outdated = 0;
    state.law = law.outdated ? null : law;
  } catch (error) {
    if (mine !== askedLaw) return;
    state.error = String(error.message || error).slice(0, 300);
  }
  state.lawBusy = false;
  show();
}

// ---------------------------------------------------------------- log axes

/** The densest readable ticks of a log axis, `at` being the scale and `room` the least distance in pixels. */
function logTicks(low, high, at, room) {
  const inside = (list) => list.filter((v) => v >= low * 0.9999 && v <= high * 1.0001);
  const choices = [];
  if (high / low < 12) {
    const fine = 10 ** Math.floor(Math.log10((high - low) / 10));
    for (const step of [1, 2, 5, 10, 20, 50].map((m) => m * fine)) {
      const first = Math.ceil(low / step - 1e-9);
      const list = [];
      for (let i = first; i * step <= high * 1.0001 && list.length < 60; i++) list.push(i * step);
      choices.push({list, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9))});
    }
  }
  const decades = [];
  for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++) decades.push(e);
  for (const steps of [[1, 2, 5], [1, 3], [1]]) {
    choices.push({list: inside(decades.flatMap((e) => steps.map((m) => Number(`${m}e${e}`)))), digits: null});
  }
  for (const stride of [2, 3, 4, 6]) {
    choices.push({list: inside(decades.filter((e) => e % stride === 0).map((e) => Number(`1e${e}`))), digits: null});
  }
  const fits = ({list}) => list.length > 1 && list.every((v, i) => !i || Math.abs(at(v) - at(list[i - 1])) >= room);
  return choices.find(fits) || {list: inside([low, high]), digits: null};
}

/** A range on a log axis, a little wider than what it holds. */
function logRange(values, padding) {
  const low = Math.min(...values), high = Math.max(...values);
  const pad = Math.max((high / low) ** padding, 1.01);
  return [low / pad, high * pad];
}

/** Widens a range for the ends of intervals, but never so far that the measured part is squeezed flat. */
function widen([low, high], ends) {
  const most = Math.max(high / low, 1.2) ** 0.9;
  const inner = ends.filter((v) => v !== null);
  const range = [Math.max(Math.min(low, ...inner), low / most), Math.min(Math.max(high, ...inner), high * most)];
  return logRange(range, 0.03);
}

// ---------------------------------------------------------------- chart

/** Axes, grid and named vertical guides; returns what the marks need to be placed. */
function frame({xRange, yRange, xLabel, yLabel, guides}) {
  const box = part.get('chart');
  const width = Math.max(280, box.clientWidth), height = Math.round(Math.min(500, Math.max(330, width * 0.58)));
  const narrow = width < 520;
  const scale = ([low, high], from, to) => (v) =>
    from + ((Math.log(v) - Math.log(low)) / (Math.log(high) - Math.log(low))) * (to - from);
  const left = 62, right = narrow ? 12 : 20;
  const x = scale(xRange, left, width - right);
  const placed = placeLabels(guides.map((g) => ({...g, px: x(g.x)})), width);
  const edge = {left, right, top: 16 + 15 * placed.count, bottom: 46};
  const y = scale(yRange, height - edge.bottom, edge.top);
  const clip = s('clipPath', {id: 'inside'}, s('rect', {
    x: edge.left, y: edge.top, width: width - edge.left - edge.right, height: height - edge.top - edge.bottom}));
  const marks = s('g', {'clip-path': 'url(#inside)'});
  const svg = s('svg', {width, height, viewBox: `0 0 ${width} ${height}`, role: 'presentation'}, s('defs', {}, clip));
  const label = (list, px, py, anchor, text, kind = 'tick') =>
    list.append(s('text', {x: px, y: py, 'text-anchor': anchor, class: kind}, text));

  const yTicks = logTicks(...yRange, y, narrow ? 26 : 34);
  for (const v of yTicks.list) {
    svg.append(s('line', {x1: edge.left, x2: width - edge.right, y1: y(v), y2: y(v), class: 'grid'}));
    label(svg, edge.left - 8, y(v) + 4, 'end', yTicks.digits === null ? amount(v) : v.toFixed(yTicks.digits));
  }
  for (const v of logTicks(...xRange, x, narrow ? 38 : 46).list) {
    svg.append(s('line', {x1: x(v), x2: x(v), y1: edge.top, y2: height - edge.bottom, class: 'grid'}));
    label(svg, x(v), height - edge.bottom + 18, 'middle', amount(v));
  }
  label(svg, (edge.left + width - edge.right) / 2, height - 8, 'middle', xLabel, 'axis');
  const up = s('text', {class: 'axis', 'text-anchor': 'middle',
    transform: `translate(12 ${(edge.top + height - edge.bottom) / 2}) rotate(-90)`}, yLabel);
  svg.append(up);
  for (const g of placed.list) {
    const top = edge.top - 6 - 15 * (placed.count - 1 - g.row);
    svg.append(s('line', {x1: g.px, x2: g.px, y1: top + 3, y2: height - edge.bottom, class: `guide ${g.kind}`}));
    label(svg, g.at, top, 'middle', g.label, `guide-label ${g.kind}`);
  }
  svg.append(marks);
  return {svg, marks, x, y, width, height, edge, targets: []};
}

/** Joins labels of one place, and gives each the first row in which it touches no other. */
function placeLabels(guides, width) {
  const ends = [], apart = [];
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

const line = (f, xs, ys) => xs.map((v, i) => `${i ? 'L' : 'M'}${f.x(v).toFixed(1)} ${f.y(ys[i]).toFixed(1)}`).join('');

/** The part of a curve from one x to another. */
function between(curve, from, to) {
  const keep = curve.x.map((v) => v >= from * 0.9999 && v <= to * 1.0001);
  const cut = (list) => list.filter((_, i) => keep[i]);
  return {x: cut(curve.x), median: cut(curve.median), lower: cut(curve.lower), upper: cut(curve.upper)};
}

function drawBand(f, curve, color) {
  const known = curve.x.map((_, i) => i).filter((i) => curve.lower[i] !== null && curve.upper[i] !== null);
  if (known.length < 2) return;
  const top = known.map((i) => `${f.x(curve.x[i]).toFixed(1)} ${f.y(curve.upper[i]).toFixed(1)}`);
  const bottom = known.reverse().map((i) => `${f.x(curve.x[i]).toFixed(1)} ${f.y(curve.lower[i]).toFixed(1)}`);
  f.marks.append(s('path', {d: `M${top.join('L')}L${bottom.join('L')}Z`, class: 'band', color}));
}

/** All points of a run as one path: dots are strokes of no length with round ends, flagged ones triangles. */
function drawPoints(f, run, points, kind) {
  const size = kind.startsWith('final') ? 13 : 8.6;
  if (kind.includes('hollow') && !run.flagged) {
    for (const [px, py] of points) f.marks.append(s('circle', {cx: f.x(px), cy: f.y(py), r: 4.5, class: `points ${kind}`, color: run.color}));
    return;
  }
  const place = ([px, py]) => [f.x(px).toFixed(1), f.y(py).toFixed(1)];
  const d = points.map(place).map(([px, py]) =>
    run.flagged ? `M${px} ${py}m0-${0.55 * size}l${size / 2} ${0.9 * size}h-${size}z` : `M${px} ${py}h0.01`).join('');
  f.marks.append(s('path', {d, class: `points ${run.flagged ? 'flagged' : 'dot'} ${kind}`, color: run.color}));
}

/** A square lies on this run's own course, a wedge at the end of a longer schedule, a diamond on no schedule. */
function drawProjection(f, at, p, color, run = '') {
  const px = f.x(at), py = f.y(p.median), planned = p.name === 'planned end', kind = p.kind || '';
  const group = s('g', {class: `projection kind-${kind.replaceAll(' ', '-')}${planned ? ' planned' : ''}`, color});
  if (p.lower !== null && p.upper !== null) {
    const [low, high] = [f.y(p.lower), f.y(p.upper)];
    group.append(s('path', {d: `M${px} ${low}V${high}M${px - 4} ${low}h8M${px - 4} ${high}h8`, class: 'bar'}));
  }
  const square = planned || kind === 'as planned';
  const shape = square ? `M${px - 4.5} ${py - 4.5}h9v9h-9z` : kind === 'annealed' ? `M${px - 6.5} ${py - 4.5}h13l-6.5 11z`
    : `M${px} ${py - 6}l6 6l-6 6l-6-6z`;
  group.append(s('path', {d: shape, class: 'mark'}));
  f.marks.append(group);
  const lines = [p.name, `projected ${value(p.median)}`, assumes(kind), p.lower === null ? '' : `90 %: ${interval(p)}`, `at ${amount(at)}`];
  f.targets.push({px, py, lines: lines.filter(Boolean), run, main: true});
}

/** Where the chosen run's curve enters another region: a line with a name, and a shade beside the power law. */
function drawRegions(f, run) {
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

function drawData(runs, selected) {
  const metric = state.data.metric, drawn = runs.filter((run) => run.points.length);
  if (!drawn.length) return null;
  const projections = selected ? selected.projections.filter((p) => !state.near || p.kind !== 'annealed') : [];
  const pointsX = drawn.flatMap((run) => run.points.map((p) => p[0]));
  const xRange = logRange([...pointsX, ...projections.map((p) => p.data)], 0.03);
  const curve = selected && selected.curve ? between(selected.curve, xRange[0], xRange[1]) : null;
  const values = [...drawn.flatMap((run) => run.points.map((p) => p[1])), ...projections.map((p) => p.median),
    ...(curve ? curve.median : [])];
  const ends = projections.flatMap((p) => [p.lower, p.upper]);
  const yRange = widen(logRange(values, 0.05), ends);
  const f = frame({
    xRange, yRange, xLabel: state.data.data_label, yLabel: metric,
    guides: projections.map((p) => ({x: p.data, label: p.kind === 'annealed' ? `${p.name} annealed` : p.name, kind: p.name === 'planned end' ? 'strong' : ''})),
  });
  if (selected && selected.regions) drawRegions(f, selected);
  const crowd = drawn.length > 40 ? ' crowd' : '';
  for (const run of [...drawn.filter((r) => r !== selected), ...(selected ? [selected] : [])]) {
    const mine = run === selected, kind = (mine ? 'selected' : 'other') + crowd;
    const end = run.points.length ? run.points[run.points.length - 1][0] : 0;
    if (mine && curve) drawBand(f, curve, run.color);
    if (run.curve) {
      const inside = between(run.curve, xRange[0], end), beyond = between(run.curve, end, xRange[1]);
      if (inside.x.length && beyond.x.length && beyond.x[0] > inside.x[inside.x.length - 1]) {
        beyond.x.unshift(inside.x[inside.x.length - 1]);
        beyond.median.unshift(inside.median[inside.median.length - 1]);
      }
      const far = s('path', {d: line(f, beyond.x, beyond.median), class: `law beyond ${kind}`, color: run.color});
      f.marks.append(far, s('path', {d: line(f, inside.x, inside.median), class: `law ${kind}`, color: run.color}));
    }
    drawPoints(f, run, run.points, kind);
    for (const [px, py] of run.points) {
      f.targets.push({px: f.x(px), py: f.y(py), run: run.name, main: mine,
        lines: [run.short, `${metric} ${value(py)}`, `at ${amount(px)} ${state.data.data_label}`]});
    }
  }
  const last = (p) => p.name === 'planned end'; // drawn over the others
  if (selected) for (const p of [...projections].sort((a, b) => last(a) - last(b))) drawProjection(f, p.data, p, selected.color, selected.name);
  if (curve) f.readout = {curve, lines: (i) => [selected.short, `law ${value(curve.median[i])}`,
    interval({lower: curve.lower[i], upper: curve.upper[i]}) && `90 %: ${interval({lower: curve.lower[i], upper: curve.upper[i]})}`,
    `at ${amount(curve.x[i])}`].filter(Boolean)};
  return f;
}

function drawSize(runs, selected) {
  const {law, data} = state;
  const byName = new Map(runs.map((run) => [run.name, run]));
  const finals = law ? law.finals.filter((final) => byName.has(final.name)) : [];
  if (!finals.length) return null;
  const {projections} = law;
  const xRange = logRange([...finals.map((p) => p.params), ...projections.map((p) => p.params)], 0.05);
  const curve = law.by_size ? between(law.by_size, xRange[0], xRange[1]) : null;
  const values = [...finals.map((p) => p.value), ...projections.map((p) => p.median), ...(curve ? curve.median : [])];
  const f = frame({
    xRange, yRange: widen(logRange(values, 0.08), projections.flatMap((p) => [p.lower, p.upper])),
    xLabel: 'trainable parameters', yLabel: `${data.metric} at ${law.at_label}`,
    guides: projections.map((p) => ({x: p.params, label: p.name, kind: ''})),
  });
  if (curve && curve.x.length > 1) {
    drawBand(f, curve, 'var(--law)');
    const last = Math.max(...finals.filter((p) => p.used).map((p) => p.params));
    const inside = between(curve, xRange[0], last), beyond = between(curve, last, xRange[1]);
    for (const [piece, kind] of [[beyond, 'law beyond joint'], [inside, 'law joint']]) {
      f.marks.append(s('path', {d: line(f, piece.x, piece.median), class: kind, color: 'var(--law)'}));
    }
    f.readout = {curve, lines: (i) => ['law across the runs', `${data.metric} ${value(curve.median[i])}`,
      `90 %: ${interval({lower: curve.lower[i], upper: curve.upper[i]})}`, `at ${amount(curve.x[i])} parameters`]};
  }
  for (const final of finals) {
    const run = byName.get(final.name);
    const kind = `final${final.measured ? '' : ' hollow'}${run === selected ? ' selected' : ''}${final.used ? '' : ' unused'}`;
    if (run === selected) f.marks.append(s('circle', {cx: f.x(final.params), cy: f.y(final.value), r: 9, class: 'ring', color: run.color}));
    drawPoints(f, run, [[final.params, final.value]], kind);
    f.targets.push({px: f.x(final.params), py: f.y(final.value), run: run.name, main: true, lines: [
      run.short, `${data.metric} ${value(final.value)}${final.measured ? '' : ' (projected)'}`,
      `${amount(final.params)} parameters`, ...(final.used ? [] : ['not in the law'])]});
  }
  for (const p of projections) drawProjection(f, p.params, p, 'var(--law)');
  return f;
}

// ---------------------------------------------------------------- pointer and keyboard

let cursor = -1;

function pointAt(f, px, py) {
  let best = null, least = 18 ** 2;
  for (const t of f.targets) {
    const distance = (t.px - px) ** 2 + (t.py - py) ** 2 - (t.main ? 40 : 0);
    if (distance <= least) [best, least] = [t, distance]; // of equals the last, which is drawn on top
  }
  if (best || !f.readout || px < f.edge.left || px > f.width - f.edge.right) return best;
  const {curve, lines} = f.readout;
  let near = 0;
  curve.x.forEach((v, i) => { if (Math.abs(f.x(v) - px) < Math.abs(f.x(curve.x[near]) - px)) near = i; });
  if (Math.abs(f.x(curve.x[near]) - px) > 40) return null;
  return {px: f.x(curve.x[near]), py: f.y(curve.median[near]), lines: lines(near), run: '', rule: true};
}

function showTip(f, target, speak = false) {
  const tip = part.get('tip'), focus = part.get('focus');
  tip.hidden = !target;
  focus?.remove();
  if (!target) return;
  const rule = target.rule ? [s('line', {x1: target.px, x2: target.px, y1: f.edge.top, y2: f.height - f.edge.bottom, class: 'rule'})] : [];
  const mark = s('g', {class: 'focus'}, ...rule, s('circle', {cx: target.px, cy: target.py, r: 8}));
  part.set('focus', mark);
  f.svg.append(mark);
  tip.replaceChildren(...target.lines.map((text, i) => h(i ? 'div' : 'strong', {}, text)));
  const left = target.px + 14 + tip.offsetWidth > f.width ? target.px - 14 - tip.offsetWidth : target.px + 14;
  tip.style.left = `${Math.max(0, left)}px`;
  tip.style.top = `${Math.max(0, Math.min(f.height - tip.offsetHeight, target.py - tip.offsetHeight / 2))}px`;
  if (speak) part.get('live').textContent = target.lines.join(', ');
}

function onKey(event) {
  const f = part.get('frame');
  if (!f) return;
  const stops = f.targets.filter((t) => t.main).sort((a, b) => a.px - b.px);
  if (event.key === 'Escape') cursor = -1;
  else if (event.key === 'ArrowRight') cursor = Math.min(stops.length - 1, cursor + 1);
  else if (event.key === 'ArrowLeft') cursor = Math.max(0, cursor - 1);
  else if (event.key === 'Home') cursor = 0;
  else if (event.key === 'End') cursor = stops.length - 1;
  else if (event.key === 'ArrowUp' || event.key === 'ArrowDown') {
    const runs = shownRuns(), here = runs.findIndex((run) => run.name === state.selected);
    const next = runs[here + (event.key === 'ArrowDown' ? 1 : -1)];
    if (next) select(next.name);
    event.preventDefault();
    return;
  } else return;
  event.preventDefault();
  showTip(f, stops[cursor] || null, true);
}

// ---------------------------------------------------------------- page

function select(name) {
  state.selected = name;
  cursor = -1;
  show();
}

const swatch = (run) => s('svg', {class: 'swatch', width: 22, height: 12, 'aria-hidden': 'true', color: run.color},
  s('path', {d: 'M1 6h20', class: 'law selected'}),
  s('path', {d: run.flagged ? 'M11 1.5l4.4 7.6h-8.8z' : 'M11 6h0.01', class: `points ${run.flagged ? 'flagged' : 'dot'}`}));

function showLegend(runs, selected) {
  const few = runs.length <= LEGEND_MAX;
  const listed = few ? runs : runs.filter((run) => run === selected || run.flagged).slice(0, LEGEND_MAX);
  const entries = listed.map((run) => h('li', {}, h('button', {
    type: 'button', class: 'entry', title: run.name, 'aria-pressed': String(run === selected),
    'data-key': `legend ${run.name}`, onclick: () => select(run.name)}, swatch(run), h('span', {}, run.short))));
  if (!few) {
    entries.push(h('li', {class: 'ramp'}, 'smallest model', h('i', {'aria-hidden': 'true'}), 'largest'));
  }
  part.get('legend').replaceChildren(...entries);
}

/** What the chart's marks mean; only those that are on it. */
function showKey() {
  const marks = state.view === 'data'
    ? [['dot', 'measured', '.dot'], ['flag', 'flagged run', '.flagged'], ['line', 'fitted law', '.law'], ['band', '90 % interval', '.band'],
      ['end', 'as planned', '.kind-as-planned, .planned:not(.kind-not-annealed, .kind-schedule-unknown)'], ['wedge', 'annealed: longer, with the schedule stretched', '.kind-annealed'],
      ['mark', 'projection, not annealed', '.kind-not-annealed'], ['mark', 'projection, schedule unknown', '.kind-schedule-unknown'], ['mark', 'projection', '.kind-:not(.planned)'], ['region', 'small data or irreducible', '.region-shade']]
    : [['dot', 'measured', '.dot'], ['hollow', 'not there yet: projected', '.hollow'], ['flag', 'flagged run', '.flagged'],
      ['line', 'law across the runs', '.law'], ['band', '90 % interval', '.band'], ['mark', 'larger model', '.projection']];
  const drawn = marks.filter(([, , mark]) => part.get('chart').querySelector(mark));
  part.get('key').replaceChildren(...drawn.map(([kind, text]) => h('span', {class: `key key-${kind}`}, text)));
}

function showChart(runs, selected) {
  const box = part.get('chart'), f = (state.view === 'data' ? drawData : drawSize)(runs, selected);
  const wait = state.view === 'size' && state.lawBusy && !state.law;
  const none = wait ? 'Fitting the law across the runs …' : 'No run here can be drawn yet.';
  part.set('frame', f);
  part.delete('focus');
  part.get('tip').hidden = true;
  box.replaceChildren(f ? f.svg : h('p', {class: 'hint tall'}, none), part.get('tip'));
  box.setAttribute('aria-busy', String(state.view === 'size' && state.lawBusy));
  const {metric, data_label: label} = state.data;
  const what = state.view === 'data' ? `${metric} against ${label}` : `${metric} against model size`;
  part.get('chart-title').textContent = what;
  box.setAttribute('aria-label', `${what}, log axes, ${runs.length} runs. Arrow keys read the values.`);
  const law = state.view === 'size' ? state.law : null;
  part.get('notice').hidden = !(law && law.status !== 'ok');
  part.get('notice').textContent = law ? law.sentence || words(law.status) : '';
}

const figures = (rows) => h('table', {class: 'figures'}, h('tbody', {}, ...rows.map(([name, at, number, range, kind]) =>
  h('tr', {}, h('th', {scope: 'row'}, name, h('small', {}, at), kind ? h('small', {class: 'kind'}, kind) : ''), h('td', {}, number, h('small', {}, range))))));
const list = (title, kind, items) => (items.length
  ? h('section', {class: kind}, h('h3', {}, title), h('ul', {}, ...items.map((item) => h('li', {}, item)))) : null);
const formula = (law, parameters, weight) => h('p', {class: 'formula'}, weight === null ? words(law) : `${words(law)}, weight ${weight.toFixed(2)}`,
  h('small', {}, parameters.map(([name, v]) => `${name} = ${v === null ? '–' : Number(v.toPrecision(4))}`).join('   ')));

function showRun(run) {
  const {data_label: label, metric} = state.data;
  if (!run) return [h('p', {class: 'hint'}, 'No run passes the filter.')];
  const facts = [run.params === null ? null : `${amount(run.params)} parameters`, words(run.state)].filter(Boolean).join(' · ');
  const rows = run.last === null ? [] : [['now', amount(run.data), value(run.last), 'measured']];
  for (const p of run.projections) rows.push([p.name, amount(p.data), value(p.median), interval(p), p.kind]);
  return [
    h('h2', {title: run.name}, swatch(run), run.name), h('p', {class: 'facts'}, facts),
    run.headline ? h('p', {class: 'headline'}, run.headline) : null,
    ...run.notes.map((note) => h('p', {class: 'facts after'}, note)),
    run.regions && run.regions.sentence ? h('p', {class: 'facts after'}, run.regions.sentence) : null,
    list('Flagged', 'doubts flags', run.flags.map((flag) => flag.message)),
    run.status === 'ok' ? null : h('p', {class: 'notice'}, run.sentence || words(run.status)),
    rows.length ? h('h3', {}, `${metric}, with the 90 % interval`) : null, rows.length ? figures(rows) : null,
    list('Reasons to doubt it', 'doubts', run.doubts),
    run.laws.length || run.excluded.length ? h('details', {}, h('summary', {}, 'Laws and points'),
      run.status === 'ok' && run.sentence ? h('p', {}, run.sentence) : null,
      ...run.laws.map((fit) => formula(fit.law, fit.parameters, fit.weight)),
      ...run.excluded.map(([reason, n]) => h('p', {}, `${n} points left out: ${reason}`)),
      h('p', {}, `x is ${label}.`)) : null,
  ];
}

function showLaw(runs) {
  const {law, data} = state;
  if (!law) return [h('h2', {}, 'Across the runs'), h('p', {class: 'hint'}, state.lawBusy ? 'Fitting …' : 'Nothing to fit.')];
  const shown = new Set(runs.map((run) => run.name));
  const short = shortNames(data.runs.map((run) => run.name));
  const out = law.left_out.filter(([name]) => shown.has(name)).map(([name, reason]) => `${short.get(name)}: ${reason}`);
  const rows = law.projections.map((p) => [p.name, amount(p.params), value(p.median), interval(p)]);
  return [
    h('h2', {}, 'Law across the runs'),
    h('p', {class: 'facts'}, law.at_label === null ? '' : `at ${law.at_label}`),
    law.headline ? h('p', {class: 'headline'}, law.headline) : null,
    law.by_size ? null : h('p', {class: 'headline'}, 'There is no law to draw yet: the dots are the errors as they are.'),
    law.status === 'ok' && law.sentence ? h('p', {class: 'facts after'}, law.sentence) : null,
    rows.length ? h('h3', {}, `${data.metric} by parameters, with the 90 % interval`) : null, rows.length ? figures(rows) : null,
    list('Reasons to doubt it', 'doubts', law.doubts), list('Left out of the law', 'doubts', out.slice(0, 50)),
    law.law ? h('details', {}, h('summary', {}, 'Law'), formula(law.law, law.parameters, null)) : null,
  ];
}

const COLUMNS = [
  ['name', 'Run', (run) => run.short], ['params', 'Parameters', (run) => run.params], ['data', 'Data seen', (run) => run.data],
  ['last', 'Now', (run) => run.last], ['planned', 'Planned end', (run) => named(run, 'planned end')?.median ?? null],
  ['ten', 'At 10x the data', (run) => named(run, '10x')?.median ?? null],
  ['region', 'Region now', (run) => run.regions?.now ?? null], ['status', 'Status', (run) => (run.flagged ? 'flagged' : run.status)],
];

function showTable(runs, selected) {
  const read = COLUMNS.find(([key]) => key === state.sort)[2], sign = state.down ? -1 : 1;
  const compare = (a, b) => {
    const [va, vb] = [read(a), read(b)];
    if (va === null || vb === null) return (va === null) - (vb === null); // unknown goes last either way
    return sign * (typeof va === 'string' ? va.localeCompare(vb, undefined, {numeric: true}) : va - vb);
  };
  const sortBy = (key) => { Object.assign(state, {down: state.sort === key && !state.down, sort: key}); show(); };
  part.get('head').replaceChildren(...COLUMNS.map(([key, label]) => h('th', {
    scope: 'col', class: key, 'aria-sort': state.sort !== key ? 'none' : state.down ? 'descending' : 'ascending'},
  h('button', {type: 'button', 'data-key': `sort ${key}`, onclick: () => sortBy(key)}, label))));
  const projected = (p) => (p ? [value(p.median), h('small', {}, interval(p)), p.kind ? h('small', {class: 'kind'}, p.kind) : ''] : ['–']);
  part.get('rows').replaceChildren(...[...runs].sort(compare).map((run) => {
    const problem = run.flags[0]?.message || (run.status === 'ok' ? '' : run.sentence);
    const chip = run.flagged ? ['bad', '▲ flagged'] : run.status === 'ok' ? ['good', 'ok'] : ['wait', words(run.status)];
    const cell = (key, ...content) => h('td', {class: key, 'data-label': COLUMNS.find(([k]) => k === key)[1]}, ...content);
    return h('tr', {'aria-current': run === selected ? 'true' : null, onclick: () => select(run.name)},
      h('th', {scope: 'row', class: 'name'}, h('button', {type: 'button', title: run.name, 'data-key': `row ${run.name}`}, swatch(run), h('span', {}, run.short))),
      cell('params', amount(run.params)), cell('data', amount(run.data)), cell('last', value(run.last)),
      cell('planned', ...projected(named(run, 'planned end'))), cell('ten', ...projected(named(run, '10x'))),
      cell('region', run.regions ? run.regions.now : '–'),
      cell('status', h('b', {class: `chip ${chip[0]}`}, chip[1]), h('span', {class: 'run-state'}, words(run.state)), problem ? h('small', {title: problem}, problem) : null));
  }));
  const {unreadable, hidden, track} = state.data;
  part.get('track').hidden = !track;
  part.get('track').textContent = track || '';
  part.get('unread').replaceChildren(
    hidden ? h('p', {}, `${hidden} more runs are not shown: the tab shows at most ${state.data.runs.length + unreadable.length}.`) : '',
    unreadable.length ? h('details', {}, h('summary', {}, `${unreadable.length} run${unreadable.length > 1 ? 's' : ''} could not be read`),
      h('ul', {}, ...unreadable.map(([name, reason]) => h('li', {}, h('code', {}, name), ` ${reason}`)))) : '');
}

function options(name, values, labels, chosen) {
  const field = part.get(name), select = field.querySelector('select');
  field.hidden = values.length < 2;
  select.replaceChildren(...values.map((v, i) => h('option', {value: v, selected: v === chosen}, labels[i])));
}

function show() {
  const focused = document.activeElement?.dataset?.key;
  const {data, error} = state, empty = data && !data.metric && !error;
  part.get('loading').hidden = Boolean(data || error);
  part.get('error').hidden = !error;
  part.get('error-text').textContent = error || '';
  part.get('empty').hidden = !empty;
  part.get('body').hidden = part.get('controls').hidden = !data || !data.metric;
  if (!data || !data.metric) return;
  options('metric', data.metrics, data.metrics, data.metric);
  options('study', data.studies, data.studies, data.study);
  options('axis', data.axes, data.axis_labels.map(([, label]) => label), data.axis);
  const runs = shownRuns(), selected = pickRun(runs);
  state.selected = selected ? selected.name : state.selected;
  part.get('title').textContent = data.metric;
  part.get('count').textContent = `${runs.length === data.runs.length ? '' : `${runs.length} of `}${data.runs.length} run${data.runs.length === 1 ? '' : 's'} · ${data.study ?? ''}`;
  for (const view of ['data', 'size']) part.get(view).setAttribute('aria-pressed', String(state.view === view));
  part.get('near').hidden = state.view !== 'data' || !selected || !selected.projections.some((p) => p.kind === 'annealed');
  part.get('leave').hidden = state.view !== 'size' || !data.runs.some((run) => run.flags.length);
  showLegend(runs, selected);
  showChart(runs, selected);
  showKey();
  part.get('detail').replaceChildren(...(state.view === 'data' ? showRun(selected) : showLaw(runs)).filter(Boolean));
  showTable(runs, selected);
  if (focused) [...document.querySelectorAll('[data-key]')].find((element) => element.dataset.key === focused)?.focus();
}

/** Makes an element that never goes away, and remembers it by name. */
function fixed(name, element) {
  part.set(name, element);
  return element;
}

function build() {
  const choose = (name, label) => fixed(name, h('label', {class: 'field', hidden: true}, h('span', {}, label),
    h('select', {onchange: (event) => { state[name] = event.target.value; state.law = null; load(); }})));
  const view = (name, label) => fixed(name, h('button', {type: 'button', onclick: () => { state.view = name; cursor = -1; if (name === 'data') show(); else loadLaw(); }}, label));
  const code = 'from foretrain.lightning import ScalingLawMonitor\n'
    + 'trainer = Trainer(callbacks=[ScalingLawMonitor(monitor="val_loss")])\n'
    + 'trainer.fit(model, datamodule)';
  const chart = fixed('chart', h('div', {class: 'chart', tabindex: '0', role: 'group', onkeydown: onKey,
    onpointermove: (event) => {
      const f = part.get('frame'), at = part.get('chart').getBoundingClientRect();
      if (f) showTip(f, pointAt(f, event.clientX - at.left, event.clientY - at.top));
    },
    onpointerleave: () => { if (part.get('frame')) showTip(part.get('frame'), null); },
    onclick: (event) => {
      const f = part.get('frame'), at = part.get('chart').getBoundingClientRect();
      const target = f && pointAt(f, event.clientX - at.left, event.clientY - at.top);
      if (target && target.run) select(target.run);
    }}));
  fixed('tip', h('div', {class: 'tip', hidden: true}));
  return fixed('page', h('main', {id: 'scaling', 'aria-busy': 'true'},
    h('header', {}, h('div', {class: 'heading'}, fixed('title', h('h1', {}, 'Scaling')), fixed('count', h('p', {}))),
      fixed('controls', h('div', {class: 'controls', hidden: true}, choose('metric', 'Metric'), choose('study', 'Study'), choose('axis', 'Data axis'),
        h('label', {class: 'field'}, h('span', {}, 'Filter runs'), fixed('filter', h('input', {type: 'search', placeholder: 'regex', spellcheck: 'false', maxlength: '200',
          oninput: (event) => {
            state.filter = event.target.value;
            show();
            clearTimeout(typing); // one law when the typing stops, not one a letter
            typing = setTimeout(loadLaw, 300);
          }}))),
        h('div', {class: 'field'}, h('span', {id: 'against'}, 'Against'),
          h('div', {class: 'switch', role: 'group', 'aria-labelledby': 'against'}, view('data', 'Data'), view('size', 'Model size')))))),
    fixed('error', h('section', {class: 'state', role: 'alert', hidden: true}, h('h2', {}, 'The runs could not be read'), fixed('error-text', h('p', {})),
      h('button', {type: 'button', class: 'retry', onclick: load}, 'Try again'))),
    fixed('loading', h('section', {class: 'state'}, h('p', {}, 'Reading the runs …'))),
    fixed('empty', h('section', {class: 'state', hidden: true}, h('h2', {}, 'No scaling laws here yet'),
      h('p', {}, 'Add the monitor to a training run that logs to TensorBoard: its validations appear here as they are written.'), h('pre', {}, h('code', {}, code)))),
    fixed('body', h('div', {class: 'body', hidden: true},
      h('section', {class: 'card plot'}, h('div', {class: 'card-head'}, fixed('chart-title', h('h2', {})),
        fixed('leave', h('label', {class: 'check', hidden: true}, h('input', {type: 'checkbox', checked: true,
          onchange: (event) => { state.leaveOut = event.target.checked; loadLaw(); }}), ' Leave flagged runs out of the law')),
        fixed('near', h('label', {class: 'check', hidden: true}, h('input', {type: 'checkbox',
          onchange: (event) => { state.near = event.target.checked; show(); }}), ' Only up to the planned end'))),
      fixed('legend', h('ul', {class: 'legend', 'aria-label': 'Runs'})), fixed('notice', h('p', {class: 'notice', hidden: true})), chart, fixed('key', h('p', {class: 'keys'}))),
      fixed('detail', h('aside', {class: 'card detail', 'aria-label': 'In numbers'})),
      h('section', {class: 'card runs'}, h('table', {}, h('caption', {}, 'Runs'), h('thead', {}, fixed('head', h('tr', {}))), fixed('rows', h('tbody', {}))), fixed('track', h('p', {class: 'track', hidden: true})), fixed('unread', h('div', {class: 'unread'}))))),
    fixed('live', h('p', {class: 'unseen', role: 'status', 'aria-live': 'polite'}))));
}

/** Follows TensorBoard: its messages arrive over a channel that the frame opens. */
function listen() {
  const channel = new MessageChannel();
  channel.port1.onmessage = (event) => {
    const {type, id, isReply} = JSON.parse(event.data);
    if (isReply) return;
    if (type === 'experimental.DataReloaded') load();
    channel.port1.postMessage(JSON.stringify({type, id, payload: null, error: null, isReply: true}));
  };
  window.parent.postMessage('experimental.bootstrap', window.location.origin, [channel.port2]);
}

/** Follows TensorBoard's dark mode, which it does not pass on to frames; else the system's. */
function theme() {
  const system = window.matchMedia('(prefers-color-scheme: dark)');
  const apply = (dark) => { document.documentElement.dataset.theme = dark ? 'dark' : 'light'; };
  try {
    const host = window.parent.document.body;
    if (window.parent === window) throw new Error('no host');
    const follow = () => apply(host.classList.contains('dark-mode'));
    new MutationObserver(follow).observe(host, {attributes: true, attributeFilter: ['class']});
    follow();
  } catch {
    system.addEventListener('change', () => apply(system.matches));
    apply(system.matches);
  }
}

/** Called once by TensorBoard when the tab is opened. */
export async function render() {
  try {
    document.documentElement.lang = 'en';
    document.title = 'Scaling';
    if (window.frameElement) window.frameElement.title = 'Scaling';
    const style = h('link', {rel: 'stylesheet', href: new URL('./style.css', import.meta.url).href});
    const styled = new Promise((done) => { style.onload = style.onerror = done; });
    document.head.append(style);
    theme();
    await styled;
    document.body.replaceChildren(build());
    let width = 0;
    new ResizeObserver(([entry]) => {
      if (Math.abs(entry.contentRect.width - width) < 1) return;
      width = entry.contentRect.width;
      if (width && state.data && state.data.metric) show();
    }).observe(part.get('chart'));
    window.addEventListener('resize', () => { if (stale && window.innerHeight) load(); });
    listen();
    await load();
  } catch (error) { // else TensorBoard would show an empty frame
    document.body.textContent = `The Scaling tab failed: ${error.message}`;
  }
}
