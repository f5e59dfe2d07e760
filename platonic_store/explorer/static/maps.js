// Two maps of the same rows, linked: hover, click, lasso, pan and zoom on one are seen on the other.

import { caveat, counted, h } from './format.js';
import { overview, places, points, column, structures } from './points.js';
import { isDark, painted } from './colours.js';
import { address, go, state } from './state.js';
import { inside, parsePolygon, writePolygon } from './lasso.js';
import * as overlay from './overlay.js';
import { createRenderer, createScatterplot } from './vendor/scatterplot.js';

const FAR = 1000; // where a map keeps what its model has no place for
const SIDES = /** @type {const} */ (['a', 'b']);

/** @type {Object<string, any>} What is drawn: points, painted, and of each side plot and places. */
export const drawn = { points: null, painted: null, plots: {}, places: {}, visible: null, picked: null };
/** @type {((row: number | null) => void)[]} */
const hoverListeners = [];
/** @type {(() => void)[]} */
const pickListeners = [];
let drawing = 0;
/** The plots draw one thing after the other. */
let queue = Promise.resolve();
let isLassoing = false;

/** Draw when what is being drawn is done. @param {() => Promise<void>} work */
function next(work) {
  queue = queue.then(work, work);
  return queue;
}

/** @param {(row: number | null) => void} listener */
export function onHover(listener) {
  hoverListeners.push(listener);
}

/** Called when other rows are shown or picked. @param {() => void} listener */
export function onPick(listener) {
  pickListeners.push(listener);
}

/** Ask for what will be drawn, before there is a place for it. */
export async function prepare() {
  const { colours } = await overview();
  const loads = [points(state.level), column(state.level, nameOf(colours)), structures(), ...SIDES.map((side) => places(state.level, state[side]))];
  await Promise.allSettled(loads);
}

/** What is coloured by, if this level has it. @param {any[]} colours */
function nameOf(colours) {
  const is = colours.some((one) => one.name === state.color && one.levels.includes(state.level));
  return is ? state.color : 'group';
}

/** Make the maps' frames and controls. */
export async function mount() {
  const { models, map, no_map: reason } = await overview();
  if (!map) {
    document.getElementById('pair')?.replaceChildren(h('p', { class: 'complaint' }, `There is no map: ${reason}`));
    return;
  }
  const renderer = createRenderer();
  for (const side of SIDES) {
    const figure = /** @type {HTMLElement} */ (document.getElementById(`map-${side}`));
    const canvas = h('canvas', { role: 'img', tabindex: -1, 'data-map': side });
    const frame = h('div', { class: 'frame' }, canvas, overlay.layer(side), h('p', { class: 'empty', hidden: true }));
    figure.replaceChildren(h('figcaption', {}, chooser(side, models)), frame);
    drawn.plots[side] = plot(renderer, canvas, side);
    new ResizeObserver(() => drawn.plots[side].draw && overlay.redraw()).observe(frame);
  }
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => draw());
}

/** @param {'a' | 'b'} side @param {any[]} models */
function chooser(side, models) {
  const select = h('select', {
    'aria-label': `Model of map ${side.toUpperCase()}`, id: `model-${side}`,
    onchange: () => go({ [side]: select.value }),
  }, models.map((one) => h('option', { value: one.side, title: one.sha256 }, one.side)));
  return [h('span', { class: 'badge', 'aria-hidden': 'true' }, side.toUpperCase()), select, h('span', { class: 'role' })];
}

