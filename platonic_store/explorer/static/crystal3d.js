// The crystal in 3D, by 3Dmol.js: cell or environment, bonds, polyhedra, colours, the chosen atom.

import { bonds, cartesian, cellAtoms, completed, edges, environment, outlook, polyhedra, seen } from './lattice.js';

/** @typedef {import('./lattice.js').Crystal} Crystal @typedef {import('./lattice.js').Atom} Atom */
/**
 * @typedef {Object} Look
 * @property {string} view cell or environment
 * @property {number} repeat
 * @property {boolean} hasPolyhedra
 * @property {number | null} site
 * @property {number} cutoff Å
 * @property {(atom: Atom) => string} colour
 */

const MOST_ATOMS = 3000;
const AXES = [['a', '#c0392b'], ['b', '#1e8449'], ['c', '#2456a6']];

/** @type {any} */
let viewer = null;
/** @type {HTMLElement} */
let place;
/** @type {string} */
let shown = '';
let view = outlook([[1, 0, 0], [0, 1, 0], [0, 0, 1]]);

/** @param {HTMLElement} on */
export async function open(on) {
  place = on;
  const library = await loaded();
  viewer = library.createViewer(place, { backgroundAlpha: 0, antialias: true, disableFog: true, lowerZoomLimit: 3 });
  viewer.setProjection('orthographic');
  new ResizeObserver(() => { viewer.resize(); }).observe(place);
}

/** 3Dmol.js, for which the maps need not wait. @returns {Promise<any>} */
async function loaded() {
  const known = () => /** @type {any} */ (globalThis).$3Dmol;
  if (!known()) {
    await new Promise((resolve, reject) => {
      const script = document.getElementById('library');
      script?.addEventListener('load', resolve);
      script?.addEventListener('error', () => reject(new Error('3dmol.js was not loaded')));
    });
  }
  return known();
}

/**
 * @param {string} key of the crystal: the camera stays where it is for the same
 * @param {Crystal} crystal @param {import('./lattice.js').Elements} elements @param {Look} look
 * @param {(site: number) => void} onPick
 */
export function show(key, crystal, elements, look, onPick) {
  const isEnvironment = look.view === 'environment' && look.site !== null;
  const n = isEnvironment ? 1 : look.repeat;
  const atoms = isEnvironment
    ? environment(crystal, /** @type {number} */ (look.site), look.cutoff) : completed(crystal, cellAtoms(crystal, n), elements).slice(0, MOST_ATOMS);
  const pairs = bonds(atoms, elements, isEnvironment);
  view = outlook(crystal.cell);
  viewer.removeAllModels();
  viewer.removeAllShapes();
  viewer.removeAllLabels();
  addAtoms(atoms, pairs, elements, look, onPick);
  if (isEnvironment) addSphere(atoms[0].at, look.cutoff);
  else addCell(crystal.cell, n);
  if (look.hasPolyhedra) addPolyhedra(polyhedra(atoms, pairs, elements), look);
  mark(atoms, elements, look);
  const scene = `${key} ${look.view} ${n}${isEnvironment ? look.site : ''}`;
  if (scene !== shown) orient(atoms);
  shown = scene;
  viewer.render();
}

/** c up, a to the right, from a little above, as large as the place allows. @param {Atom[]} atoms */
function orient(atoms) {
  viewer.setView([0, 0, 0, 0, ...quaternion(view)]);
  viewer.zoomTo();
  const flat = atoms.map((atom) => seen(view, atom.at));
  const [wide, high, deep] = [0, 1, 2].map((axis) => spread(flat.map((one) => one[axis])) / 2 + 1);
  const sphere = Math.hypot(wide, high, deep);
  const aspect = place.clientWidth / place.clientHeight || 1;
  viewer.zoom(Math.min(2.6, (1.2 * sphere) / Math.max(high, wide / aspect)));
}

/** The rotation whose matrix has these rows. @param {number[][]} m */
function quaternion(m) {
  const w = Math.sqrt(Math.max(0, 1 + m[0][0] + m[1][1] + m[2][2])) / 2;
  const part = (/** @type {number} */ i, /** @type {number} */ j, /** @type {number} */ k) => (
    Math.sign(m[k][j] - m[j][k] || 1) * Math.sqrt(Math.max(0, 1 + m[i][i] - m[j][j] - m[k][k]))) / 2;
  return [part(0, 1, 2), part(1, 2, 0), part(2, 0, 1), w];
}

/** @param {number[]} values */
const spread = (values) => Math.max(...values) - Math.min(...values);

