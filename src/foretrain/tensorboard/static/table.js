/** The table of the runs: it says the same as the charts. */

import {amount, h, heads, interval, named, part, sorted, swatch, value, words} from './dom.js';
import {state} from './state.js';

/** @typedef {import('./dom.js').Run} Run */

const MOST_ROWS = 200; // more take longer to draw than the charts

/** @type {[string, string, (run: Run) => any][]} */
const COLUMNS = [
  ['name', 'Run', (run) => run.short], ['params', 'Parameters', (run) => run.params], ['data', 'Data seen', (run) => run.data],
  ['last', 'Now', (run) => run.last], ['planned', 'Planned end', (run) => named(run, 'planned end')?.median ?? null],
  ['ten', 'At 10x the data', (run) => named(run, '10x')?.median ?? null],
  ['region', 'Region now', (run) => run.regions?.now ?? null], ['status', 'Status', (run) => (run.flagged ? 'flagged' : run.status)],
];

/**
 * @param {Run[]} runs
 * @param {Run|null} selected
 * @param {{select: (run: string) => void, show: () => void}} on
 */
export function showTable(runs, selected, on) {
  const order = state.order, read = /** @type {any} */ (COLUMNS.find(([key]) => key === order.sort))[2];
  const sortBy = (/** @type {string} */ key) => {
    state.order = {down: order.sort === key && !order.down, sort: key};
    on.show();
  };
  part.get('head').replaceChildren(...heads(COLUMNS, order, 'sort', sortBy));
  const projected = (/** @type {any} */ p) => (p ? [value(p.median), h('small', {}, interval(p)), p.kind ? h('small', {class: 'kind'}, p.kind) : ''] : ['–']);
  const ordered = sorted(runs, read, order.down), first = state.allRows ? ordered : ordered.slice(0, MOST_ROWS);
  const more = part.get('more');
  more.hidden = first.length === ordered.length;
  more.textContent = `Show all ${ordered.length} runs`;
  part.get('rows').replaceChildren(...first.map((run) => {
    const problem = run.flags[0]?.message || (run.status === 'ok' ? '' : run.sentence);
    const chip = run.flagged ? ['bad', '▲ flagged'] : run.status === 'ok' ? ['good', 'ok'] : ['wait', words(run.status)];
    const cell = (/** @type {string} */ key, /** @type {any[]} */ ...content) =>
      h('td', {class: key, 'data-label': /** @type {any} */ (COLUMNS.find(([k]) => k === key))[1]}, ...content);
    return h('tr', {'aria-current': run === selected ? 'true' : null, onclick: () => on.select(run.name)},
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
      h('ul', {}, ...unreadable.map((/** @type {[string, string]} */ [name, reason]) => h('li', {}, h('code', {}, name), ` ${reason}`)))) : '');
}