/** @param {any} renderer @param {HTMLCanvasElement} canvas @param {'a' | 'b'} side */
function plot(renderer, canvas, side) {
  const one = createScatterplot({
    renderer, canvas, width: 'auto', height: 'auto', lassoMinDelay: 5, lassoLineWidth: 2,
    actionKeyMap: { lasso: 'shift' }, deselectOnDblClick: false, deselectOnEscape: false, pointSizeSelected: 1,
    pointOutlineWidth: 0, cameraDistance: 1.14,
    spatialIndexUseWorker: false, // millions of points are indexed sooner than sent to a worker opacityInactiveScale: 0.15,
  });
  const other = side === 'a' ? 'b' : 'a';
  one.subscribe('pointover', (/** @type {number} */ row) => hover(row));
  one.subscribe('pointout', () => hover(null));
  one.subscribe('lassoStart', () => { isLassoing = true; });
  one.subscribe('lassoEnd', (/** @type {any} */ { coordinates }) => {
    setTimeout(() => { isLassoing = false; });
    if (coordinates.length > 3) go({ lasso: writePolygon(side, coordinates), tab: 'results' });
    else select();
  });
  one.subscribe('select', (/** @type {any} */ { points: rows }) => {
    if (!isLassoing && rows.length === 1) open(rows[0]);
    select();
  });
  one.subscribe('view', (/** @type {any} */ { view }) => {
    drawn.plots[other].view(view, { preventEvent: true });
    overlay.redraw();
  });
  one.subscribe('draw', () => overlay.redraw());
  return one;
}

/** Show a row on both maps. @param {number | null} row */
export function hover(row) {
  overlay.hover(row);
  for (const listener of hoverListeners) listener(row);
}

/** Go to the crystal (and atom) of a row. @param {number} row */
export async function open(row) {
  const { ids } = await structures();
  const of = drawn.points;
  go({ id: ids[of.structure(row)], site: of.site(row), tab: 'nearest', analogy: '' });
}

/** Draw what the state says: positions, colours, what is hidden, what is picked. */
export async function draw() {
  if (!drawn.plots.a) return;
  const turn = (drawing += 1);
  const { level } = state;
  const name = nameOf((await overview()).colours);
  const [of, values, ...both] = await Promise.all([
    points(level), column(level, name), ...SIDES.map((side) => places(level, state[side]).catch((error) => error)),
  ]);
  const paint = await painted(name, values);
  await next(async () => { if (turn === drawing) await drawAll(of, paint, values, name, both); });
}

/** @param {import('./points.js').Points} of @param {any} paint @param {any} values @param {string} name @param {any[]} both */
async function drawAll(of, paint, values, name, both) {
  Object.assign(drawn, { points: of, painted: paint, values, color: name });
  drawn.places = { a: both[0], b: both[1] };
  fade();
  await Promise.all(SIDES.map((side) => drawOne(side)));
  performance.mark('maps drawn');
  await show();
}

/** @param {'a' | 'b'} side */
async function drawOne(side) {
  const [one, at] = [drawn.plots[side], drawn.places[side]];
  const figure = /** @type {HTMLElement} */ (document.getElementById(`map-${side}`));
  const empty = /** @type {HTMLElement} */ (figure.querySelector('.empty'));
  empty.hidden = !(at instanceof Error);
  if (at instanceof Error) {
    empty.textContent = `${at.message}${'hint' in at ? ` ${at.hint}` : ''}`;
    one.clear();
    return;
  }
  const count = drawn.points.count;
  const paper = getComputedStyle(document.documentElement).getPropertyValue('--paper').trim();
  one.set({
    backgroundColor: paper, pointColor: drawn.palette, colorBy: 'valueA',
    pointColorActive: drawn.palette, pointColorHover: isDark() ? '#ffffff' : '#000000',
    pointSize: count < 1500 ? 7 : count < 12000 ? 4.5 : count < 60000 ? 3 : count < 400000 ? 2 : 1,
    opacity: count < 12000 ? 0.85 : count < 400000 ? 0.6 : 0.35, performanceMode: false,
  });
  const key = `${state.level} ${state[side]}`;
  const spatialIndex = one.key === key ? one.get('spatialIndex') : undefined;
  one.key = key;
  one.set({ pointOrder: drawn.order });
  const x = at.x.map((/** @type {number} */ value) => (Number.isNaN(value) ? FAR : value));
  const y = at.y.map((/** @type {number} */ value) => (Number.isNaN(value) ? FAR : value));
  await one.draw({ x, y, z: drawn.codes }, { zDataType: 'categorical', spatialIndex });
  const canvas = one.get('canvas');
  canvas.setAttribute('aria-label', `${counted(count, state.level)} as ${state[side]} sees them, coloured by ${drawn.color}; the lists below hold the same`);
}

/** @type {{structures: number[], atoms: number[] | null} | null} what the filters leave, if any */
let found = null;

