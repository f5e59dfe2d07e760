// Atoms of a crystal as they are drawn: images at the cell's faces, bonds, environments, polyhedra.

/**
 * @typedef {Object} Crystal
 * @property {number[]} numbers
 * @property {number[][]} positions Cartesian Å
 * @property {number[][]} cell rows are lattice vectors, Å
 * @property {number[]} orbits
 * @property {boolean[]} [pbc]
 *
 * @typedef {Object} Atom one that is drawn
 * @property {number} number
 * @property {number} site
 * @property {number[]} at Cartesian Å
 *
 * @typedef {any[][]} Elements by atomic number: symbol, colour, covalent radius, group
 */

const METALS = new Set(['alkali', 'alkaline earth', 'transition metal', 'lanthanide, actinide', 'post-transition metal']);
const LARGE = new Set(['alkali', 'alkaline earth', 'lanthanide, actinide']);
const SMALL = new Set(['Li', 'Be', 'Mg']); // which have polyhedra of their own
const ANIONS = new Set(['chalcogen', 'halogen', 'N', 'C']);
const REACH = { ionic: 1.18, metallic: 1.12 };
const SHELLED = new Set(['B', 'C', 'Si', 'P', 'S', 'Ge', 'As', 'N']); // centres of tetrahedra and triangles
const MOST_COMPLETED = 240;
const EDGE = 0.02; // fractional: atoms so near a face are drawn on the opposite one too

/** @param {number[]} a @param {number[]} b */
export const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
/** @param {number[]} a @param {number[]} b */
export const minus = (a, b) => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
/** @param {number[]} a @param {number[]} b */
export const plus = (a, b) => [a[0] + b[0], a[1] + b[1], a[2] + b[2]];
/** @param {number[]} a @param {number[]} b */
export const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
/** @param {number[]} a @param {number} by */
export const times = (a, by) => a.map((one) => one * by);
/** @param {number[]} a */
export const length = (a) => Math.sqrt(dot(a, a));
/** @param {number[]} a @param {number[]} b */
export const distance = (a, b) => length(minus(a, b));

/** Cartesian of fractional coordinates. @param {number[][]} cell @param {number[]} f */
export function cartesian(cell, f) {
  return plus(plus(times(cell[0], f[0]), times(cell[1], f[1])), times(cell[2], f[2]));
}

/** Reciprocal vectors (rows), without 2π. @param {number[][]} cell */
function reciprocal(cell) {
  const volume = dot(cell[0], cross(cell[1], cell[2]));
  return [cross(cell[1], cell[2]), cross(cell[2], cell[0]), cross(cell[0], cell[1])].map((one) => times(one, 1 / volume));
}

/** @param {Crystal} crystal @returns {boolean} */
const isPeriodic = ({ cell }) => Math.abs(dot(cell[0], cross(cell[1], cell[2]))) > 1e-6;

/**
 * The atoms of n × n × n cells, and those that lie on their faces again on the opposite ones.
 * @param {Crystal} crystal @param {number} [n]
 * @returns {Atom[]}
 */
export function cellAtoms(crystal, n = 1) {
  if (!isPeriodic(crystal)) return crystal.positions.map((at, site) => ({ number: crystal.numbers[site], site, at }));
  const inverse = reciprocal(crystal.cell);
  /** @type {Atom[]} */
  const atoms = [];
  crystal.numbers.forEach((number, site) => {
    const f = inverse.map((row) => wrapped(dot(row, crystal.positions[site])));
    const steps = f.map((one) => Array.from({ length: one < EDGE ? n + 1 : n }, (_, i) => one + i));
    for (const x of steps[0]) for (const y of steps[1]) for (const z of steps[2]) {
      atoms.push({ number, site, at: cartesian(crystal.cell, [x, y, z]) });
    }
  });
  return atoms;
}

/** @param {number} f */
function wrapped(f) {
  const within = f - Math.floor(f);
  return within > 1 - EDGE / 4 ? 0 : within;
}

/**
 * The atoms within a distance of one, which comes first.
 * @param {Crystal} crystal @param {number} site @param {number} radius Å
 * @returns {Atom[]}
 */
