// A table of what was found: by search, in the lasso, by a query of the cookbook.

import { counted, formula, h, number } from './format.js';
import { drawn } from './maps.js';
import { structures } from './points.js';
import { follow } from './crystal.js';
import { address } from './state.js';

const MOST_ROWS = 200;
const MOST_IN_CSV = 200000;
/** @type {string | undefined} */
let file;

/**
 * A table whose ids are links.
 * @param {any[]} rows @param {{total: number, what: string, where?: string, csv?: string, notes?: (Node | string)[], links?: Object<string, string>}} about
 */
export function table(rows, about) {
  const names = rows.length ? Object.keys(rows[0]) : [];
  const more = about.total > rows.length ? `, the first ${rows.length}` : '';
  return [
    h('div', { class: 'row' }, h('h3', {}, `${counted(about.total, about.what)}${about.where ?? ''}${more}`),
      about.csv && rows.length ? h('a', { class: 'button', href: about.csv, download: '' }, 'CSV') : null, ...(about.notes ?? [])),
    rows.length ? h('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': about.what }, h('table', { class: 'data' },
      h('thead', {}, h('tr', {}, names.map((name) => h('th', { scope: 'col' }, name)))),
      h('tbody', {}, rows.map((row) => h('tr', {}, names.map((name) => h('td', {}, cell(name, row, about.links ?? {})))))))) : null,
  ];
}

/** @param {string} name @param {any} row @param {Object<string, string>} links ids of what was sent, by name */
function cell(name, row, links) {
  const value = row[name];
  if (name === 'candidate' && value in links || value && (name === 'duplicate_of' || name === 'nearest_id')) {
    const id = links[value] && name === 'candidate' ? links[value] : value;
    return h('a', { href: address({ id, site: null, tab: 'nearest' }), onclick: follow({ id, site: null, tab: 'nearest' }) }, value);
  }
  if (value !== null && (name === 'structure_id' || name === 'neighbour' || name === 'other' && typeof value === 'string')) {
    const site = name === 'structure_id' && Number.isInteger(row.site_index) ? row.site_index : null;
    return h('a', { href: address({ id: value, site, tab: 'nearest' }), onclick: follow({ id: value, site, tab: 'nearest' }) }, value);
  }
  return name === 'formula' || name === 'other_formula' ? formula(String(value ?? '–')) : number(value);
}

/** The rows in the lasso, as far as the page knows them. */
export async function picked() {
  const rows = drawn.picked;
  if (!rows) return null;
  const { ids, formulas } = await structures();
  const all = rows.slice(0, MOST_IN_CSV).map((/** @type {number} */ row) => {
    const structure = drawn.points.structure(row);
    const site = drawn.points.site(row);
    const { painted, values } = drawn;
    return {
      structure_id: ids[structure], ...(site === null ? {} : { site_index: site }), formula: formulas[structure],
      [drawn.color]: values.values ? values.values[row] : painted.names[painted.codes[row]] ?? null,
    };
  });
  return { rows: all.slice(0, MOST_ROWS), total: rows.length, csv: csv(all) };
}

/** All rows of the lasso as a file. @param {any[]} all */
function csv(all) {
  if (!all.length) return undefined;
  const names = Object.keys(all[0]);
  const quote = (/** @type {any} */ value) => (/[",\n]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : String(value ?? ''));
  const lines = all.map((row) => names.map((name) => quote(row[name])).join(','));
  if (file) URL.revokeObjectURL(file);
  file = URL.createObjectURL(new Blob([`${[names.join(','), ...lines].join('\n')}\n`], { type: 'text/csv' }));
  return file;
}
