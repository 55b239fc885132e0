/** A chart on log axes: its frame, what the pointer and the keys do to it, and its values in words. */

import {linearTicks, logTicks, placeLabels} from './axes.js';
import {amount, h, part, s} from './dom.js';
import {downloads} from './download.js';
import {listenToFingers} from './touch.js';

/** @typedef {{px: number, py: number, lines: string[], run?: string, main?: boolean, rule?: boolean}} Target */
/** @typedef {{svg: any, marks: any, x: (v: number) => number, y: (v: number) => number, width: number, height: number,
 *   edge: {left: number, right: number, top: number, bottom: number}, xRange: number[], yRange: number[], linear: boolean,
 *   targets: Target[], readout?: {curve: import('./dom.js').Band, lines: (i: number) => string[]},
 *   csv?: {columns: string[], rows: any[][]}}} Frame */

const DRAGGED = 6; // pixels from which a press is a drag, and no click
const ZOOM_STEP = 1.25;

/** One chart with its heading, its tools and its key. */
export class Panel {
  /**
   * @param {string} name
   * @param {{select: (run: string) => void, next: (by: number) => void, redraw: () => void}} on
   */
  constructor(name, on) {
    this.name = name;
    this.on = on;
    /** @type {Frame|null} */
    this.frame = null;
    /** @type {{x: number[], y: number[]}|null} */
    this.zoom = null;
    this.cursor = -1;
    /** @type {{x: number, y: number, px: number, py: number, pan: boolean, moved: boolean, zoom: any}|null} */
    this.drag = null;
    this.tip = h('div', {class: 'tip', hidden: true});
    this.title = h('h2', {});
    this.reset = h('button', {type: 'button', class: 'tool', hidden: true, onclick: () => { this.setZoom(null); this.box.focus(); }}, 'Reset zoom');
    this.tools = h('div', {class: 'tools'}, this.reset, ...downloads(this));
    this.box = h('div', {class: 'chart', tabindex: '0', role: 'group', onkeydown: (/** @type {KeyboardEvent} */ e) => this.onKey(e),
      onpointermove: (/** @type {PointerEvent} */ e) => this.onMove(e), onpointerleave: () => { if (!this.drag) this.showTip(null); },
      onpointerdown: (/** @type {PointerEvent} */ e) => this.onDown(e), onpointerup: (/** @type {PointerEvent} */ e) => this.onUp(e),
      onpointercancel: () => this.endDrag(), ondblclick: () => this.setZoom(null)});
    this.box.addEventListener('wheel', (/** @type {WheelEvent} */ e) => this.onWheel(e), {passive: false});
    listenToFingers(this);
    this.key = h('p', {class: 'keys'});
    this.above = h('div', {class: 'above'});
    this.element = h('section', {class: 'panel', 'data-panel': name},
      h('div', {class: 'card-head'}, this.title, this.tools), this.above, this.box, this.key);
  }

  /**
   * Draws what a view has for this panel.
   * @param {{title: string, label: string, none: string, busy?: boolean, keys: string[][], draw: (panel: Panel) => Frame|null}} spec
   */
  show(spec) {
    this.title.textContent = spec.title;
    this.frame = spec.draw(this);
    this.mark = null;
    this.tip.hidden = true;
    this.box.replaceChildren(this.frame ? this.frame.svg : h('p', {class: 'hint tall'}, spec.none), this.tip);
    this.box.setAttribute('aria-busy', String(Boolean(spec.busy)));
    this.box.setAttribute('aria-label', spec.label);
    this.reset.hidden = !this.zoom;
    this.tools.hidden = !this.frame;
    const drawn = spec.keys.filter(([, , mark]) => this.box.querySelector(mark));
    this.key.replaceChildren(...drawn.map(([kind, text]) => h('span', {class: `key key-${kind}`}, text)));
  }

  /** @param {{x: number[], y: number[]}|null} zoom */
  setZoom(zoom) {
    this.zoom = zoom;
    this.on.redraw();
  }

