/** Questions to the server; an older answer never replaces a newer one. */

import {leftOut, state} from './state.js';

/** What was answered last, by route. @type {Record<string, any>} */
export const answers = {law: null, frontier: null, run: null, answer: null};
/** @type {Record<string, boolean>} */
export const busy = {law: false, frontier: false, run: false, answer: false};
/** @type {Map<string, number>} */
const turns = new Map();
/** @type {Map<string, string>} */
const last = new Map();

/** @param {string} route @param {Record<string, any>} query */
async function ask(route, query) {
  const url = new URL(`../${route}`, import.meta.url); // this file's folder is its version
  for (const [name, text] of Object.entries(query)) if (text !== null && text !== undefined) url.searchParams.set(name, text);
  const response = await fetch(url);
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

/** @param {string} route */
function turn(route) {
  turns.set(route, (turns.get(route) || 0) + 1);
  return turns.get(route);
}

const question = () => ({metric: state.metric, study: state.study, axis: state.axis});

/** Asks for the runs. @returns {Promise<boolean>} whether the answer is the newest */
export async function askRuns() {
  const mine = turn('runs');
  try {
    const data = await ask('runs', {...question(), along: state.along});
    if (mine !== turns.get('runs')) return false;
    Object.assign(state, {data, error: null});
  } catch (error) {
    if (mine !== turns.get('runs')) return false;
    state.error = String(/** @type {any} */ (error).message || error).slice(0, 300);
  }
  return true;
}

/**
 * Asks what goes with the runs, unless it was asked just so.
 * @param {'law'|'frontier'|'run'|'answer'} route
 * @param {Record<string, any>} more
 * @param {() => void} show called when there is something new to show
 * @param {() => void} reload called where a run has moved on since it was listed
 * @param {boolean} [extra] whether the view can do without the answer, so that a fault is not worth a word
 */
export async function askFor(route, more, show, reload, extra = false) {
  if (state.error || !state.data || !state.data.metric) return;
  const query = {...question(), version: state.data.version, ...(route === 'run' ? {} : {exclude: leftOut()}), ...more};
  const key = JSON.stringify(query);
  const failed = /** @type {any} */ (answers)[route] === null && !busy[route];
  if (last.get(route) === key && (extra || !failed)) return;
  last.set(route, key);
  const mine = turn(route);
  busy[route] = true;
  show();
  try {
    const found = await ask(route, query);
    if (mine !== turns.get(route)) return;
    busy[route] = false;
    if (found.outdated && state.outdated < 3) { // a run has moved on since it was listed
      state.outdated++;
      last.delete(route);
      reload();
      return;
    }
    state.outdated = 0;
    answers[route] = found.outdated || found.gone ? null : found;
    if (found.outdated) last.delete(route);
  } catch (error) {
    if (mine !== turns.get(route)) return;
    busy[route] = false;
    if (extra) {
      answers[route] = null;
      return;
    }
    last.delete(route);
    state.error = String(/** @type {any} */ (error).message || error).slice(0, 300);
  }
  show();
}

/** Forgets what was answered for another selection. */
export function forget() {
  for (const route of Object.keys(answers)) {
    answers[route] = null;
    last.delete(route);
    turn(route);
    busy[route] = false;
  }
}