/** @param {{structures: number[], atoms: number[] | null} | null} answer */
export async function restrict(answer) {
  found = answer;
  await next(async () => {
    if (!drawn.points) return;
    fade();
    await Promise.all(SIDES.map((side) => drawOne(side)));
    await show();
  });
}

/** Paint what the filters leave out as a faint ground, beneath the rest. */
function fade() {
  const { painted: paint, points: of } = drawn;
  drawn.palette = paint.palette;
  drawn.codes = paint.codes;
  drawn.order = null;
  drawn.left = null;
  if (!found) return;
  const structuresLeft = new Set(found.structures);
  const atomsLeft = found.atoms && state.level === 'atom' ? new Set(found.atoms) : null;
  const codes = Uint8Array.from(paint.codes);
  const [faint, left] = [/** @type {number[]} */ ([]), /** @type {number[]} */ ([])];
  for (let row = 0; row < of.count; row += 1) {
    if (atomsLeft ? atomsLeft.has(row) : structuresLeft.has(of.structure(row))) left.push(row);
    else {
      codes[row] = paint.palette.length;
      faint.push(row);
    }
  }
  drawn.palette = [...paint.palette, isDark() ? '#26292e' : '#eceef1'];
  drawn.codes = codes;
  drawn.order = [...faint, ...left];
  drawn.left = new Set(left);
}

/** Show the rows that the legend leaves, and mark those in the lasso. */
export function refine() {
  return next(show);
}

async function show() {
  if (!drawn.points) return;
  const shown = visible();
  drawn.visible = shown;
  for (const side of SIDES) {
    if (drawn.places[side] instanceof Error) continue;
    if (shown) await drawn.plots[side].filter(shown, { preventEvent: true });
    else if (drawn.plots[side].get('isPointsFiltered')) await drawn.plots[side].unfilter({ preventEvent: true });
  }
  pick();
}

/** Which rows to show; null for all. @returns {number[] | null} */
function visible() {
  const { painted: paint, points: of, values } = drawn;
  const hidden = new Set(state.hide.map((name) => paint.names.indexOf(name)).filter((code) => code >= 0));
  const range = paint.range && state.range;
  if (!hidden.size && !range) return null;
  const rows = [];
  for (let row = 0; row < of.count; row += 1) {
    if (hidden.has(paint.codes[row])) continue;
    if (range && !(values.values[row] >= range[0] && values.values[row] <= range[1])) continue;
    rows.push(row);
  }
  return rows;
}

/** Mark the rows that lie in the lasso, on both maps. */
function pick() {
  const lasso = parsePolygon(state.lasso);
  const at = lasso && drawn.places[lasso.side];
  drawn.picked = null;
  if (lasso && at && !(at instanceof Error)) {
    const rows = drawn.visible ?? Array.from({ length: drawn.points.count }, (_, i) => i);
    drawn.picked = rows.filter((/** @type {number} */ row) => (!drawn.left || drawn.left.has(row)) && inside(lasso.polygon, at.x[row], at.y[row]));
  }
  select();
  overlay.redraw();
  for (const listener of pickListeners) listener();
}

/** Set both maps' selection to what the lasso holds: a click changes it. */
function select() {
  for (const side of SIDES) {
    const one = drawn.plots[side];
    if (drawn.places[side] instanceof Error || !one.get('isPointsDrawn')) continue;
    if (drawn.picked?.length) one.select(drawn.picked, { preventEvent: true });
    else one.deselect({ preventEvent: true });
  }
}

/** See all of both maps again. */
export function reset() {
  for (const side of SIDES) drawn.plots[side]?.reset();
  overlay.redraw();
}

/** @param {'panZoom' | 'lasso'} mode */
export function mode(mode) {
  for (const side of SIDES) drawn.plots[side]?.set({ mouseMode: mode });
}

/** Say which model is which, under the maps' headings. */
export async function caption() {
  const { map, caveats } = await overview();
  for (const side of SIDES) {
    const select = /** @type {HTMLSelectElement | null} */ (document.getElementById(`model-${side}`));
    if (select) select.value = state[side];
  }
  return map ? caveat([caveats.map, map.note].filter(Boolean).join('; ')) : null;
}

export { address };