  /** @param {MouseEvent} event @returns {[number, number]} */
  place(event) {
    const at = this.box.getBoundingClientRect();
    return [event.clientX - at.left, event.clientY - at.top];
  }

  /** @param {PointerEvent} event */
  onDown(event) {
    if (!this.frame || event.button || event.pointerType === 'touch') return;
    const [px, py] = this.place(event);
    this.drag = {x: px, y: py, px, py, pan: event.shiftKey, moved: false, zoom: this.ranges()};
  }

  /** @param {PointerEvent} event */
  onMove(event) {
    const f = this.frame;
    if (!f) return;
    const [px, py] = this.place(event), drag = this.drag;
    if (!drag) {
      this.showTip(this.pointAt(px, py));
      return;
    }
    if (!drag.moved && Math.hypot(px - drag.x, py - drag.y) < DRAGGED) return;
    if (!drag.moved) {
      drag.moved = true;
      this.box.setPointerCapture(event.pointerId);
      this.showTip(null);
    }
    Object.assign(drag, {px, py});
    if (drag.pan) this.setZoom(this.shifted(drag.zoom, px - drag.x, py - drag.y));
    else this.brush(drag);
  }

  /** @param {PointerEvent} event */
  onUp(event) {
    const drag = this.drag, f = this.frame;
    this.endDrag();
    if (!drag || !f) return;
    if (!drag.moved) {
      const target = this.pointAt(...this.place(event));
      if (target && target.run) this.on.select(target.run);
    } else if (!drag.pan && Math.abs(drag.px - drag.x) > DRAGGED && Math.abs(drag.py - drag.y) > DRAGGED) {
      const [x0, x1] = [drag.x, drag.px].sort((a, b) => a - b), [y0, y1] = [drag.y, drag.py].sort((a, b) => a - b);
      this.setZoom({x: [this.at('x', x0), this.at('x', x1)], y: [this.at('y', y1), this.at('y', y0)]});
    }
  }

  endDrag() {
    this.drag = null;
    this.box.querySelector('.brush')?.remove();
  }

  /** @param {{x: number, y: number, px: number, py: number}} drag */
  brush(drag) {
    this.box.querySelector('.brush')?.remove();
    this.frame?.svg.append(s('rect', {class: 'brush', x: Math.min(drag.x, drag.px), y: Math.min(drag.y, drag.py),
      width: Math.abs(drag.px - drag.x), height: Math.abs(drag.py - drag.y)}));
  }

