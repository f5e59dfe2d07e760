// The crystal's panel: 3D, the chosen atom, what each model finds of it, properties, origin.

import { caveat, formula, h, number, spaceGroup } from './format.js';
import { overview } from './points.js';
import { onScale } from './colours.js';
import { address, go, state } from './state.js';
import * as scene from './crystal3d.js';

/** @type {any} */
let crystal = null;
const choices = { repeat: 1, hasPolyhedra: false };
/** @type {HTMLElement} */
const panel = /** @type {HTMLElement} */ (document.getElementById('crystal'));
/** @type {Object<string, any>} */
const parts = {};

/** Make the panel's places; `upload` is where a file is dropped. @param {Node} upload */
export function mount(upload) {
  Object.assign(parts, {
    title: h('h2', {}), tools: h('div', { class: 'row' }), scene: h('div', { class: 'scene', role: 'img' }),
    key: h('div', { class: 'key' }), facts: h('div', {}),
  });
  parts.stage = h('div', { class: 'stage', hidden: true }, parts.tools, parts.scene, parts.key);
  panel.replaceChildren(parts.title, parts.stage, parts.facts, upload);
}

/** Show a crystal, or where to begin without one. @param {any} found */
export async function show(found) {
  crystal = found;
  parts.stage.hidden = !found;
  if (!found) {
    parts.title.replaceChildren('Choose a crystal');
    parts.facts.replaceChildren(await beginnings());
    return;
  }
  parts.opened ??= scene.open(parts.scene);
  await parts.opened;
  parts.title.replaceChildren(formula(crystal.formula), h('span', { class: 'id' }, crystal.id),
    h('span', { class: 'id' }, spaceGroup(crystal.symbol), crystal.spacegroup ? ` (${crystal.spacegroup})` : ''));
  await update();
}

/** Show the same crystal as the state now says. */
export async function update() {
  if (!crystal) return;
  const { elements, models, caveats } = await overview();
  parts.tools.replaceChildren(...tools(models));
  const model = models.find((/** @type {any} */ one) => one.side === state.a);
  const look = {
    view: state.view, repeat: choices.repeat, hasPolyhedra: choices.hasPolyhedra,
    site: state.site, cutoff: model?.cutoff ?? 5, colour: colouring(elements),
  };
  scene.show(crystal.id, crystal, elements, look, (site) => go({ site, level: 'atom' }));
  parts.scene.setAttribute('aria-label', describe(elements));
  parts.key.replaceChildren(...key(elements, look));
  parts.facts.replaceChildren(...[verdicts(elements, caveats), sites(elements), properties()].filter(Boolean));
}

/** @param {any[][]} elements */
function describe(elements) {
  const names = [...new Set(crystal.numbers)].map((/** @type {any} */ z) => elements[z][0]).join(', ');
  return `${crystal.formula}: ${crystal.numbers.length} atoms of ${names}; the table below lists its sites`;
}

/** The first of a site's equivalent sites. @param {number} site */
const orbit = (site) => crystal.orbits?.[site] ?? site;

/** @param {any[][]} elements @returns {(atom: {number: number, site: number}) => string} */
function colouring(elements) {
  const values = siteValues(state.atoms);
  if (!values) return (atom) => elements[atom.number][1];
  return (atom) => onScale(state.atoms, values[orbit(atom.site)] ?? null);
}

/** Of each first site what atoms are coloured by; null for the element. @param {string} name @returns {Object<number, number> | null} */
function siteValues(name) {
  if (name === 'disagreement') return crystal.disagreement ?? null;
  if (name.startsWith('p:')) return crystal.typicality?.find((/** @type {any} */ one) => `p:${one.side}` === name)?.sites ?? null;
  return null;
}

