/**
 * The Scaling tab. It asks the server for JSON and draws it: every number and every sentence on a law comes
 * from Python; here is only layout. All modules are named here, so that the browser fetches them at once.
 */

import './axes.js';
import './download.js';
import './marks.js';
import './touch.js';
import {Panel} from './chart.js';
import {MOST_LAWS, curvesPanels, runDetail} from './curves.js';
import {fixed, h, part, swatch} from './dom.js';
import {flagsTable} from './flags.js';
import {frontierDetail, frontierPanels} from './frontier.js';
import {oneRunDetail, runPanels} from './run.js';
import {answers, askFor, askRuns, forget} from './server.js';
import {sizeDetail, sizePanels} from './size.js';
import {pickRun, readLink, shownRuns, state, writeLink} from './state.js';
import {showTable} from './table.js';
import {asked, buildTargets, showTargets, writeTargets} from './targets.js';

/** @typedef {import('./dom.js').Run} Run */

const LEGEND_MAX = 12;
const CODE = 'from foretrain.lightning import ScalingLawMonitor\n'
  + 'trainer = Trainer(callbacks=[ScalingLawMonitor(monitor="val_loss")])\n'
  + 'trainer.fit(model, datamodule)';

/** @type {Record<string, {label: string, panels: (runs: Run[], run: Run|null) => any[], detail: (runs: Run[], run: Run|null) => any[]}>} */
const VIEWS = {
  curves: {label: 'Curves', panels: curvesPanels, detail: (_, run) => runDetail(run)},
  size: {label: 'Model size', panels: sizePanels, detail: sizeDetail},
  frontier: {label: 'Frontier', panels: frontierPanels, detail: frontierDetail},
  run: {label: 'Run', panels: (_, run) => runPanels(run), detail: (_, run) => oneRunDetail(run)},
  flags: {label: 'Flags', panels: () => [], detail: () => []},
};

/** The charts by name: they are kept, so that focus and zoom outlive a reload. @type {Map<string, Panel>} */
const panels = new Map();
let stale = false, typing = 0;

// ---------------------------------------------------------------- what happens

/** @param {Promise<any>|null} styled until when nothing can be drawn */
async function load(styled = null) {
  if (window.innerHeight === 0) { // another tab is in front: TensorBoard keeps this frame, so idle
    stale = true;
    return;
  }
  stale = false;
  part.get('page').setAttribute('aria-busy', 'true');
  if (!await askRuns()) return;
  await styled;
  part.get('page').setAttribute('aria-busy', 'false');
  refresh();
  if (styled) performance.mark('foretrain: drawn'); // for benchmarks/tab.py
}

/** Shows what is there, and asks for what the view needs besides. */
function refresh() {
  show();
  if (!state.data || !state.data.metric || state.error) return;
  writeLink();
  const runs = shownRuns(), run = pickRun(runs);
  if (state.view === 'size') askFor('law', {data: state.targets.data}, show, load);
  const wanted = state.view === 'run' || (state.view === 'curves' && runs.length <= MOST_LAWS); // for the marks of its schedule
  if (wanted && run) askFor('run', {run: run.name}, show, load, state.view === 'curves');
  if (state.view === 'frontier') askFor('frontier', {}, afterFrontier, load);
  askTargets(run);
}

/** @param {Run|null} run */
function askTargets(run) {
  const query = asked(run);
  if (query && state.view !== 'flags') askFor('answer', query, show, load);
}

/** The budget that is asked about first is known once the frontier is. */
function afterFrontier() {
  show();
  if (answers.frontier && state.view === 'frontier') askTargets(pickRun(shownRuns()));
}

/** @param {string} name */
function select(name) {
  Object.assign(state, {selected: name, chosen: true});
  if (state.view === 'run') panels.forEach((panel) => { panel.zoom = null; });
  panels.forEach((panel) => { panel.cursor = -1; });
  refresh();
}

/** @param {number} by */
function next(by) {
  const runs = shownRuns(), here = runs.findIndex((run) => run.name === state.selected), found = runs[here + by];
  if (found) select(found.name);
}

/** @param {string} view */
function turnTo(view) {
  state.view = view;
  panels.forEach((panel) => Object.assign(panel, {cursor: -1, zoom: null}));
  refresh();
}

/** @param {string} name @param {string} chosen */
function choose(name, chosen) {
  state[name] = chosen;
  panels.forEach((panel) => { panel.zoom = null; });
  if (name !== 'along') {
    forget();
    if (name !== 'axis') Object.assign(state, {axis: null, along: null, ...(name === 'metric' ? {} : {selected: null, chosen: false})});
    else state.along = null;
  }
  load();
}

// ---------------------------------------------------------------- page

/** @param {Run[]} runs @param {Run|null} selected */
function showLegend(runs, selected) {
  const few = runs.length <= LEGEND_MAX;
  const listed = few ? runs : runs.filter((run) => run === selected || run.flagged).slice(0, LEGEND_MAX);
  const entries = listed.map((run) => h('li', {}, h('button', {
    type: 'button', class: 'entry', title: run.name, 'aria-pressed': String(run === selected),
    'data-key': `legend ${run.name}`, onclick: () => select(run.name)}, swatch(run), h('span', {}, run.short))));
  if (!few) entries.push(h('li', {class: 'ramp'}, 'smallest model', h('i', {'aria-hidden': 'true'}), 'largest'));
  part.get('legend').replaceChildren(...entries);
}

