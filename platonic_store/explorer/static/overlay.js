// What lies over the maps: the chosen crystal, its nearest by both models, what the pointer is on,
// and how far the other model moves what is picked.

import { formula, svg, h } from './format.js';
import { overview, rowOf, structures } from './points.js';
import { drawn } from './maps.js';

const MOST_LINES = 150;
/** @type {Object<string, {marks: SVGElement, tip: any}>} */
const layers = {};
/** @typedef {{structure: number, site: number | null}} Place */
/** @type {{places: Place[], near: Object<string, Place[]>, guest: Object<string, number[] | null>}} */
let marked = { places: [], near: { a: [], b: [] }, guest: {} };
/** @type {{of: any, row: number, near: Object<string, number[]>}} their rows on the maps as drawn */
let chosen = { of: null, row: -1, near: { a: [], b: [] } };
/** @type {number | null} */
let hovered = null;
let isWaiting = false;

/** The layer over a map. @param {'a' | 'b'} side */
export function layer(side) {
  const marks = svg('svg', { class: 'marks', 'aria-hidden': 'true' });
  const tip = h('div', { class: 'tip', hidden: true });
  layers[side] = { marks, tip };
  return h('div', { class: 'over' }, marks, tip);
}

/** Mark a structure or atom, and the rows nearest to it by each model.
 * @param {Place[]} places the chosen one, or none
 * @param {Object<string, Place[]>} near
 * @param {Object<string, number[] | null>} guest where one that no model of the store has embedded lies, by map */
export function mark(places, near, guest) {
  marked = { places, near, guest };
  chosen.of = null;
  redraw();
}

/** Find the rows of what is marked, if other points were drawn since. */
function locate() {
  const of = drawn.points;
  if (chosen.of === of) return;
  const find = (/** @type {Place} */ one) => rowOf(of, one.structure, one.site);
  const { places, near } = marked;
  chosen = { of, row: places.length ? find(places[0]) : -1, near: { a: near.a.map(find), b: near.b.map(find) } };
}

/** @param {number | null} row */
export function hover(row) {
  hovered = row;
  redraw();
}

/** Draw at the next frame. */
export function redraw() {
  if (isWaiting) return;
  isWaiting = true;
  requestAnimationFrame(() => {
    isWaiting = false;
    if (!drawn.points) return;
    locate();
    for (const side of ['a', 'b']) drawOver(side);
  });
}

/** @param {string} side */
function drawOver(side) {
  const plot = drawn.plots[side];
  if (!layers[side] || !plot?.get('isPointsDrawn')) return;
  const at = (/** @type {number} */ row) => position(side, row);
  const nodes = [...shifts(side, at)];
  const sent = marked.guest[side];
  const origin = sent ? project(side, sent[0], sent[1]) : chosen.row >= 0 ? at(chosen.row) : null;
  for (const model of side === 'a' ? ['b', 'a'] : ['a', 'b']) {
    for (const row of chosen.near[model]) {
      const end = row >= 0 && at(row);
      if (!end) continue;
      if (origin && model === side) nodes.push(line(origin, end, `spoke ${model}`));
      nodes.push(svg('circle', { cx: end[0], cy: end[1], r: model === side ? 6 : 9, class: `near ${model}` }));
    }
  }
  if (origin) {
    nodes.push(svg('circle', { cx: origin[0], cy: origin[1], r: 8, class: 'chosen-halo' }));
    nodes.push(svg('circle', { cx: origin[0], cy: origin[1], r: 8, class: 'chosen' }));
  }
  const under = hovered === null ? null : at(hovered);
  if (under) nodes.push(svg('circle', { cx: under[0], cy: under[1], r: 11, class: 'hovered' }));
  layers[side].marks.replaceChildren(...nodes);
  tip(side, under);
}

/** Lines from where the other model puts what is picked. @param {string} side @param {(row: number) => number[] | null} at */
function* shifts(side, at) {
  const other = drawn.places[side === 'a' ? 'b' : 'a'];
  const rows = drawn.picked ?? (chosen.row >= 0 ? [chosen.row] : []);
  if (!other || other instanceof Error || rows.length > MOST_LINES) return;
  for (const row of rows) {
    const [here, there] = [at(row), project(side, other.x[row], other.y[row])];
    if (here && there) yield line(there, here, 'shift');
  }
}

/** @param {number[]} from @param {number[]} to @param {string} name */
function line(from, to, name) {
  return svg('line', { x1: from[0], y1: from[1], x2: to[0], y2: to[1], class: name });
}

/** Where a row is on a map, in pixels; null if its model has no place for it. @param {string} side @param {number} row */
function position(side, row) {
  const places = drawn.places[side];
  if (!places || places instanceof Error) return null;
  return project(side, places.x[row], places.y[row]);
}

/** A place in pixels. @param {string} side @param {number} x @param {number} y */
function project(side, x, y) {
  if (x === undefined || Number.isNaN(x)) return null; // another level is drawn, or its model has none
  const camera = drawn.plots[side].get('camera');
  const box = layers[side].marks.getBoundingClientRect();
  const view = camera.view;
  const aspect = box.width / box.height;
  return [
    (((view[0] * x + view[4] * y + view[12]) / aspect + 1) / 2) * box.width,
    ((1 - (view[1] * x + view[5] * y + view[13])) / 2) * box.height,
  ];
}

/** @param {string} side @param {number[] | null} place */
async function tip(side, place) {
  const { tip: node } = layers[side];
  node.hidden = !place || hovered === null;
  if (!place || hovered === null) return;
  const row = hovered;
  const [{ ids, formulas }, { elements }] = await Promise.all([structures(), overview()]);
  const structure = drawn.points.structure(row);
  const element = elements[drawn.points.element(row)][0];
  const site = drawn.points.site(row);
  node.replaceChildren(
    site === null ? '' : h('b', {}, `${element}${site} in `),
    h('b', {}, formula(formulas[structure])), ` ${ids[structure]}`, value(row));
  const width = layers[side].marks.getBoundingClientRect().width;
  node.style.left = `${Math.min(place[0], width - 160)}px`;
  node.style.top = `${place[1] + 14}px`;
}

/** What the row is coloured by. @param {number} row */
function value(row) {
  const { painted, values } = drawn;
  if (values.values) {
    const number = values.values[row];
    return Number.isNaN(number) ? '' : h('span', { class: 'of' }, ` ${drawn.color} ${number.toPrecision(3)}`);
  }
  const name = painted.names[painted.codes[row]];
  return name ? h('span', { class: 'of' }, ` ${name}`) : '';
}
