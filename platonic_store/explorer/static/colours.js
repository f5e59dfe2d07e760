// Colours of points: a code and a palette, whatever they are coloured by.

import { overview } from './points.js';

/**
 * @typedef {import('./points.js').Column} Column
 * @typedef {Object} Painted
 * @property {Uint8Array} codes of each row, an index into palette
 * @property {string[]} palette
 * @property {string[]} names of categories, '' where colours are a scale
 * @property {[number, number] | null} range that the scale spans
 */

const STEPS = 48;
const SCALES = {
  // Pale where nothing is amiss, strong where it is.
  strong: { light: ['#d3d8de', '#e6b566', '#d4602a', '#7c1516'], dark: ['#474d57', '#96622b', '#ee8a3d', '#ffe48f'] },
  plain: {
    light: ['#440154', '#3b528b', '#21918c', '#5ec962', '#c8d21f'],
    dark: ['#5b3b8c', '#3f6fb0', '#22a884', '#7ad151', '#fde725'],
  },
};
// Okabe and Ito's, then Tol's, which everyone can tell apart.
const CATEGORIES = [
  '#0072B2', '#E69F00', '#009E73', '#CC79A7', '#D55E00', '#56B4E9', '#8a7a00', '#882255', '#44AA99',
  '#332288', '#DDCC77', '#AA4499', '#117733', '#661100', '#6699CC', '#888888',
];

export const isDark = () => matchMedia('(prefers-color-scheme: dark)').matches;
/** What has no value. */
const none = () => (isDark() ? '#4b5058' : '#cfd3d8');

/** Black and greys of the groups would drown in the dark. @param {string} colour */
export function onGround(colour) {
  if (!isDark()) return colour;
  return { '#000000': '#e8e8e8', '#555555': '#8d8d8d', '#999999': '#b9b9b9' }[colour] ?? colour;
}

/** @param {string} name @param {Column} column @returns {Promise<Painted>} */
export async function painted(name, column) {
  if (column.codes) return paintedCategories(name, column, column.codes);
  return paintedNumbers(name, /** @type {Float32Array} */ (column.values));
}

/** @param {string} name @param {Column} column @param {Uint8Array} codes */
async function paintedCategories(name, column, codes) {
  const { names } = column;
  let palette = column.colours.map(onGround);
  if (name === 'element') {
    const { elements, groups } = await overview();
    const symbols = new Map(elements.map((/** @type {any[]} */ one) => [one[0], one]));
    palette = names.map((symbol) => shade(onGround(groups[symbols.get(symbol)[3]]), symbol));
  } else if (!palette.length) palette = names.map((_, i) => CATEGORIES[i % CATEGORIES.length]);
  const shown = codes.map((code) => (code === 255 ? names.length : code));
  return { codes: shown, palette: [...palette, none()], names, range: null };
}

/** Elements of a group are shades of its colour. @param {string} hex @param {string} symbol */
function shade(hex, symbol) {
  let hash = 0;
  for (const letter of symbol) hash = (hash * 31 + letter.charCodeAt(0)) % 997;
  const factor = 0.78 + (0.44 * (hash % 100)) / 100;
  return mix([...rgb(hex)].map((one) => Math.max(0, Math.min(255, one * factor))));
}

/** @param {string} name @param {Float32Array} values @returns {Painted} */
function paintedNumbers(name, values) {
  const range = rangeOf(name, values);
  const colours = ramp(name);
  const span = range[1] - range[0] || 1;
  const codes = new Uint8Array(values.length);
  for (let i = 0; i < values.length; i += 1) {
    const share = (values[i] - range[0]) / span;
    codes[i] = Number.isNaN(share) ? STEPS : Math.max(0, Math.min(STEPS - 1, Math.floor(share * STEPS)));
  }
  return { codes, palette: [...colours, none()], names: [], range };
}

/** Whether small values are the ones to look at. @param {string} name */
const isP = (name) => name.startsWith('p:');

/** The colours of a scale, from its low end. @param {string} name */
export function ramp(name) {
  const kind = isP(name) || name === 'disagreement' ? SCALES.strong : SCALES.plain;
  const stops = kind[isDark() ? 'dark' : 'light'];
  const colours = Array.from({ length: STEPS }, (_, i) => between(stops, i / (STEPS - 1)));
  return isP(name) ? colours.reverse() : colours;
}

/** What of a scale a share of it, 0 to 1, is painted. @param {string} name @param {number | null} share */
export function onScale(name, share) {
  if (share === null || Number.isNaN(share)) return none();
  const colours = ramp(name);
  return colours[Math.max(0, Math.min(STEPS - 1, Math.floor(share * STEPS)))];
}

/** All of p and disagreement; else without the outermost hundredth. @param {string} name @param {Float32Array} values @returns {[number, number]} */
function rangeOf(name, values) {
  if (isP(name) || name === 'disagreement') return [0, 1];
  const step = Math.max(1, Math.floor(values.length / 20000));
  const some = values.filter((value, i) => i % step === 0 && !Number.isNaN(value)).sort();
  if (!some.length) return [0, 1];
  return [some[Math.floor(some.length * 0.01)], some[Math.ceil(some.length * 0.99) - 1]];
}

/** @param {string[]} stops @param {number} share */
function between(stops, share) {
  const at = share * (stops.length - 1);
  const low = Math.min(stops.length - 2, Math.floor(at));
  const [from, to] = [rgb(stops[low]), rgb(stops[low + 1])];
  return mix(from.map((one, i) => one + (to[i] - one) * (at - low)));
}

/** @param {string} hex */
const rgb = (hex) => [1, 3, 5].map((i) => Number.parseInt(hex.slice(i, i + 2), 16));

/** @param {number[]} parts */
const mix = (parts) => `#${parts.map((one) => Math.round(one).toString(16).padStart(2, '0')).join('')}`;