/** @param {any[]} models */
function tools(models) {
  const colours = [['element', 'element'], ...(Object.keys(crystal.disagreement ?? {}).length ? [['disagreement', 'disagreement']] : []),
    ...(crystal.typicality ?? []).map((/** @type {any} */ one) => [`p:${one.side}`, `p by ${one.side.split('@')[0]}`])];
  const select = h('select', { 'aria-label': 'Colour of the atoms', onchange: () => go({ atoms: select.value }, { quiet: true }) },
    colours.map(([value, label]) => h('option', { value, selected: value === state.atoms }, label)));
  const repeat = h('select', { 'aria-label': 'Cells along each axis', onchange: () => { choices.repeat = Number(repeat.value); update(); } },
    [1, 2, 3].map((n) => h('option', { value: n, selected: n === choices.repeat }, `${n}×${n}×${n}`)));
  const cutoff = models.find((one) => one.side === state.a)?.cutoff;
  return [
    toggle('cell', state.view === 'cell', () => go({ view: 'cell' }, { quiet: true })),
    toggle(`environment${cutoff ? ` ${cutoff} Å` : ''}`, state.view === 'environment', () => go({ view: 'environment', site: state.site ?? 0, level: 'atom' }, { quiet: state.site !== null }), 'What the model sees of the atom'),
    repeat,
    toggle('polyhedra', choices.hasPolyhedra, () => { choices.hasPolyhedra = !choices.hasPolyhedra; update(); }),
    h('label', { class: 'inline' }, 'colour ', select),
  ];
}

/** @param {string} text @param {boolean} is @param {() => void} onclick @param {string} [title] */
function toggle(text, is, onclick, title) {
  return h('button', { type: 'button', 'aria-pressed': String(is), onclick, title }, text);
}

/** What the colours mean. @param {any[][]} elements @param {any} look */
function key(elements, look) {
  if (state.atoms === 'element' || !siteValues(state.atoms)) {
    return [...new Set(crystal.numbers)].map((/** @type {any} */ z) => (
      h('span', { class: 'swatch' }, h('i', { style: { background: elements[z][1] } }), elements[z][0])));
  }
  const ends = state.atoms === 'disagreement' ? ['agree', 'disagree'] : ['atypical', 'typical'];
  const stops = [0, 0.25, 0.5, 0.75, 0.99].map((share) => onScale(state.atoms, share));
  return [h('span', { class: 'scale' }, ends[0], h('i', { style: { background: `linear-gradient(to right, ${stops.join(', ')})` } }), ends[1])];
}

/** Which of the two maps is a scored layer's: of a set of layers, that of its model. @param {string} scored */
function sideOf(scored) {
  const isOf = (/** @type {string} */ side) => side === scored || (side.includes('+') && side.split('@')[0] === scored.split('@')[0]);
  return isOf(state.a) ? 'a' : isOf(state.b) ? 'b' : '';
}

/** What the models find: p of structure and atom, disagreement. @param {any[][]} elements @param {Object<string, string>} caveats */
function verdicts(elements, caveats) {
  const typicality = crystal.typicality ?? [];
  if (!typicality.length) return h('p', { class: 'caveat' }, crystal.unscored || 'No model has scored it: run platonic-store score.');
  const site = state.site === null ? null : orbit(state.site);
  const name = site === null ? '' : `${elements[crystal.numbers[site]][0]}${state.site}`;
  const rows = typicality.map((/** @type {any} */ one) => {
    const side = sideOf(one.side);
    const own = site === null ? null : one.sites[site];
    return h('tr', { class: side }, h('th', { scope: 'row' }, one.side),
      h('td', {}, meter(one.p)), site !== null && h('td', {}, meter(own)));
  });
  const disagreement = crystal.disagreement ?? {};
  const worst = Object.entries(disagreement).sort((x, y) => y[1] - x[1])[0];
  return h('section', {}, h('h3', {}, 'How typical it looks', caveat(`p: ${caveats.p}`)),
    h('table', { class: 'verdicts' }, h('thead', {}, h('tr', {}, h('td', {}), h('th', { scope: 'col' }, 'p, structure'), site !== null && h('th', { scope: 'col' }, `p, ${name}`))), h('tbody', {}, rows)),
    worst && h('p', {}, 'Models disagree most on ', siteLink(Number(worst[0]), elements), ` (${number(worst[1])}) `, caveat(caveats.disagreement)));
}