export function environment(crystal, site, radius) {
  const centre = crystal.positions[site];
  const own = { number: crystal.numbers[site], site, at: centre };
  /** @type {(Atom & {far: number})[]} */
  const near = [];
  const most = isPeriodic(crystal) ? reciprocal(crystal.cell).map((row) => Math.ceil(radius * length(row)) + 1) : [0, 0, 0];
  const inverse = isPeriodic(crystal) ? reciprocal(crystal.cell) : null;
  crystal.numbers.forEach((number, other) => {
    let from = minus(crystal.positions[other], centre);
    if (inverse) {
      const f = inverse.map((row) => dot(row, from));
      from = cartesian(crystal.cell, f.map((one) => one - Math.round(one)));
    }
    for (let x = -most[0]; x <= most[0]; x += 1) for (let y = -most[1]; y <= most[1]; y += 1) for (let z = -most[2]; z <= most[2]; z += 1) {
      const offset = plus(from, cartesian(crystal.cell, [x, y, z]));
      const far = length(offset);
      if (far > 0.1 && far <= radius) near.push({ number, site: other, at: plus(centre, offset), far });
    }
  });
  return [own, ...near.sort((a, b) => a.far - b.far)];
}

/**
 * With the atoms beyond the faces to which those within are bonded, so that their shells are whole.
 * @param {Crystal} crystal @param {Atom[]} atoms @param {Elements} elements
 * @returns {Atom[]}
 */
export function completed(crystal, atoms, elements) {
  if (atoms.length > MOST_COMPLETED || !isPeriodic(crystal)) return atoms;
  const metallic = isMetallic(crystal, elements);
  const loose = looseCations(atoms, elements);
  if (metallic) return atoms;
  const key = (/** @type {number[]} */ at) => at.map((one) => Math.round(one * 20)).join();
  const known = new Set(atoms.map((atom) => key(atom.at)));
  const whole = [...atoms];
  for (const atom of atoms) {
    if (loose.has(atom.number) || !(isMetal(atom.number, elements) || SHELLED.has(elements[atom.number][0]))) continue;
    const shift = minus(atom.at, crystal.positions[atom.site]);
    for (const one of environment(crystal, atom.site, 3.4).slice(1)) {
      const at = plus(one.at, shift);
      if (!isBond(atom, { ...one, at }, elements, false) || known.has(key(at))) continue;
      known.add(key(at));
      whole.push({ ...one, at });
    }
  }
  return whole;
}

/** The radius that holds an atom's first shell. @param {Crystal} crystal @param {number} site @param {Elements} elements */
export function firstShell(crystal, site, elements) {
  const around = environment(crystal, site, 4.5);
  const bonded = around.slice(1).filter((one) => isBond(around[0], one, elements, isMetallic(crystal, elements)));
  if (bonded.length) return Math.max(...bonded.map((one) => distance(one.at, around[0].at))) + 0.01;
  return around.length > 1 ? distance(around[1].at, around[0].at) * 1.25 : 3;
}

/** @param {number} number @param {Elements} elements */
export const isMetal = (number, elements) => METALS.has(elements[number]?.[3]);

/** @param {Crystal} crystal @param {Elements} elements */
export const isMetallic = (crystal, elements) => crystal.numbers.every((one) => isMetal(one, elements));

/** Two atoms so near that a stick is drawn; of metals in a salt none. @param {Atom} a @param {Atom} b @param {Elements} elements @param {boolean} metallic */
function isBond(a, b, elements, metallic) {
  if (!metallic && isMetal(a.number, elements) && isMetal(b.number, elements)) return false;
  const reach = (elements[a.number][2] + elements[b.number][2]) * (metallic ? REACH.metallic : REACH.ionic);
  const far = distance(a.at, b.at);
  return far > 0.3 && far <= reach;
}

/** The large cations between the polyhedra of others: sticks to them would hide those. @param {Atom[]} atoms @param {Elements} elements */
function looseCations(atoms, elements) {
  const numbers = new Set(atoms.map((one) => one.number));
  const large = [...numbers].filter((one) => LARGE.has(elements[one][3]) && !SMALL.has(elements[one][0]));
  const anions = [...numbers].filter((one) => ANIONS.has(elements[one][3]) || ANIONS.has(elements[one][0]));
  const hasFrame = anions.length > 0 && numbers.size > large.length + 1;
  return new Set(hasFrame ? large : []);
}

/**
 * @param {Atom[]} atoms @param {Elements} elements @param {boolean} [isCentred] draw those of the first atom whatever it is
 * @returns {[number, number][]}
 */
