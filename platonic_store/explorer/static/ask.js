// Questions that have a name: the analogy, and the cookbook's queries.

import { address, json } from './api.js';
import { caveat, complaint, h } from './format.js';
import { overview } from './points.js';
import { table } from './results.js';
import { go, state } from './state.js';

const panel = /** @type {HTMLElement} */ (document.getElementById('ask'));
/** @type {any[] | null} */
let queries = null;
let turn = 0;

/** Show the analogy's box, the queries, and the answer of the one that is asked. */
export async function show() {
  const { caveats } = await overview();
  queries ??= await json('queries').catch(() => []);
  const own = (turn += 1);
  const box = h('input', { id: 'expression', value: state.analogy, placeholder: 'CaTiO3 - Ca + Sr', spellcheck: 'false', 'aria-label': 'Analogy' });
  const analogy = h('form', { class: 'row', onsubmit: (/** @type {Event} */ event) => { event.preventDefault(); if (box.value.trim()) go({ analogy: box.value.trim(), tab: 'nearest' }); } },
    h('label', { for: 'expression' }, 'Analogy'), box, h('button', {}, 'nearest to this'), caveat(caveats.analogy));
  const answer = h('div', {});
  const { serve } = await overview();
  panel.replaceChildren(...(serve ? [h('p', { class: 'quiet' }, serve)] : [analogy, ...cookbook()]), answer);
  const [name, given] = state.query.split('?');
  const one = queries?.find((query) => query.name === name);
  if (!one) return;
  answer.replaceChildren(h('p', { class: 'quiet' }, 'asking…'));
  const variables = Object.fromEntries(new URLSearchParams(given ?? ''));
  try {
    const found = await json(`queries/${name}`, variables);
    if (own !== turn) return;
    answer.replaceChildren(...table(found.rows, { total: found.total, what: 'row', csv: address(`queries/${name}.csv`, variables) }).filter((part) => part !== null));
  } catch (error) {
    answer.replaceChildren(complaint(error));
  }
}

function cookbook() {
  const [name, given] = state.query.split('?');
  const values = new URLSearchParams(given ?? '');
  const select = h('select', { id: 'cookbook', onchange: () => go({ query: select.value, tab: 'ask' }) },
    h('option', { value: '' }, 'choose a query…'),
    (queries ?? []).map((one) => h('option', { value: one.name, selected: one.name === name, disabled: Boolean(one.why_not), title: one.why_not }, one.title)));
  const one = queries?.find((query) => query.name === name);
  const inputs = Object.entries(one?.variables ?? {}).map(([key, variable]) => h('label', { class: 'inline' }, `${key} `,
    h('input', { name: key, value: values.get(key) ?? '', placeholder: variable.default ?? '', title: variable.meaning, size: 12 })));
  const form = h('form', {
    class: 'row', onsubmit: (/** @type {Event} */ event) => {
      event.preventDefault();
      const filled = [...new FormData(form)].filter(([, value]) => value);
      const text = new URLSearchParams(/** @type {any} */ (filled)).toString();
      go({ query: `${name}${text && `?${text}`}`, tab: 'ask' });
    },
  }, h('label', { for: 'cookbook' }, 'Cookbook'), select, ...inputs, inputs.length ? h('button', {}, 'ask again') : null);
  return [form, one ? h('p', { class: 'quiet' }, one.text) : ''];
}
