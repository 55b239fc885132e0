/** All flagged runs: what for, since when, and the way to each run's page. */

import {amount, h, heads, sorted, swatch, words} from './dom.js';
import {state} from './state.js';

/** @typedef {import('./dom.js').Run} Run */

const SEVERITIES = ['notice', 'warning', 'critical'];

/** @type {[string, string, (row: any) => any][]} */
const COLUMNS = [['name', 'Run', (row) => row.run.short], ['kind', 'Flagged for', (row) => words(row.flag.kind)],
  ['severity', 'Severity', (row) => SEVERITIES.indexOf(row.flag.severity)],
  ['since', 'Since step', (row) => row.flag.step], ['params', 'Parameters', (row) => row.run.params], ['message', 'What is wrong', (row) => row.flag.message]];

/**
 * @param {Run[]} runs
 * @param {{open: (run: string) => void, show: () => void}} on
 */
export function flagsTable(runs, on) {
  const rows = runs.flatMap((run) => run.flags.map((flag) => ({run, flag})));
  if (!rows.length) {
    return [h('h2', {}, 'Flagged runs'), h('p', {class: 'hint'}, runs.length ? 'No run shown here is flagged.' : 'No run passes the filter.')];
  }
  const order = state.flagOrder, read = /** @type {any} */ (COLUMNS.find(([key]) => key === order.sort))[2];
  const sortBy = (/** @type {string} */ key) => {
    state.flagOrder = {down: order.sort === key && !order.down, sort: key};
    on.show();
  };
  const cell = (/** @type {string} */ key, /** @type {any[]} */ ...content) =>
    h('td', {class: key, 'data-label': /** @type {any} */ (COLUMNS.find(([k]) => k === key))[1]}, ...content);
  return [h('table', {}, h('caption', {}, `${rows.length} flag${rows.length > 1 ? 's' : ''} on ${new Set(rows.map(({run}) => run.name)).size} of ${runs.length} runs`),
    h('thead', {}, h('tr', {}, ...heads(COLUMNS, order, 'flags', sortBy))),
    h('tbody', {}, ...sorted(rows, read, order.down).map(({run, flag}) => h('tr', {onclick: () => on.open(run.name)},
      h('th', {scope: 'row', class: 'name'}, h('button', {type: 'button', title: run.name, 'data-key': `flag ${flag.kind} ${run.name}`}, swatch(run), h('span', {}, run.short))),
      cell('kind', h('b', {class: 'chip bad'}, `▲ ${words(flag.kind)}`)), cell('severity', words(flag.severity)), cell('since', amount(flag.step)), cell('params', amount(run.params)), cell('message', flag.message)))))];
}
