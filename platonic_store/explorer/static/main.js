// The page: what changes when the view does.

import { isStale, json, snapshots, source } from './api.js';
import { announce, complaint, formula, h } from './format.js';
import { overview, points, rowOf, structures } from './points.js';
import { begin, home, onChange, go, state, twin } from './state.js';
import * as ask from './ask.js';
import * as batch from './batch.js';
import * as crystal from './crystal.js';
import * as legend from './legend.js';
import * as maps from './maps.js';
import * as neighbours from './neighbours.js';
import * as overlay from './overlay.js';
import * as results from './results.js';
import * as search from './search.js';
import * as upload from './upload.js';

/** @typedef {import('./state.js').State} State */

const TABS = [['nearest', 'Nearest'], ['results', 'Results'], ['ask', 'Ask']];
let turn = 0;

/** Whether any of these differ. @param {State} now @param {State | null} before @param {...(keyof State)} names */
const differs = (now, before, ...names) => !before || names.some((name) => String(now[name]) !== String(before[name]));

async function start() {
  const { models } = await overview();
  const onMap = models.filter((/** @type {any} */ one) => one.has_map);
  const [a, b] = onMap.length > 1 ? firstOfTwo(onMap) : [models[0], models[1] ?? models[0]];
  begin({ a: a?.side ?? '', b: b?.side ?? '' });
  maps.prepare();
  crystal.mount(upload.mount());
  search.mount();
  document.getElementById('home')?.setAttribute('href', home());
  await Promise.all([maps.mount(), corner()]);
  maps.onPick(() => { if (state.tab === 'results') showResults(); });
  onChange(show);
  addEventListener('embedded', () => showCrystal());
  addEventListener('screened', () => showResults());
  addEventListener('newer', newer);
  await show(state, null);
  performance.mark('ready');
  document.documentElement.dataset.ready = 'true';
}

/** The first model and the next one that is another model. @param {any[]} models */
function firstOfTwo(models) {
  return [models[0], models.find((one) => one.model !== models[0].model) ?? models[1]];
}

/** @param {State} now @param {State | null} before */
async function show(now, before) {
  document.title = now.id ? `${now.id} · platonic-store` : 'platonic-store explorer';
  tabs();
  search.chips();
  legend.tools();
  maps.caption();
  const work = [];
  if (differs(now, before, 'filters')) work.push(filter());
  if (differs(now, before, 'level', 'a', 'b', 'color')) work.push(maps.draw().then(legend.legend));
  else if (differs(now, before, 'hide', 'range', 'lasso')) work.push(maps.refine().then(legend.legend));
  if (differs(now, before, 'id', 'site', 'level', 'a', 'b', 'across', 'analogy')) work.push(showCrystal(before));
  else if (differs(now, before, 'view', 'atoms')) work.push(crystal.update());
  if (now.tab === 'results' && differs(now, before, 'tab', 'filters', 'lasso')) work.push(showResults());
  if (now.tab === 'ask' && differs(now, before, 'tab', 'query', 'analogy')) work.push(ask.show());
  await Promise.all(work);
  corner();
}

/** The chosen crystal, its nearest by both models, and all of them on the maps. @param {State | null} [before] */
async function showCrystal(before = null) {
  const own = (turn += 1);
  const { id, site, level, a, b, across, analogy } = state;
  const atom = level === 'atom' ? site : null;
  const near = analogy ? json('analogy', { expression: analogy, a, b })
    : id ? json('neighbours', { id, site: atom, a, b, across: across || null }) : null;
  const nearest = near?.catch((error) => error) ?? Promise.resolve(null);
  const found = id ? await json('crystal', { id }).catch((error) => error) : null;
  if (own !== turn) return;
  if (found instanceof Error) {
    await crystal.show(null);
    neighbours.fail(found);
    return;
  }
  if (!before || before.id !== id || !found) await crystal.show(found);
  else await crystal.update();
  await mark(found, atom, null);
  neighbours.wait();
  const answer = await nearest;
  if (own !== turn) return;
  if (!answer) neighbours.clear();
  else if (answer instanceof Error) neighbours.fail(answer);
  else await neighbours.show(answer, await about(found, atom), rowOfNeighbour);
  await mark(found, atom, answer instanceof Error ? null : answer);
  performance.mark('crystal shown');
  if (found) announce(`${found.formula} ${id}${answer?.a ? `: ${answer.common} of the nearest are common to both models` : ''}`);
}

/** @param {any} found @param {number | null} site */
async function about(found, site) {
  const { elements } = await overview();
  if (state.analogy) return { title: ['Nearest to ', h('b', {}, state.analogy)], isAtom: false, caveat: 'that the right compound comes first says little' };
  const atom = site === null ? null : h('b', {}, `${elements[found.numbers[site]][0]}${site} of `);
  return { title: ['Nearest to ', atom ?? '', formula(found.formula)], isAtom: site !== null, caveat: '' };
}

