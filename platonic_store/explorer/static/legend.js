// The legend: what the colours mean, and a filter on it.

import { caveat, h, number } from './format.js';
import { overview } from './points.js';
import { drawn, mode, reset } from './maps.js';
import { go, state } from './state.js';

const MOST_NAMES = 100;

/** The controls above the maps. */
export async function tools() {
  const { colours, structures, sites, levels: held } = await overview();
  const levels = /** @type {const} */ ([['structure', `crystals ${structures.toLocaleString('en')}`], ['atom', `atoms ${sites.toLocaleString('en')}`]]).filter(([level]) => !held || held.includes(level));
  const select = h('select', { id: 'color', onchange: () => go({ color: select.value, hide: [], range: null }) },
    colours.filter((/** @type {any} */ one) => one.levels.includes(state.level))
      .map((/** @type {any} */ one) => h('option', { value: one.name, selected: one.name === state.color }, one.label)));
  const lasso = h('button', {
    type: 'button', 'aria-pressed': 'false', title: 'Draw around dots; or hold Shift and drag',
    onclick: () => {
      const is = lasso.getAttribute('aria-pressed') !== 'true';
      lasso.setAttribute('aria-pressed', String(is));
      mode(is ? 'lasso' : 'panZoom');
    },
  }, 'lasso');
  document.getElementById('tools')?.replaceChildren(
    h('span', { class: 'group', role: 'group', 'aria-label': 'Dots are' }, levels.map(([level, text]) => h('button', {
      type: 'button', 'aria-pressed': String(state.level === level), 'data-level': level,
      onclick: () => go({ level, hide: [], range: null, lasso: '', ...(level === 'structure' ? { site: null } : {}) }),
    }, text))),
    h('label', { class: 'inline' }, 'colour ', select), lasso,
    state.lasso ? h('button', { type: 'button', onclick: () => go({ lasso: '' }) }, 'clear lasso') : '',
    h('button', { type: 'button', onclick: reset }, 'see all'));
}

/** What the colours on the maps mean. */
export async function legend() {
  const { colours, caveats, map } = await overview();
  const paint = drawn.painted;
  const place = document.getElementById('legend');
  if (!paint || !place) return;
  const colour = colours.find((/** @type {any} */ one) => one.name === drawn.color);
  const content = paint.range ? scale(paint, colour) : names(paint);
  place.replaceChildren(...content, colour?.caveat ? caveat(colour.caveat) : '',
    map ? caveat([caveats.map, map.note].filter(Boolean).join('; ')) : '');
}

/** @param {any} paint */
function names(paint) {
  const counts = new Array(paint.names.length).fill(0);
  for (const code of paint.codes) if (code < counts.length) counts[code] += 1;
  const shown = paint.names.map((/** @type {string} */ name, /** @type {number} */ i) => ({ name, i })).filter((/** @type {any} */ one) => counts[one.i]);
  return shown.slice(0, MOST_NAMES).map((/** @type {{name: string, i: number}} */ { name, i }) => {
    const isHidden = state.hide.includes(name);
    return h('button', {
      type: 'button', class: 'swatch', 'aria-pressed': String(!isHidden), title: `${counts[i].toLocaleString('en')}; click to hide or show, double-click to show it alone`,
      onclick: () => go({ hide: isHidden ? state.hide.filter((one) => one !== name) : [...state.hide, name] }),
      ondblclick: () => go({ hide: shown.map((/** @type {any} */ one) => one.name).filter((/** @type {string} */ one) => one !== name) }),
    }, h('i', { style: { background: paint.palette[i] } }), name);
  }).concat(state.hide.length ? h('button', { type: 'button', onclick: () => go({ hide: [] }) }, 'show all') : []);
}

/** @param {any} paint @param {any} colour */
function scale(paint, colour) {
  const [low, high] = paint.range;
  const [from, to] = state.range ?? paint.range;
  const step = (high - low) / 100 || 0.01;
  const end = (/** @type {string} */ label, /** @type {number} */ value, /** @type {number} */ which) => {
    const input = h('input', {
      type: 'range', min: low, max: high, step, value, 'aria-label': `${label} of ${colour.label} shown`,
      onchange: () => {
        const range = [from, to];
        range[which] = Number(input.value);
        const isWhole = range[0] <= low && range[1] >= high;
        go({ range: isWhole ? null : [Math.min(...range), Math.max(...range)] });
      },
    });
    return input;
  };
  const stops = paint.palette.slice(0, -1).filter((/** @type {string} */ _, /** @type {number} */ i) => i % 6 === 0).join(', ');
  return [h('span', { class: 'scale wide' }, number(low), h('i', { style: { background: `linear-gradient(to right, ${stops})` } }), number(high)),
    h('span', { class: 'range' }, end('lowest', from, 0), end('highest', to, 1),
      h('output', {}, state.range ? `${number(from)} – ${number(to)}` : 'all')),
    h('span', { class: 'swatch' }, h('i', { style: { background: paint.palette.at(-1) } }), 'none')];
}
