// A file of several structures that was dropped: screened, and shown as a table.

import { Refusal, refusal } from './api.js';
import { caveat, counted, h } from './format.js';
import { table } from './results.js';

const SHOWN = ['rank', 'candidate', 'class', 'formula', 'p', 'p_sparse', 'duplicate_of', 'same_as', 'nearest_id', 'element', 'site_index', 'rule'];
/** @type {(Node | null)[]} what the page shows of the last batch */
export let screened = [];

/**
 * Screen what the models have embedded by now.
 * @param {any} batch as `/api/batches` gives it
 */
export async function screen(batch) {
  const models = Object.entries(batch.embedded).filter(([, state]) => state.done).map(([model]) => model);
  if (!models.length) throw new Refusal('no model has embedded any of the structures', batch.rejected[0]?.reason);
  const asked = new URLSearchParams([['candidates', batch.id], ...models.map((model) => ['models', model])]);
  const response = await fetch(`/api/screen?${asked}`, { headers: { Accept: 'application/json' } });
  if (!response.ok) throw await refusal(response);
  const { rows } = await response.json();
  const links = Object.fromEntries(batch.structures.map((/** @type {any} */ one) => [one.name, one.id]));
  const shown = rows.map((/** @type {any} */ row) => Object.fromEntries(SHOWN.map((name) => [name, row[name]])));
  screened = table(shown, {
    total: rows.length, what: 'candidate', where: ` by ${models.join(' and ')}`, csv: `/api/screen.csv?${asked}`, links,
    notes: [counts(rows), caveat('a class says where a candidate lies among what is known, not that it is stable')],
  });
  dispatchEvent(new CustomEvent('screened'));
}

/** How many are in each class. @param {any[]} rows */
function counts(rows) {
  const found = new Map();
  for (const row of rows) found.set(row.class, (found.get(row.class) ?? 0) + 1);
  return h('span', { class: 'quiet' }, [...found].map(([name, count]) => `${count} ${name}`).join(', '));
}

/** How far the models are. @param {any} batch @param {string} name */
export function progress(batch, name) {
  const count = batch.structures.length;
  const states = Object.entries(batch.embedded).map(([model, state]) => {
    const isDone = state.done + state.rejected === count;
    return h('li', { class: isDone ? 'done' : 'running' }, `${model}: ${state.done} of ${count}${state.rejected ? `, ${state.rejected} rejected` : ''}`);
  });
  const left = batch.rejected.length ? `, ${counted(batch.rejected.length, 'record')} cannot be read` : '';
  return [h('p', {}, `${name}: ${counted(count, 'structure')}${left}`), h('ul', { class: 'progress' }, states)];
}

/** Whether every model has embedded or rejected all. @param {any} batch */
export const isDone = (batch) => Object.values(batch.embedded).every((state) => state.done + state.rejected >= batch.structures.length);