/** A share of one as a bar with its number. @param {number | null | undefined} value */
function meter(value) {
  if (value === null || value === undefined) return '–';
  return h('span', { class: 'meter' }, h('i', { style: { '--share': String(value), background: onScale('p:', value) } }), number(value));
}

/** @param {number} site @param {any[][]} elements */
function siteLink(site, elements) {
  return h('a', { href: address({ site, level: 'atom' }), onclick: follow({ site, level: 'atom' }) }, `${elements[crystal.numbers[site]][0]}${site}`);
}

/** A link's click as a step of this page. @param {Partial<import('./state.js').State>} changes */
export function follow(changes) {
  return (/** @type {MouseEvent} */ event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    go(changes);
  };
}

/** The distinct sites. @param {any[][]} elements */
function sites(elements) {
  const orbits = crystal.orbits ?? crystal.numbers.map((/** @type {number} */ _, /** @type {number} */ i) => i);
  const first = [...new Set(orbits)].sort((x, y) => x - y);
  const own = state.site === null ? null : orbit(state.site);
  const typicality = crystal.typicality ?? [];
  const rows = first.map((/** @type {any} */ site) => h('tr', { 'aria-selected': site === own, class: site === own && 'chosen' },
    h('td', {}, siteLink(site, elements)),
    h('td', {}, `×${orbits.filter((/** @type {number} */ one) => one === site).length}`),
    ...typicality.map((/** @type {any} */ one) => h('td', {}, number(one.sites[site]))),
    h('td', {}, number(crystal.disagreement?.[site]))));
  return h('section', {}, h('h3', {}, `${first.length} distinct ${first.length === 1 ? 'site' : 'sites'}`),
    h('div', { class: 'scroll short', tabindex: 0, role: 'region', 'aria-label': 'Sites' }, h('table', { class: 'data' },
      h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'site'), h('th', { scope: 'col' }, 'equivalent'),
        ...typicality.map((/** @type {any} */ one) => h('th', { scope: 'col', title: one.side }, sideOf(one.side) ? `p by ${sideOf(one.side).toUpperCase()}` : `p ${one.side}`)),
        h('th', { scope: 'col' }, 'disagree'))), h('tbody', {}, rows))));
}

function properties() {
  const lengths = crystal.cell.map((/** @type {number[]} */ row) => Math.hypot(...row));
  const angle = (/** @type {number} */ i, /** @type {number} */ j) => (Math.acos(crystal.cell[i].reduce((/** @type {number} */ sum, /** @type {number} */ one, /** @type {number} */ k) => sum + one * crystal.cell[j][k], 0) / lengths[i] / lengths[j]) * 180) / Math.PI;
  const cell = lengths.every(Boolean) ? {
    'a, b, c (Å)': lengths.map((/** @type {number} */ one) => one.toFixed(3)).join(', '),
    'α, β, γ (°)': [angle(1, 2), angle(0, 2), angle(0, 1)].map((one) => one.toFixed(1)).join(', '),
  } : {};
  const known = { ...cell, ...crystal.properties, source: crystal.source, 'content hash': crystal.content_hash };
  const rows = Object.entries(known).filter(([, value]) => value !== null && value !== undefined && value !== '');
  return h('section', {}, h('details', { open: innerWidth > 640 }, h('summary', {}, h('h3', {}, 'Properties and origin')),
    h('dl', {}, rows.map(([name, value]) => [h('dt', {}, name), h('dd', {}, number(value))]))));
}

/** What to look at first. */
async function beginnings() {
  const { starts } = await overview();
  return h('section', {}, h('p', {}, 'Each dot on the maps is a crystal (or an atom), where a model puts it. Click one, search for one, or drop a file below.'),
    starts?.length ? h('h3', {}, 'Where the models disagree most') : '',
    h('ul', { class: 'starts' }, (starts ?? []).map((/** @type {any} */ one) => h('li', {},
      h('a', { href: address({ id: one.id, site: one.site, level: 'atom' }), onclick: follow({ id: one.id, site: one.site, level: 'atom' }) }, formula(one.formula), ` ${one.id}`),
      h('span', { class: 'caveat' }, `on its ${one.element}${one.site}`)))));
}