/** @param {any} row */
async function rowOfNeighbour(row) {
  const [of, { row: structure }] = await Promise.all([points(state.level), structures()]);
  return rowOf(of, structure.get(row.structure_id) ?? -1, row.site_index ?? null);
}

/** @param {any} found @param {number | null} site @param {any} answer */
async function mark(found, site, answer) {
  const { row } = await structures();
  const chosen = found && row.has(found.id)
    ? [{ structure: /** @type {number} */ (row.get(found.id)), site: site === null ? null : found.orbits[site] }] : [];
  const near = answer ? { a: await neighbours.places(answer, 'a'), b: await neighbours.places(answer, 'b') } : { a: [], b: [] };
  overlay.mark(chosen, near, guest(found, site));
}

/** Where a structure that was sent lies on the maps. @param {any} found @param {number | null} site */
function guest(found, site) {
  const place = (/** @type {string} */ side) => {
    const at = found?.places?.[side];
    return at ? (site === null ? at.structure : at.atoms[site]) : null;
  };
  return { a: place(state.a), b: place(state.b) };
}

async function filter() {
  const found = state.filters.length ? await json('search', { filter: state.filters }).catch((error) => error) : null;
  answer = found;
  await maps.restrict(found instanceof Error || isStale() ? null : found);
}
/** @type {any} what the filters find */
let answer = null;

async function showResults() {
  const place = /** @type {HTMLElement} */ (document.getElementById('results'));
  const lasso = await results.picked();
  if (state.filters.length && !answer) await filter();
  let parts;
  if (lasso) parts = results.table(lasso.rows, { total: lasso.total, what: state.level === 'atom' ? 'atom' : 'crystal', where: ' in the lasso', csv: lasso.csv });
  else if (answer instanceof Error) parts = [complaint(answer)];
  else if (answer) parts = results.table(answer.rows, { total: answer.total, what: 'crystal', csv: (await source).isLive ? twin('csv', '') : undefined });
  else parts = batch.screened.length ? [] : [h('p', { class: 'quiet' }, 'Search above, or draw a lasso around dots, and what is found is listed here.')];
  place.replaceChildren(...[...batch.screened, ...parts].filter((part) => part !== null));
}

function tabs() {
  const current = TABS.some(([name]) => name === state.tab) ? state.tab : 'nearest';
  const list = document.getElementById('tabs');
  const focused = document.activeElement?.id;
  list?.replaceChildren(...TABS.map(([name, text], i) => h('button', {
    type: 'button', role: 'tab', id: `tab-${name}`, 'aria-controls': name, 'aria-selected': String(name === current), tabindex: name === current ? 0 : -1,
    onclick: () => go({ tab: name }),
    onkeydown: (/** @type {KeyboardEvent} */ event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const [next] = TABS[(i + step + TABS.length) % TABS.length];
      go({ tab: next });
      document.getElementById(`tab-${next}`)?.focus();
    },
  }, text)));
  if (focused?.startsWith('tab-')) document.getElementById(`tab-${current}`)?.focus();
  for (const [name] of TABS) /** @type {HTMLElement} */ (document.getElementById(name)).hidden = name !== current;
}

/** Say that the maps are those of an earlier snapshot. */
function newer() {
  const place = /** @type {HTMLElement} */ (document.getElementById('newer'));
  place.hidden = false;
  place.replaceChildren(`The store has a newer snapshot, ${snapshots.newest}. `, h('a', { href: location.href, onclick: () => location.reload() }, 'Load it'));
}

/** Snapshot, counts, models and their weights, and this view as data. */
async function corner() {
  const { isLive } = await source;
  const { snapshot, structures: count, atoms, models, uploads } = await overview();
  const rows = models.map((/** @type {any} */ one) => h('tr', {}, h('th', { scope: 'row' }, one.side), h('td', {}, one.kind), h('td', {}, `cutoff ${one.cutoff} Å`),
    h('td', {}, h('code', { title: one.sha256 }, (one.sha256 ?? '').slice(0, 12))), h('td', {}, one.licence ?? '')));
  const open = document.querySelector('#corner details')?.hasAttribute('open');
  document.getElementById('corner')?.replaceChildren(
    h('details', { open }, h('summary', {}, `snapshot ${snapshot} · ${count.toLocaleString('en')} crystals · ${atoms.toLocaleString('en')} atoms`),
      h('div', { class: 'about' }, h('table', { class: 'data' }, h('caption', {}, 'Models and the SHA-256 of their weights'), h('tbody', {}, rows)),
        isLive && h('p', {}, 'This view as ', h('a', { href: twin('json') }, 'JSON'), ' or ', h('a', { href: twin('csv') }, 'CSV'), '; the ', h('a', { href: '/docs' }, 'API'), '.'),
        uploads ? h('p', {}, uploads) : null)));
}

start().catch((error) => {
  document.querySelector('main')?.prepend(complaint(error));
  console.error(error);
});
