// One box for ids, formulas, chemical systems, SQL conditions and analogies; filters are chips.

import { json } from './api.js';
import { h } from './format.js';
import { overview } from './points.js';
import { go, state } from './state.js';

/** @type {HTMLInputElement} */
let input;
/** @type {HTMLUListElement} */
let list;
/** @type {any[]} */
let offers = [];
let active = -1;
let asking = 0;

/** Make the box. */
export function mount() {
  input = h('input', {
    id: 'query', type: 'text', role: 'combobox', autocomplete: 'off', spellcheck: 'false', 'aria-expanded': 'false', 'aria-controls': 'offers',
    'aria-autocomplete': 'list', 'aria-label': 'Search', placeholder: 'id, CaTiO3, Ca-Ti-O, band_gap > 1, or CaTiO3 - Ca + Sr',
    oninput: offer, onkeydown: onKey, onfocus: offer, onblur: () => setTimeout(() => { if (document.activeElement !== input) close(); }, 150),
  });
  list = h('ul', { id: 'offers', role: 'listbox', 'aria-label': 'Suggestions', hidden: true });
  document.getElementById('search')?.replaceChildren(h('form', { onsubmit: (/** @type {Event} */ event) => { event.preventDefault(); take(active < 0 ? 0 : active); } }, input, list));
}

/** Ask what the text may mean. */
async function offer() {
  const turn = (asking += 1);
  const text = input.value;
  const word = /[\w.]+$/.exec(text.slice(0, input.selectionStart ?? text.length))?.[0] ?? '';
  const [columns, found] = await Promise.all([
    completions(text, word), text.trim() ? json('suggest', { text }).catch(() => []) : [],
  ]);
  if (turn !== asking || document.activeElement !== input) return;
  offers = [...(columns.length && !found.some((/** @type {any} */ one) => one.kind === 'open') ? [] : found), ...columns, ...(columns.length && !found.some((/** @type {any} */ one) => one.kind === 'open') ? found : [])];
  active = offers.findIndex((one) => one.kind !== 'column');
  draw();
}

/** Columns that begin as the word before the cursor does. @param {string} text @param {string} word */
async function completions(text, word) {
  if (word.length < 2) return [];
  const { columns } = await overview();
  const all = { ...columns.atom, ...columns.structure };
  return Object.entries(all).filter(([name]) => name.startsWith(word) && name !== word).slice(0, 5)
    .map(([name, type]) => ({ kind: 'column', text: name, note: `column, ${String(type).toLowerCase()}`, word }));
}

function draw() {
  list.replaceChildren(...offers.map((one, i) => h('li', {
    role: 'option', id: `offer-${i}`, 'aria-selected': String(i === active), class: one.kind,
    onpointerdown: (/** @type {Event} */ event) => { event.preventDefault(); take(i); },
  }, h('span', { class: 'kind' }, { open: 'open', filter: 'filter', analogy: 'analogy', column: 'insert' }[/** @type {'open'} */ (one.kind)]), h('b', {}, one.text), ' ', h('span', { class: 'caveat' }, one.note))));
  list.hidden = !offers.length;
  input.setAttribute('aria-expanded', String(!list.hidden));
  if (active >= 0) input.setAttribute('aria-activedescendant', `offer-${active}`);
  else input.removeAttribute('aria-activedescendant');
}

function close() {
  list.hidden = true;
  input.setAttribute('aria-expanded', 'false');
}

/** @param {KeyboardEvent} event */
function onKey(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step && offers.length) {
    active = (active + step + offers.length) % offers.length;
    draw();
    event.preventDefault();
  } else if (event.key === 'Escape') close();
  else if (event.key === 'Tab' && !list.hidden && offers.some((one) => one.kind === 'column') && !event.shiftKey) {
    take(offers.findIndex((one) => one.kind === 'column'));
    event.preventDefault();
  }
}

/** Do what an offer says. @param {number} i */
function take(i) {
  const one = offers[i];
  if (!one) return;
  if (one.kind === 'column') {
    const at = input.selectionStart ?? input.value.length;
    input.value = `${input.value.slice(0, at - one.word.length)}${one.text} ${input.value.slice(at)}`;
    input.focus();
    offer();
    return;
  }
  input.value = '';
  close();
  if (one.kind === 'open') go({ id: one.text, site: null, level: 'structure', tab: 'nearest', analogy: '' });
  else if (one.kind === 'analogy') go({ analogy: one.text, tab: 'nearest' });
  else go({ filters: [...state.filters.filter((text) => text !== one.text), one.text], tab: 'results' });
}

/** The filters, each with its end. */
export function chips() {
  const place = /** @type {HTMLElement} */ (document.getElementById('chips'));
  place.hidden = !state.filters.length;
  place.replaceChildren(...state.filters.map((text) => h('span', { class: 'chip' }, text,
    h('button', { type: 'button', 'aria-label': `Remove filter ${text}`, onclick: () => go({ filters: state.filters.filter((one) => one !== text) }) }, '×'))));
}