/** @param {Atom[]} atoms @param {[number, number][]} pairs @param {import('./lattice.js').Elements} elements @param {Look} look @param {(site: number) => void} onPick */
function addAtoms(atoms, pairs, elements, look, onPick) {
  const model = viewer.addModel();
  const beside = atoms.map(() => /** @type {number[]} */ ([]));
  for (const [i, j] of pairs) {
    beside[i].push(j);
    beside[j].push(i);
  }
  model.addAtoms(atoms.map((atom, i) => ({
    elem: elements[atom.number][0], x: atom.at[0], y: atom.at[1], z: atom.at[2], serial: i, index: i,
    bonds: beside[i], bondOrder: beside[i].map(() => 1), properties: { site: atom.site, colour: look.colour(atom) },
  })));
  const isFar = look.view === 'environment' && look.site !== null;
  for (const number of new Set(atoms.map((atom) => atom.number))) {
    const [symbol, , covalent] = elements[number];
    const colorfunc = (/** @type {any} */ atom) => atom.properties.colour;
    const radius = (0.16 + 0.24 * covalent) * (isFar ? 0.8 : 1);
    model.setStyle({ elem: symbol }, { sphere: { radius, colorfunc }, stick: { radius: isFar ? 0.06 : 0.09, colorfunc } });
  }
  viewer.setClickable({}, true, (/** @type {any} */ atom) => onPick(atom.properties.site));
  viewer.setHoverable({}, true,
    (/** @type {any} */ atom) => {
      if (!atom.label) atom.label = viewer.addLabel(`${atom.elem}${atom.properties.site}`, labelAt(atom));
    },
    (/** @type {any} */ atom) => {
      if (atom.label) viewer.removeLabel(atom.label);
      delete atom.label;
    });
}

/** @param {{x: number, y: number, z: number}} position */
function labelAt({ x, y, z }) {
  return {
    position: { x, y, z }, fontSize: 12, fontColor: 'white', backgroundColor: '#222222', backgroundOpacity: 0.8,
    inFront: true, alignment: 'bottomCenter', padding: 2,
  };
}

/** @param {Atom[]} atoms @param {import('./lattice.js').Elements} elements @param {Look} look */
function mark(atoms, elements, look) {
  if (look.site === null) return;
  const chosen = atoms.filter((atom) => atom.site === look.site);
  const some = look.view === 'environment' ? chosen.slice(0, 1) : chosen;
  const symbol = getComputedStyle(document.documentElement).getPropertyValue('--mark').trim();
  some.forEach((atom, i) => {
    const [x, y, z] = atom.at;
    const radius = 0.34 + 0.26 * elements[atom.number][2];
    viewer.addSphere({ center: { x, y, z }, radius, color: symbol, opacity: 0.42 });
    if (i === 0) viewer.addLabel(`${elements[atom.number][0]}${atom.site}`, { ...labelAt(point(atom.at.map((one, axis) => one + 1.3 * radius * view[1][axis]))), backgroundColor: symbol, backgroundOpacity: 1 });
  });
}

/** @param {number[]} p */
const point = (p) => ({ x: p[0], y: p[1], z: p[2] });

/** @param {number[][]} cell @param {number} n */
function addCell(cell, n) {
  const ink = getComputedStyle(document.documentElement).getPropertyValue('--faint').trim();
  for (let x = 0; x < n; x += 1) for (let y = 0; y < n; y += 1) for (let z = 0; z < n; z += 1) {
    const origin = cartesian(cell, [x, y, z]);
    for (const [from, to] of edges(cell)) {
      viewer.addCylinder({ start: point(add(origin, from)), end: point(add(origin, to)), radius: 0.03, color: ink, fromCap: 1, toCap: 1 });
    }
  }
  AXES.forEach(([name, color], i) => {
    const size = Math.hypot(...cell[i]);
    const end = cell[i].map((one) => (one / size) * Math.min(size, 2));
    viewer.addArrow({ start: point([0, 0, 0]), end: point(end), radius: 0.05, radiusRatio: 2.2, mid: 0.8, color });
    viewer.addLabel(name, { position: point(end.map((one) => one * 1.18)), fontSize: 12, fontColor: color, backgroundOpacity: 0, inFront: true, alignment: 'center' });
  });
}

/** @param {number[]} a @param {number[]} b */
const add = (a, b) => a.map((one, i) => one + b[i]);

/** @param {number[]} at @param {number} radius */
function addSphere(at, radius) {
  const color = getComputedStyle(document.documentElement).getPropertyValue('--mark').trim();
  viewer.addSphere({ center: point(at), radius, color, opacity: 0.07 });
}

/** @param {ReturnType<typeof polyhedra>} found @param {Look} look */
function addPolyhedra(found, look) {
  for (const { centre, corners, faces } of found) {
    const normals = corners.map((corner) => {
      const out = corner.map((one, i) => one - centre.at[i]);
      const size = Math.hypot(...out);
      return point(out.map((one) => one / size));
    });
    viewer.addCustom({
      vertexArr: corners.map(point), normalArr: normals, faceArr: faces.flat(), color: look.colour(centre), opacity: 0.82,
    });
    for (const [i, j, k] of faces) {
      for (const [from, to] of [[i, j], [j, k], [k, i]]) {
        if (from < to) viewer.addCylinder({ start: point(corners[from]), end: point(corners[to]), radius: 0.03, color: look.colour(centre) });
      }
    }
  }
}

/** The picture as it is now. */
export function picture() {
  return viewer.pngURI();
}
