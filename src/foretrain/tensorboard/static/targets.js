/** Typed targets: an amount of data, a size, a budget, an error wanted; and a slider for the one of the view. */

import {amount, flops, h, interval, part, typed, value} from './dom.js';
import {budget} from './frontier.js';
import {answers, busy} from './server.js';
import {TARGETS, state} from './state.js';

/** @typedef {import('./dom.js').Run} Run */

const STEPS = 400;
const FARTHEST = 1000; // the slider of data ends at so many times what has been seen
const OF_VIEW = /** @type {Record<string, string>} */ ({curves: 'data', run: 'data', size: 'params', frontier: 'compute'});
const LABELS = /** @type {Record<string, string>} */ ({data: 'Data', params: 'Parameters', compute: 'Compute, FLOPs', error: 'Error wanted'});

/** The form. @param {() => void} changed */
export function buildTargets(changed) {
  let waiting = 0;
  const later = () => { // one answer when the typing or the sliding stops
    clearTimeout(waiting);
    waiting = setTimeout(changed, 250);
  };
  const input = (/** @type {string} */ name) => {
    const field = h('input', {type: 'text', inputmode: 'decimal', spellcheck: 'false', maxlength: '24', placeholder: name === 'error' ? '1.25' : name === 'compute' ? '1e18' : '10M',
      oninput: () => {
        const number = typed(field.value);
        field.toggleAttribute('aria-invalid', Number.isNaN(number));
        if (Number.isNaN(number)) return;
        state.targets[name] = number;
        later();
      }});
    part.set(`target-${name}`, field);
    return h('label', {class: 'field'}, h('span', {}, LABELS[name]), field);
  };
  const slider = h('input', {type: 'range', min: '0', max: String(STEPS), step: '1', oninput: () => {
    const range = sliderRange(), name = OF_VIEW[state.view];
    if (!range || !name) return;
    state.targets[name] = Number((range[0] * (range[1] / range[0]) ** (Number(slider.value) / STEPS)).toPrecision(3));
    write(name);
    part.get('slid').textContent = told(name, state.targets[name]);
    later();
  }});
  part.set('slider', slider);
  const clear = h('button', {type: 'button', class: 'tool', onclick: () => {
    for (const name of TARGETS) state.targets[name] = null;
    TARGETS.forEach(write);
    changed();
  }}, 'Clear');
  const answer = h('div', {class: 'told', 'aria-live': 'polite'});
  part.set('told', answer);
  const named = h('span', {}), slid = h('b', {class: 'slid'});
  part.set('slider-name', named);
  part.set('slid', slid);
  const row = h('label', {class: 'field slide'}, h('span', {}, named, ' ', slid), slider);
  part.set('slide', row);
  const card = h('section', {class: 'card ask', 'aria-label': 'Ask'}, h('div', {class: 'card-head'}, h('h2', {}, 'Ask'), clear),
    row, h('div', {class: 'targets'}, ...TARGETS.map(input)), answer);
  part.set('ask', card);
  return card;
}

/** @param {string} name @param {number} number */
const told = (name, number) => (name === 'compute' ? flops : amount)(number);

/** Writes a target into its field. @param {string} name */
function write(name) {
  const field = part.get(`target-${name}`), number = state.targets[name];
  field.removeAttribute('aria-invalid');
  field.value = number === null ? '' : number >= 1e15 || number < 1e-3 ? number.toExponential() : String(number);
}

/** Writes all targets, as after a deep link was read. */
export const writeTargets = () => TARGETS.forEach(write);

/** Both ends of the slider. @returns {number[]|null} */
function sliderRange() {
  const {view, data} = state, run = state.current;
  if (view === 'frontier') return answers.frontier && answers.frontier.range;
  if (view === 'size') {
    const sizes = data.runs.map((/** @type {Run} */ r) => r.params).filter((/** @type {any} */ n) => n !== null);
    return sizes.length ? [Math.min(...sizes), 100 * Math.max(...sizes)] : null;
  }
  return run && run.data && data.along === data.axis ? [run.data, FARTHEST * run.data] : null;
}

/** What to ask the server; null where nothing is asked. @param {Run|null} run */
export function asked(run) {
  const {data, params, compute, error} = state.targets;
  const at = state.view === 'frontier' ? budget() : compute;
  if (!data && !params && !at && !error) return null;
  return {data, error, compute: at, params: params || ((data || error) && run ? run.params : null)};
}

/** Shows the slider of the view, and what was answered. @param {Run|null} run */
export function showTargets(run) {
  state.current = run;
  const name = OF_VIEW[state.view], range = name ? sliderRange() : null;
  part.get('ask').hidden = state.view === 'flags';
  part.get('slide').hidden = !range;
  if (range && name) {
    const now = name === 'compute' ? budget() : state.targets[name], slider = part.get('slider');
    part.get('slider-name').textContent = LABELS[name];
    part.get('slid').textContent = now ? told(name, now) : '';
    const share = now ? Math.log(now / range[0]) / Math.log(range[1] / range[0]) : 0;
    slider.value = String(Math.round(STEPS * Math.max(0, Math.min(1, share))));
    slider.setAttribute('aria-valuetext', now ? told(name, now) : 'not set');
  }
  part.get('told').replaceChildren(...ownLaw(run), ...answered());
}

/** What the chosen run's own law says at the data asked about. @param {Run|null} run */
function ownLaw(run) {
  const at = state.targets.data;
  if (!run || !at || state.view === 'frontier' || state.view === 'size' || state.data.along !== state.data.axis) return [];
  const curve = run.curve, place = `${amount(at)} ${state.data.axis_label}`;
  if (!curve || at < curve.x[0]) return [h('p', {}, `The law of ${run.short} says nothing of ${place}.`)];
  const last = curve.x[curve.x.length - 1];
  if (at > last * (1 + 1e-9)) {
    return [h('p', {}, `The law of ${run.short} ends at ${amount(last)}: there its learning rate has come down. What a longer run would reach is told by the law across the runs.`)];
  }
  const i = Math.max(1, curve.x.findIndex((x) => x >= at)), share = Math.log(at / curve.x[i - 1]) / Math.log(curve.x[i] / curve.x[i - 1]);
  const read = (/** @type {(number|null)[]} */ ys) => {
    const a = ys[i - 1], b = ys[i];
    return a === null || b === null ? null : Math.exp((1 - share) * Math.log(a) + share * Math.log(b));
  };
  const ends = {lower: read(curve.lower), upper: read(curve.upper)};
  return [h('p', {}, `By its own law ${run.short} reaches ${state.data.metric} ${value(read(curve.median))}${interval(ends) ? ` (90 %: ${interval(ends)})` : ''} at ${place}.`)];
}

function answered() {
  const found = answers.answer;
  if (!found) return busy.answer ? [h('p', {class: 'hint'}, 'Working it out …')] : [];
  const any = Object.values(state.targets).some((v) => v !== null);
  if (!any) return [];
  const best = found.best && state.view !== 'frontier' ? [h('p', {class: found.best.told ? '' : 'doubtful'}, found.best.sentence)] : [];
  const none = found.sentence && !found.answers.length ? [h('p', {class: 'doubtful'}, found.sentence)] : [];
  return [...best, ...none, ...found.answers.map((/** @type {any} */ a) => h('p', {class: a.told ? '' : 'doubtful'}, a.sentence))];
}