export function bonds(atoms, elements, isCentred = false) {
  const metallic = atoms.every((one) => isMetal(one.number, elements));
  const loose = looseCations(atoms, elements);
  /** @type {[number, number][]} */
  const found = [];
  for (let i = 0; i < atoms.length; i += 1) for (let j = i + 1; j < atoms.length; j += 1) {
    if ((i > 0 || !isCentred) && (loose.has(atoms[i].number) || loose.has(atoms[j].number))) continue;
    if (Math.abs(atoms[i].at[0] - atoms[j].at[0]) < 4.5 && isBond(atoms[i], atoms[j], elements, metallic)) found.push([i, j]);
  }
  return found;
}

/**
 * Around each metal atom that has four or more non-metals beside it, the polyhedron of those.
 * @param {Atom[]} atoms @param {[number, number][]} pairs @param {Elements} elements
 * @returns {{centre: Atom, corners: number[][], faces: number[][]}[]}
 */
export function polyhedra(atoms, pairs, elements) {
  /** @type {Map<number, number[]>} */
  const beside = new Map();
  for (const [i, j] of pairs) for (const [from, to] of [[i, j], [j, i]]) {
    if (isMetal(atoms[from].number, elements) && !isMetal(atoms[to].number, elements)) {
      beside.set(from, [...(beside.get(from) ?? []), to]);
    }
  }
  const found = [];
  for (const [centre, around] of beside) {
    const corners = around.map((i) => atoms[i].at);
    const faces = corners.length >= 4 && corners.length <= 12 ? hull(corners) : [];
    if (faces.length >= 4 && holds(corners, atoms[centre].at)) found.push({ centre: atoms[centre], corners, faces });
  }
  return found;
}

/** Whether corners lie on all sides of a point: else the shell is cut by the cell. @param {number[][]} corners @param {number[]} at */
function holds(corners, at) {
  const mean = times(corners.reduce(plus), 1 / corners.length);
  return distance(mean, at) < 0.35 * distance(corners[0], at);
}

/** The triangles of a convex hull: no corner lies beyond one. @param {number[][]} corners */
function hull(corners) {
  const faces = [];
  for (let i = 0; i < corners.length; i += 1) for (let j = i + 1; j < corners.length; j += 1) for (let k = j + 1; k < corners.length; k += 1) {
    const normal = cross(minus(corners[j], corners[i]), minus(corners[k], corners[i]));
    const sides = corners.map((one) => dot(normal, minus(one, corners[i])));
    const slack = 0.05 * length(normal);
    if (length(normal) < 1e-3) continue;
    if (sides.every((one) => one <= slack)) faces.push([i, j, k]);
    else if (sides.every((one) => one >= -slack)) faces.push([i, k, j]);
  }
  return faces;
}

/** The twelve edges of n × n × n cells. @param {number[][]} cell @param {number} [n] @returns {[number[], number[]][]} */
export function edges(cell, n = 1) {
  const corner = (/** @type {number} */ i) => times(cartesian(cell, [i & 1, (i >> 1) & 1, (i >> 2) & 1]), n);
  /** @type {[number[], number[]][]} */
  const found = [];
  for (let i = 0; i < 8; i += 1) for (const bit of [1, 2, 4]) if (!(i & bit)) found.push([corner(i), corner(i | bit)]);
  return found;
}

/**
 * How a crystal is looked at: c up, a to the right, from a little above and beside.
 * @param {number[][]} cell
 * @returns {number[][]} rows are right, up and towards the reader
 */
export function outlook(cell) {
  const [turn, tilt] = [0.32, 0.22];
  const c = length(cell[2]) > 1e-6 ? times(cell[2], 1 / length(cell[2])) : [0, 0, 1];
  const flat = minus(cell[0], times(c, dot(cell[0], c)));
  const a = length(flat) > 1e-6 ? times(flat, 1 / length(flat)) : [1, 0, 0];
  const back = cross(c, a);
  const right = plus(times(a, Math.cos(turn)), times(back, Math.sin(turn)));
  const away = plus(times(back, Math.cos(turn)), times(a, -Math.sin(turn)));
  return [right, plus(times(c, Math.cos(tilt)), times(away, Math.sin(tilt))), minus(times(c, Math.sin(tilt)), times(away, Math.cos(tilt)))];
}

/** @param {number[][]} view @param {number[]} p */
export const seen = (view, p) => view.map((row) => dot(row, p));
