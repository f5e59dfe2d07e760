// The nearest by model A beside the nearest by model B, what both name tied together.

import { caveat, complaint, formula, h, number, spaceGroup, svg } from './format.js';
import { overview, structures } from './points.js';
import { follow } from './crystal.js';
import { address, go, state } from './state.js';
import { paint } from './painter.js';
import { hover } from './maps.js';

const panel = /** @type {HTMLElement} */ (document.getElementById('nearest'));
const SIDES = /** @type {const} */ (['a', 'b']);

new ResizeObserver(() => tie()).observe(panel);

/** What the panel says before there is a crystal. */
export function clear() {
  panel.classList.remove('waiting');
  panel.replaceChildren(h('p', { class: 'quiet' }, 'Nearest neighbours by both models appear here once you choose a crystal.'));
}

/** Say that an answer is under way, if it takes long enough to be read. */
export function wait() {
  panel.classList.add('waiting');
}

/** @param {any} error */
export function fail(error) {
  panel.classList.remove('waiting');
  panel.replaceChildren(complaint(error));
}

/**
 * Show an answer. rowOf finds a neighbour's row on the maps.
 * @param {any} answer @param {{title: (Node | string)[], isAtom: boolean, caveat: string}} about
 * @param {(row: any) => Promise<number>} rowOf
 */
export async function show(answer, about, rowOf) {
  const { elements, caveats } = await overview();
  const lists = SIDES.map((side) => list(side, answer, about.isAtom, rowOf));
  const both = answer.common === 1 ? '1 is' : `${answer.common} are`;
  panel.classList.remove('waiting');
  const most = Math.max(answer.a.rows.length, answer.b.rows.length);
  panel.replaceChildren(
    h('div', { class: 'row' }, h('h3', {}, ...about.title), h('span', { class: 'common' }, `${both} common to both, of ${most}`),
      caveat(about.caveat || caveats.distance), state.analogy ? null : direction()),
    h('div', { class: 'lists' }, lists[0], svg('svg', { class: 'ties', 'aria-hidden': 'true' }), lists[1]));
  for (const canvas of panel.querySelectorAll('canvas')) {
    const cell = answer.crystals[canvas.dataset.id ?? ''];
    const site = canvas.dataset.site ? Number(canvas.dataset.site) : null;
    if (cell) paint(canvas, cell, site, elements);
  }
  tie();
}

/** Whether each model answers for itself, or with what the other embedded. */
function direction() {
  const button = (/** @type {boolean} */ across, /** @type {string} */ text, /** @type {string} */ title) => h('button', {
    type: 'button', title, 'aria-pressed': String(state.across === across), onclick: () => go({ across }),
  }, text);
  return h('span', { class: 'group', role: 'group', 'aria-label': 'Who answers' },
    button(false, 'each by itself', 'Model A among what A embedded, B among what B embedded'),
    button(true, 'across', 'What B embedded, nearest to where A sees it; and the other way round'));
}

/** @param {'a' | 'b'} side @param {any} answer @param {boolean} isAtom @param {(row: any) => Promise<number>} rowOf */
function list(side, answer, isAtom, rowOf) {
  const { side: model, across, rows, error } = answer[side];
  const far = Math.max(...rows.map((/** @type {any} */ row) => row.distance), 1e-9);
  return h('section', { class: `list ${side}`, 'aria-label': `By ${model}` },
    h('h4', {}, h('span', { class: 'badge', 'aria-hidden': 'true' }, side.toUpperCase()), across ? `${model} asks ${across}` : `by ${model}`),
    error && complaint(error),
    h('ol', {}, rows.map((/** @type {any} */ row) => item(side, row, answer.crystals[row.structure_id], far, isAtom, rowOf))));
}

/** @param {'a' | 'b'} side @param {any} row @param {any} cell @param {number} far @param {boolean} isAtom @param {(row: any) => Promise<number>} rowOf */
function item(side, row, cell, far, isAtom, rowOf) {
  const other = side === 'a' ? 'B' : 'A';
  const step = { id: row.structure_id, site: isAtom ? row.site_index : null, analogy: '' };
  return h('li', {
    'data-key': `${row.structure_id} ${row.site_index ?? ''}`, class: row.other ? 'shared' : '',
    onpointerenter: async () => hover(await rowOf(row)), onpointerleave: () => hover(null),
  }, h('a', { href: address(step), onclick: follow(step) },
    h('canvas', { 'data-id': row.structure_id, 'data-site': isAtom ? row.site_index : null, 'aria-hidden': 'true' }),
    h('span', { class: 'what' },
      h('span', { class: 'name' }, isAtom && h('b', {}, `${row.element}${row.site_index} `), formula(cell?.formula ?? '')),
      h('span', { class: 'id' }, row.structure_id), h('span', { class: 'id' }, spaceGroup(cell?.symbol))),
    h('span', { class: 'far' }, h('i', { style: { '--share': String(row.distance / far) } }), number(row.distance)),
    row.other ? h('span', { class: 'tie' }, `${other} ${row.other}`, h('span', { class: 'hidden' }, ` is its rank by model ${other}`)) : null));
}

/** Draw a line between the two lists for each that both name. */
function tie() {
  const ties = panel.querySelector('.ties');
  if (!ties) return;
  const box = ties.getBoundingClientRect();
  const lines = [];
  for (const left of panel.querySelectorAll('.list.a li.shared')) {
    const key = CSS.escape(/** @type {HTMLElement} */ (left).dataset.key ?? '');
    const right = panel.querySelector(`.list.b li[data-key="${key}"]`);
    if (!right || !box.width) continue;
    const [y1, y2] = [left, right].map((one) => one.getBoundingClientRect()).map((one) => one.top + one.height / 2 - box.top);
    const half = box.width / 2;
    lines.push(svg('path', { d: `M0 ${y1} C${half} ${y1} ${half} ${y2} ${box.width} ${y2}` }));
  }
  ties.replaceChildren(...lines);
}

/** Where the neighbours are, for the maps. @param {any} answer @param {'a' | 'b'} side */
export async function places(answer, side) {
  const { row } = await structures();
  return answer[side].rows.map((/** @type {any} */ one) => ({ structure: row.get(one.structure_id) ?? -1, site: one.site_index ?? null }));
}
