// The data of a page that was exported: inside the page, gzipped, by the addresses of the service.

import { Refusal, address } from './api.js';

/** @type {Map<string, Promise<ArrayBuffer>>} */
const unpacked = new Map();

/** @returns {import('./api.js').Source} */
export function open() {
  return { isLive: false, json, bytes };
}

/** @param {string} key @returns {Promise<ArrayBuffer>} */
function part(key) {
  const known = unpacked.get(key);
  if (known) return known;
  const packed = /** @type {any} */ (globalThis).platonicData[key];
  const found = packed === undefined ? refuse() : unpack(packed);
  unpacked.set(key, found);
  return found;
}

/** @param {string} packed base64 of gzip */
async function unpack(packed) {
  const raw = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Response(stream).arrayBuffer();
}

/** @returns {Promise<never>} */
async function refuse() {
  throw new Refusal('this page is a file and does not hold that', 'serve the store: `platonic-store serve`');
}

/** @param {string} key */
const read = async (key) => JSON.parse(new TextDecoder().decode(await part(key)));
/** @type {Promise<Object<string, any>> | undefined} */
let crystalsRead;
const crystals = () => (crystalsRead ??= read('crystals'));

/** @param {string} path @param {Object<string, any>} [asked] */
async function bytes(path, asked = {}) {
  return part(decodeURIComponent(address(path, asked).slice('/explore/'.length)));
}

/** @param {string} path @param {Object<string, any>} [asked] @returns {Promise<any>} */
async function json(path, asked = {}) {
  if (path === 'overview') return read('overview');
  if (path === 'crystal') return (await crystals())[asked.id] ?? refuse();
  if (path === 'neighbours') return neighbours(asked);
  if (path === 'suggest') return suggest(asked.text);
  if (path === 'search') return search(asked.filter);
  if (path === 'queries') return [];
  return refuse();
}

const K = 10;

/** As the service answers, from the tables of nearest rows. @param {Object<string, any>} asked */
async function neighbours({ id, site, a, b, across }) {
  if (across) return refuse();
  const [{ points, rowOf, structures }, all] = await Promise.all([import('./points.js'), crystals()]);
  const level = site === null || site === undefined ? 'structure' : 'atom';
  const [of, { ids, row }] = await Promise.all([points(level), structures()]);
  const own = all[id];
  const first = level === 'atom' ? own.orbits[site] : null;
  const at = rowOf(of, /** @type {number} */ (row.get(id)), first);
  const lists = await Promise.all([a, b].map(async (side) => {
    const table = await part(`near?level=${level}&side=${side}`);
    const near = new Uint32Array(table, 0, of.count * K).subarray(at * K, at * K + K);
    const far = new Float32Array(table, 4 * of.count * K).subarray(at * K, at * K + K);
    const rows = [...near].map((one, i) => ({ one, i })).filter(({ one }) => one < of.count).map(({ one, i }) => {
      const structureId = ids[of.structure(one)];
      const found = { rank: i + 1, structure_id: structureId, distance: far[i], other: null };
      return level === 'structure' ? found : { ...found, site_index: of.site(one) };
    });
    return { side, across: null, rows, error: rows.length ? null : { message: `${side} has not embedded ${id}` } };
  }));
  return beside(lists, all, (await read('overview')).elements);
}

/** @param {any[]} lists @param {Object<string, any>} all @param {any[][]} elements */
function beside(lists, all, elements) {
  const key = (/** @type {any} */ one) => `${one.structure_id} ${one.site_index ?? ''}`;
  const ranks = lists.map(({ rows }) => new Map(rows.map((/** @type {any} */ one) => [key(one), one.rank])));
  /** @type {Object<string, any>} */
  const cells = {};
  lists.forEach(({ rows }, i) => {
    for (const one of rows) {
      one.other = ranks[1 - i].get(key(one)) ?? null;
      cells[one.structure_id] = all[one.structure_id];
      if ('site_index' in one) one.element = elements[all[one.structure_id].numbers[one.site_index]][0];
    }
  });
  const common = [...ranks[0].keys()].filter((one) => ranks[1].has(one)).length;
  return { a: lists[0], b: lists[1], common, crystals: cells };
}

/** Elements of `Ca-Ti-O` or `Ca-*`; null for another text. @param {string} text @param {any[][]} elements */
function system(text, elements) {
  const symbols = new Set(elements.map((one) => one[0]));
  const parts = text.split('-').map((one) => one.trim());
  const isOpen = parts.at(-1) === '*';
  const named = isOpen ? parts.slice(0, -1) : parts;
  return parts.length > 1 && named.length && named.every((one) => symbols.has(one)) ? { named, isOpen } : null;
}

/** @param {string} text @returns {Promise<any[]>} */
async function suggest(text) {
  const [all, { elements }] = await Promise.all([crystals(), read('overview')]);
  const low = text.trim().toLowerCase();
  if (!low) return [];
  const starts = (/** @type {string} */ one) => one.toLowerCase().startsWith(low);
  const found = Object.values(all).filter((one) => starts(one.id) || starts(one.formula)).slice(0, 8)
    .map((one) => ({ kind: 'open', text: one.id, note: `${one.formula} · space group ${one.spacegroup}` }));
  const isFormula = Object.values(all).some((one) => one.formula.toLowerCase() === low);
  if (!isFormula && !system(text, elements)) return found;
  const { total } = await search([text]);
  return [{ kind: 'filter', text, note: `${total} structures` }, ...found];
}

/** @param {string[]} filters */
async function search(filters) {
  const [all, { elements }, { structures }] = await Promise.all([crystals(), read('overview'), import('./points.js')]);
  const { row } = await structures();
  let left = Object.values(all);
  for (const text of filters) {
    const named = system(text, elements);
    const formula = text.trim().toLowerCase();
    if (!named && !left.some((one) => one.formula.toLowerCase() === formula)) return refuse();
    left = left.filter((one) => {
      if (!named) return one.formula.toLowerCase() === formula;
      const own = new Set(one.numbers.map((/** @type {number} */ z) => elements[z][0]));
      return named.named.every((symbol) => own.has(symbol)) && (named.isOpen || own.size === named.named.length);
    });
  }
  return {
    total: left.length, atoms: null, structures: left.map((one) => row.get(one.id)),
    rows: left.slice(0, 200).map((one) => ({ structure_id: one.id, ...one.properties })),
  };
}