  /** Zooms about the pointer; without Ctrl the wheel scrolls the page. @param {WheelEvent} event */
  onWheel(event) {
    if (!this.frame || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    this.zoomBy(event.deltaY < 0 ? 1 / ZOOM_STEP : ZOOM_STEP, ...this.place(event));
  }

  /** What is shown now. */
  ranges() {
    const f = /** @type {Frame} */ (this.frame);
    return {x: [...f.xRange], y: [...f.yRange]};
  }

  /** The value at a pixel. @param {'x'|'y'} axis @param {number} p */
  at(axis, p) {
    const f = /** @type {Frame} */ (this.frame), range = axis === 'x' ? f.xRange : f.yRange, scale = axis === 'x' ? f.x : f.y;
    const [a, b] = range.map(scale), share = Math.max(0, Math.min(1, (p - a) / (b - a)));
    return axis === 'y' && f.linear ? range[0] + share * (range[1] - range[0]) : range[0] * (range[1] / range[0]) ** share;
  }

  /** @param {number} factor @param {number} px @param {number} py */
  zoomBy(factor, px, py) {
    const f = /** @type {Frame} */ (this.frame), {x, y} = this.ranges(), cx = this.at('x', px), cy = this.at('y', py);
    const log = (/** @type {number[]} */ range, /** @type {number} */ c) => range.map((v) => c * (v / c) ** factor);
    const next = {x: log(x, cx), y: f.linear ? y.map((v) => cy + (v - cy) * factor) : log(y, cy)};
    if (next.x[1] / next.x[0] > 1.0005 && next.x[1] / next.x[0] < 1e30) this.setZoom(next);
  }

  /** @param {{x: number[], y: number[]}} from @param {number} dx @param {number} dy */
  shifted(from, dx, dy) {
    const f = /** @type {Frame} */ (this.frame);
    const sx = -dx / (f.width - f.edge.left - f.edge.right), sy = dy / (f.height - f.edge.top - f.edge.bottom);
    const log = (/** @type {number[]} */ r, /** @type {number} */ share) => r.map((v) => v * (r[1] / r[0]) ** share);
    return {x: log(from.x, sx), y: f.linear ? from.y.map((v) => v + sy * (from.y[1] - from.y[0])) : log(from.y, sy)};
  }

  /** @param {number} px @param {number} py @returns {Target|null} */
  pointAt(px, py) {
    const f = this.frame;
    if (!f) return null;
    /** @type {Target|null} */
    let best = null;
    let least = 18 ** 2;
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

  /** @param {Target|null} target @param {boolean} [speak] */
  showTip(target, speak = false) {
    const f = this.frame;
    this.tip.hidden = !target;
    this.mark?.remove();
    if (!target || !f) return;
    const rule = target.rule ? [s('line', {x1: target.px, x2: target.px, y1: f.edge.top, y2: f.height - f.edge.bottom, class: 'rule'})] : [];
    this.mark = s('g', {class: 'focus'}, ...rule, s('circle', {cx: target.px, cy: target.py, r: 8}));
    f.svg.append(this.mark);
    this.tip.replaceChildren(...target.lines.map((text, i) => h(i ? 'div' : 'strong', {}, text)));
    const left = target.px + 14 + this.tip.offsetWidth > f.width ? target.px - 14 - this.tip.offsetWidth : target.px + 14;
    this.tip.style.left = `${Math.max(0, left)}px`;
    this.tip.style.top = `${Math.max(0, Math.min(f.height - this.tip.offsetHeight, target.py - this.tip.offsetHeight / 2))}px`;
    if (speak) part.get('live').textContent = target.lines.join(', ');
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    const f = this.frame;
    if (!f || event.ctrlKey || event.metaKey || event.altKey) return;
    const arrows = /** @type {Record<string, number[]>} */ ({ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]});
    const middle = () => /** @type {[number, number]} */ ([(f.edge.left + f.width - f.edge.right) / 2, (f.edge.top + f.height - f.edge.bottom) / 2]);
    const stops = f.targets.filter((t) => t.main).sort((a, b) => a.px - b.px);
    let read = true;
    if (event.shiftKey && arrows[event.key]) {
      const [dx, dy] = arrows[event.key];
      this.setZoom(this.shifted(this.ranges(), 60 * dx, 60 * dy));
      read = false;
    } else if (event.key === '+' || event.key === '=') {
      this.zoomBy(1 / ZOOM_STEP, ...middle());
      read = false;
    } else if (event.key === '-') {
      this.zoomBy(ZOOM_STEP, ...middle());
      read = false;
    } else if (event.key === '0') {
      this.setZoom(null);
      read = false;
    } else if (event.key === 'Escape') this.cursor = -1;
    else if (event.key === 'ArrowRight') this.cursor = Math.min(stops.length - 1, this.cursor + 1);
    else if (event.key === 'ArrowLeft') this.cursor = Math.max(0, this.cursor - 1);
    else if (event.key === 'Home') this.cursor = 0;
    else if (event.key === 'End') this.cursor = stops.length - 1;
    else if (event.key === 'ArrowUp' || event.key === 'ArrowDown') {
      this.on.next(event.key === 'ArrowDown' ? 1 : -1);
      read = false;
    } else return;
    event.preventDefault();
    if (read) this.showTip(stops[this.cursor] || null, true);
  }
}

/**
 * Axes, grid and named vertical guides; returns what the marks need to be placed.
 * @param {Panel} panel
 * @param {{xRange: number[], yRange: number[], xLabel: string, yLabel: string, linear?: boolean, flat?: boolean,
 *   guides?: {x: number, label: string, kind: string}[], tick?: (v: number) => string, xTick?: (v: number) => string}} wanted
 * @returns {Frame}
 */
export function frame(panel, wanted) {
  const {xLabel, yLabel, guides = [], linear = false} = wanted;
  const {x: xRange, y: yRange} = panel.zoom || {x: wanted.xRange, y: wanted.yRange};
  const width = Math.max(280, panel.box.clientWidth);
  const height = Math.round(Math.min(500, Math.max(wanted.flat ? 200 : 330, width * (wanted.flat ? 0.26 : 0.58))));
  const narrow = width < 520;
  const log = (/** @type {number[]} */ [low, high], /** @type {number} */ from, /** @type {number} */ to) => (/** @type {number} */ v) =>
    from + ((Math.log(v) - Math.log(low)) / (Math.log(high) - Math.log(low))) * (to - from);
  const left = 62, right = narrow ? 12 : 20;
  const x = log(xRange, left, width - right);
  const seen = guides.filter((g) => g.x >= xRange[0] && g.x <= xRange[1]);
  const placed = placeLabels(seen.map((g) => ({...g, px: x(g.x)})), width);
  const edge = {left, right, top: 16 + 15 * placed.count, bottom: 46};
  const y = linear
    ? (/** @type {number} */ v) => height - edge.bottom + ((v - yRange[0]) / (yRange[1] - yRange[0])) * (edge.top - height + edge.bottom)
    : log(yRange, height - edge.bottom, edge.top);
  const id = `inside-${panel.name}`;
  const clip = s('clipPath', {id}, s('rect', {
    x: edge.left, y: edge.top, width: width - edge.left - edge.right, height: height - edge.top - edge.bottom}));
  const marks = s('g', {'clip-path': `url(#${id})`});
  const svg = s('svg', {width, height, viewBox: `0 0 ${width} ${height}`, role: 'presentation'}, s('defs', {}, clip));
  const label = (/** @type {number} */ px, /** @type {number} */ py, /** @type {string} */ anchor, /** @type {string} */ text, kind = 'tick') =>
    svg.append(s('text', {x: px, y: py, 'text-anchor': anchor, class: kind}, text));

  const yTicks = (linear ? linearTicks : logTicks)(yRange[0], yRange[1], y, narrow ? 26 : 34);
  const written = wanted.tick || ((v) => (yTicks.digits === null ? amount(v) : v.toFixed(yTicks.digits)));
  for (const v of yTicks.list) {
    svg.append(s('line', {x1: edge.left, x2: width - edge.right, y1: y(v), y2: y(v), class: 'grid'}));
    label(edge.left - 8, y(v) + 4, 'end', written(v));
  }
  for (const v of logTicks(xRange[0], xRange[1], x, narrow ? 38 : 46).list) {
    svg.append(s('line', {x1: x(v), x2: x(v), y1: edge.top, y2: height - edge.bottom, class: 'grid'}));
    label(x(v), height - edge.bottom + 18, 'middle', (wanted.xTick || amount)(v));
  }
  label((edge.left + width - edge.right) / 2, height - 8, 'middle', xLabel, 'axis');
  svg.append(s('text', {class: 'axis', 'text-anchor': 'middle',
    transform: `translate(12 ${(edge.top + height - edge.bottom) / 2}) rotate(-90)`}, yLabel));
  for (const g of placed.list) {
    const top = edge.top - 6 - 15 * (placed.count - 1 - g.row);
    svg.append(s('line', {x1: g.px, x2: g.px, y1: top + 3, y2: height - edge.bottom, class: `guide ${g.kind}`}));
    label(g.at, top, 'middle', g.label, `guide-label ${g.kind}`);
  }
  svg.append(marks);
  const inside = (/** @type {Target} */ t) => t.px >= edge.left - 1 && t.px <= width - edge.right + 1 && t.py >= edge.top - 1 && t.py <= height - edge.bottom + 1;
  /** @type {Target[]} */
  const targets = [];
  targets.push = (...more) => Array.prototype.push.apply(targets, more.filter(inside)); // what is zoomed away is not read
  return {svg, marks, x, y, width, height, edge, xRange, yRange, linear, targets};
}