/** @param {string} name @param {string[]} values @param {string[]} labels @param {string} chosen @param {boolean} wanted */
function options(name, values, labels, chosen, wanted = true) {
  const field = part.get(name), choice = field.querySelector('select');
  field.hidden = values.length < 2 || !wanted;
  choice.replaceChildren(...values.map((v, i) => h('option', {value: v, selected: v === chosen}, labels[i])));
}

/** @param {Run[]} runs @param {Run|null} selected */
function showPanels(runs, selected) {
  const wanted = VIEWS[state.view].panels(runs, selected).map((spec) => {
    if (!panels.has(spec.name)) {
      panels.set(spec.name, new Panel(spec.name, {select, next, redraw: drawPanels}));
    }
    return /** @type {[Panel, any]} */ ([panels.get(spec.name), spec]);
  });
  const box = part.get('panels'), elements = wanted.map(([panel]) => panel.element);
  if (box.childElementCount !== elements.length || elements.some((element, i) => box.children[i] !== element)) box.replaceChildren(...elements);
  if (wanted.length) wanted[0][0].above.replaceChildren(part.get('switches'), part.get('legend'), part.get('notice'));
  for (const [panel, spec] of wanted) panel.show(spec);
}

/** Draws the charts anew, at another zoom or width. */
function drawPanels() {
  const runs = shownRuns();
  showPanels(runs, pickRun(runs));
}

function show() {
  const focused = /** @type {any} */ (document.activeElement)?.dataset?.key;
  const {data, error, view} = state, empty = data && !data.metric && !error;
  part.get('loading').hidden = Boolean(data || error);
  part.get('error').hidden = !error;
  part.get('error-text').textContent = error || '';
  part.get('empty').hidden = !empty;
  part.get('body').hidden = part.get('controls').hidden = part.get('views').hidden = !data || !data.metric;
  if (!data || !data.metric) return;
  options('metric', data.metrics, data.metrics, data.metric);
  options('study', data.studies, data.studies, data.study);
  options('axis', data.axes, data.axis_labels.map((/** @type {string[]} */ [, label]) => label), data.axis);
  const along = data.along_labels;
  options('along', along.map((/** @type {string[]} */ [name]) => name), along.map((/** @type {string[]} */ [, label]) => label), data.along, view === 'curves');
  const runs = shownRuns(), selected = pickRun(runs);
  if (selected && !state.chosen) state.selected = selected.name;
  part.get('title').textContent = data.metric;
  part.get('count').textContent = `${runs.length === data.runs.length ? '' : `${runs.length} of `}${data.runs.length} run${data.runs.length === 1 ? '' : 's'} · ${data.study ?? ''}`;
  for (const name of Object.keys(VIEWS)) part.get(`view-${name}`).setAttribute('aria-pressed', String(view === name));
  part.get('near').hidden = !['curves', 'run'].includes(view) || !selected || !selected.projections.some((p) => p.kind === 'annealed');
  part.get('leave').hidden = !['size', 'frontier'].includes(view) || !data.runs.some((/** @type {Run} */ run) => run.leaves_out);
  const law = view === 'size' ? answers.law : null;
  part.get('notice').hidden = !(law && law.status !== 'ok');
  part.get('notice').textContent = law ? law.sentence || law.status.replaceAll('_', ' ') : '';
  const flags = view === 'flags';
  part.get('body').classList.toggle('whole', flags);
  part.get('main').hidden = part.get('side').hidden = part.get('runs').hidden = flags;
  part.get('flags').hidden = !flags;
  if (flags) part.get('flags').replaceChildren(...flagsTable(runs, {show, open: (name) => { state.view = 'run'; select(name); }}));
  const beside = part.get(['frontier', 'run'].includes(view) ? 'side' : 'main'); // the slider stands where the chart is not far
  if (part.get('ask').parentNode !== beside) beside.append(part.get('ask'));
  showLegend(runs, selected);
  showPanels(runs, selected);
  part.get('detail').replaceChildren(...VIEWS[view].detail(runs, selected).filter(Boolean));
  showTargets(selected);
  showTable(runs, selected, {select, show});
  if (focused) {
    const again = [...document.querySelectorAll('[data-key]')].find((element) => /** @type {any} */ (element).dataset.key === focused);
    /** @type {any} */ (again)?.focus();
  }
}

