// The points of the maps: rows in one order that all models share, so that maps link by row.

import { bytes, json } from './api.js';

const ABSENT = 65535;
const REACH = 1.5; // as in maps.py

/**
 * @typedef {Object} Points the rows of a level
 * @property {number} count
 * @property {(row: number) => number} structure the row's structure
 * @property {(row: number) => number | null} site
 * @property {(row: number) => number} element atomic number, 0 of a structure
 *
 * @typedef {Object} Places of a model: about −1 to 1, NaN where it has none
 * @property {Float32Array} x
 * @property {Float32Array} y
 *
 * @typedef {Object} Column codes 0 to names.length − 1, or values; `names` only of categories
 * @property {Float32Array | null} values
 * @property {Uint8Array | null} codes
 * @property {string[]} names
 * @property {string[]} colours
 */

/** @type {Map<string, Promise<any>>} */
const known = new Map();

/** @template R @param {string} key @param {() => Promise<R>} load @returns {Promise<R>} */
function once(key, load) {
  let found = known.get(key);
  if (!found) {
    found = load();
    found.catch(() => known.delete(key));
    known.set(key, found);
  }
  return found;
}

/** @returns {Promise<{ids: string[], formulas: string[], row: Map<string, number>}>} */
export function structures() {
  return once('structures', async () => {
    const { ids, formulas } = JSON.parse(new TextDecoder().decode(await bytes('structures')));
    return { ids, formulas, row: new Map(ids.map((/** @type {string} */ id, /** @type {number} */ i) => [id, i])) };
  });
}

/** @param {string} level @returns {Promise<Points>} */
export function points(level) {
  return once(`points ${level}`, async () => {
    if (level === 'structure') {
      const { ids } = await structures();
      return { count: ids.length, structure: (row) => row, site: () => null, element: () => 0 };
    }
    const buffer = await bytes('atoms');
    const count = buffer.byteLength / 7;
    const structure = new Uint32Array(buffer, 0, count);
    const site = new Uint16Array(buffer, 4 * count, count);
    const element = new Uint8Array(buffer, 6 * count, count);
    return {
      count, structure: (row) => structure[row], site: (row) => site[row], element: (row) => element[row],
    };
  });
}

/**
 * The row of a structure, or of its atom (the first of its equivalent sites); −1 for none.
 * @param {Points} of @param {number} structure @param {number | null} site
 */
export function rowOf(of, structure, site) {
  let [low, high] = [0, of.count];
  while (low < high) {
    const middle = (low + high) >> 1;
    const [here, there] = [of.structure(middle), of.site(middle) ?? 0];
    if (here < structure || (here === structure && there < (site ?? 0))) low = middle + 1;
    else high = middle;
  }
  const matches = low < of.count && of.structure(low) === structure && (of.site(low) ?? site) === site;
  return matches || (low < of.count && of.site(low) === null && of.structure(low) === structure) ? low : -1;
}

/** @param {string} level @param {string} side @returns {Promise<Places>} */
export function places(level, side) {
  return once(`places ${level} ${side}`, async () => {
    const all = new Uint16Array(await bytes('map', { level, side }));
    const count = all.length / 2;
    const [x, y] = [new Float32Array(count), new Float32Array(count)];
    for (let i = 0; i < count; i += 1) {
      const is = all[i] !== ABSENT;
      x[i] = is ? REACH * ((2 * all[i]) / (ABSENT - 1) - 1) : NaN;
      y[i] = is ? REACH * ((2 * all[count + i]) / (ABSENT - 1) - 1) : NaN;
    }
    return { x, y };
  });
}

/** @param {string} level @param {string} name @returns {Promise<Column>} */
export function column(level, name) {
  return once(`column ${level} ${name}`, async () => {
    const buffer = await bytes('column', { level, name });
    if (new Uint8Array(buffer, 0, 1)[0] === 0) {
      return { values: new Float32Array(buffer.slice(1)), codes: null, names: [], colours: [] };
    }
    const length = new DataView(buffer).getUint32(1, true);
    const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 5, length)));
    return { values: null, codes: new Uint8Array(buffer, 5 + length), names: head.names, colours: head.colours };
  });
}

/** @type {Promise<any> | undefined} */
let asked;
/** What the store is: models, columns, colours, elements, caveats. */
export function overview() {
  asked ??= json('overview');
  return asked;
}
