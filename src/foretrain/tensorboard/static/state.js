/** What is looked at, and its deep link: the address of the page reopens the same view. */

import {part, rampColor, shortNames} from './dom.js';

/** @typedef {import('./dom.js').Run} Run */

export const VIEWS = ['curves', 'size', 'frontier', 'run', 'flags'];
export const TARGETS = ['data', 'params', 'compute', 'error'];

/** @type {any} */
export const state = {
  view: 'curves', metric: null, study: null, axis: null, along: null, selected: null, filter: '', leaveOut: true,
  near: false, order: {sort: 'params', down: false}, flagOrder: {sort: 'name', down: false},
  targets: {data: null, params: null, compute: null, error: null}, data: null, error: null,
};

/** The runs that pass the filter, each with its short name, colour and place in the server's answer. @returns {Run[]} */
export function shownRuns() {
  const runs = state.data.runs;
  const short = shortNames(runs.map((/** @type {Run} */ run) => run.name));
  const sizes = [...new Set(runs.map((/** @type {Run} */ run) => run.params).filter((/** @type {any} */ n) => n !== null))].sort((a, b) => a - b);
  const rank = new Map(sizes.map((n, i) => [n, sizes.length > 1 ? i / (sizes.length - 1) : 0.5]));
  let pattern = null;
  try {
    pattern = state.filter ? new RegExp(state.filter, 'i') : null;
    part.get('filter').removeAttribute('aria-invalid');
  } catch {
    part.get('filter').setAttribute('aria-invalid', 'true');
  }
  return runs
    .map((/** @type {Run} */ run, /** @type {number} */ index) => {
      const flagged = run.flags.length > 0;
      return {...run, index, flagged, short: short.get(run.name), color: flagged ? 'var(--flag)' : rampColor(rank.get(run.params) ?? 0.5)};
    })
    .filter((/** @type {Run} */ run) => !pattern || pattern.test(run.name));
}

/** @param {Run[]} runs @returns {Run|null} */
export function pickRun(runs) {
  const find = (/** @type {string} */ name) => runs.find((run) => run.name === name);
  return find(state.selected) || find(state.data.default_run)
    || [...runs].reverse().find((run) => !run.flagged) || runs[0] || null;
}

/** Positions of the runs that a law across the runs leaves out: filtered away, or flagged. */
export function leftOut() {
  const kept = new Set(shownRuns().map((run) => run.index));
  return state.data.runs
    .map((/** @type {Run} */ run, /** @type {number} */ i) => (!kept.has(i) || (state.leaveOut && run.leaves_out) ? i : -1))
    .filter((/** @type {number} */ i) => i >= 0).join(',');
}

// ---------------------------------------------------------------- deep links

const PREFIX = 'p.foretrain.';

/** The window whose address users copy: TensorBoard's own, else this one. */
function host() {
  try {
    if (window.parent !== window && window.parent.location.hash !== undefined) return window.parent;
  } catch {
    // another origin: only our own address can be read
  }
  return window;
}

/** Takes over what the address says; unknown names and values are ignored. */
export function readLink() {
  const told = new Map();
  for (const item of host().location.hash.replace(/^#/, '').split('&')) {
    const [name, text = ''] = item.split('=', 2);
    if (!name.startsWith(PREFIX)) continue;
    try {
      told.set(name.slice(PREFIX.length), decodeURIComponent(text).slice(0, 2000));
    } catch {
      // not an encoding of ours
    }
  }
  if (VIEWS.includes(told.get('view'))) state.view = told.get('view');
  for (const name of ['metric', 'study', 'axis', 'along']) if (told.has(name)) state[name] = told.get(name);
  if (told.has('run')) state.selected = told.get('run');
  if (told.has('filter')) state.filter = told.get('filter').slice(0, 200);
  state.leaveOut = told.get('flagged') !== 'in';
  state.near = told.get('near') === '1';
  for (const name of TARGETS) {
    const number = Number(told.get(name) ?? NaN);
    state.targets[name] = number > 0 && Number.isFinite(number) ? number : null;
  }
}

/** Writes what is looked at into the address, without a new entry in the history. */
export function writeLink() {
  const told = {
    view: state.view === 'curves' ? null : state.view, metric: state.metric, study: state.study, axis: state.axis,
    along: state.along, run: state.chosen ? state.selected : null, filter: state.filter || null,
    flagged: state.leaveOut ? null : 'in', near: state.near ? '1' : null, ...state.targets,
  };
  const target = host(), own = target === window;
  const first = target.location.hash.replace(/^#/, '').split('&')[0];
  // TensorBoard names its tab first; while another tab is in front the address is not ours.
  if (!own && first && first !== 'foretrain') return;
  const items = Object.entries(told).filter(([, v]) => v !== null && v !== undefined)
    .map(([name, v]) => `${PREFIX}${name}=${encodeURIComponent(v)}`);
  const hash = `#${[...(own ? [] : ['foretrain']), ...items].join('&')}`;
  const {pathname, search} = target.location; // a hash alone would be taken relative to the frame's <base>
  if (target.location.hash !== hash) target.history.replaceState(target.history.state, '', `${pathname}${search}${hash}`);
}