function build() {
  const selector = (/** @type {string} */ name, /** @type {string} */ label) => fixed(name, h('label', {class: 'field', hidden: true}, h('span', {}, label),
    h('select', {onchange: (/** @type {any} */ event) => choose(name, event.target.value)})));
  const filter = fixed('filter', h('input', {type: 'search', placeholder: 'regex', spellcheck: 'false', maxlength: '200',
    oninput: (/** @type {any} */ event) => {
      state.filter = event.target.value;
      show();
      clearTimeout(typing); // one law when the typing stops, not one a letter
      typing = setTimeout(refresh, 300);
    }}));
  const check = (/** @type {string} */ name, /** @type {string} */ label, /** @type {(on: boolean) => void} */ set) =>
    fixed(name, h('label', {class: 'check', hidden: true}, h('input', {type: 'checkbox', onchange: (/** @type {any} */ event) => { set(event.target.checked); refresh(); }}), ` ${label}`));
  fixed('switches', h('div', {class: 'switches'},
    check('leave', 'Leave flagged runs out of the law', (on) => { state.leaveOut = on; }),
    check('near', 'Only up to the planned end', (on) => { state.near = on; })));
  fixed('legend', h('ul', {class: 'legend', 'aria-label': 'Runs'}));
  fixed('notice', h('p', {class: 'notice', hidden: true}));
  return fixed('page', h('main', {id: 'scaling', 'aria-busy': 'true'},
    h('header', {}, h('div', {class: 'heading'}, fixed('title', h('h1', {}, 'Scaling')), fixed('count', h('p', {}))),
      fixed('controls', h('div', {class: 'controls', hidden: true}, selector('metric', 'Metric'), selector('study', 'Study'), selector('axis', 'Data axis'),
        selector('along', 'Horizontal axis'), h('label', {class: 'field'}, h('span', {}, 'Filter runs'), filter)))),
    fixed('views', h('nav', {class: 'views switch', 'aria-label': 'Views', hidden: true}, ...Object.entries(VIEWS).map(([name, {label}]) =>
      fixed(`view-${name}`, h('button', {type: 'button', onclick: () => turnTo(name)}, label))))),
    fixed('error', h('section', {class: 'state', role: 'alert', hidden: true}, h('h2', {}, 'The runs could not be read'), fixed('error-text', h('p', {})),
      h('button', {type: 'button', class: 'retry', onclick: () => { state.error = null; load(); }}, 'Try again'))),
    fixed('loading', h('section', {class: 'state'}, h('p', {}, 'Reading the runs …'))),
    fixed('empty', h('section', {class: 'state', hidden: true}, h('h2', {}, 'No scaling laws here yet'),
      h('p', {}, 'Add the monitor to a training run that logs to TensorBoard: its validations appear here as they are written.'), h('pre', {}, h('code', {}, CODE)))),
    fixed('body', h('div', {class: 'body', hidden: true},
      fixed('main', h('div', {class: 'main'}, h('section', {class: 'card plot'}, fixed('panels', h('div', {class: 'panels'}))), buildTargets(refresh))),
      fixed('side', h('div', {class: 'side'}, fixed('detail', h('aside', {class: 'card detail', 'aria-label': 'In numbers'})))),
      fixed('flags', h('section', {class: 'card runs flags-table', hidden: true})),
      fixed('runs', h('section', {class: 'card runs'}, h('table', {}, h('caption', {}, 'Runs'), h('thead', {}, fixed('head', h('tr', {}))), fixed('rows', h('tbody', {}))),
        fixed('more', h('button', {type: 'button', class: 'tool', hidden: true, onclick: () => { state.allRows = true; show(); }})), fixed('track', h('p', {class: 'track', hidden: true})), fixed('unread', h('div', {class: 'unread'})))))),
    fixed('live', h('p', {class: 'unseen', role: 'status', 'aria-live': 'polite'}))));
}

/** Takes over what the address says. */
function follow() {
  readLink();
  state.chosen = Boolean(state.selected);
  part.get('filter').value = state.filter;
  part.get('leave').querySelector('input').checked = state.leaveOut;
  part.get('near').querySelector('input').checked = state.near;
  writeTargets();
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
  const apply = (/** @type {boolean} */ dark) => { document.documentElement.dataset.theme = dark ? 'dark' : 'light'; };
  try {
    const host = window.parent.document.body;
    if (window.parent === window) throw new Error('no host');
    const followHost = () => apply(host.classList.contains('dark-mode'));
    new MutationObserver(followHost).observe(host, {attributes: true, attributeFilter: ['class']});
    followHost();
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
    if (window.frameElement) /** @type {any} */ (window.frameElement).title = 'Scaling';
    const style = h('link', {rel: 'stylesheet', href: new URL('./style.css', import.meta.url).href});
    const styled = new Promise((done) => { style.onload = style.onerror = done; });
    document.head.append(style);
    theme();
    const page = build();
    follow();
    const loaded = load(styled);
    await styled;
    document.body.replaceChildren(page);
    let width = -1;
    new ResizeObserver(([entry]) => {
      if (Math.abs(entry.contentRect.width - width) < 1) return;
      const first = width < 0;
      width = entry.contentRect.width;
      if (!first && width && state.data && state.data.metric) drawPanels();
    }).observe(part.get('page'));
    window.addEventListener('resize', () => { if (stale && window.innerHeight) load(); });
    window.addEventListener('hashchange', () => { follow(); load(); });
    listen();
    await loaded;
  } catch (error) { // else TensorBoard would show an empty frame
    document.body.textContent = `The Scaling tab failed: ${/** @type {any} */ (error).message}`;
  }
}
