// Small pictures of crystals on a plain canvas: balls and sticks, the nearest ones last.

import { bonds, cellAtoms, edges, environment, firstShell, outlook, seen } from './lattice.js';

/** @typedef {import('./lattice.js').Atom} Atom @typedef {import('./lattice.js').Crystal} Crystal */

const MOST_WITH_STICKS = 260;

/**
 * Paint a cell, or with a site the atom among its first shell.
 * @param {HTMLCanvasElement} canvas @param {Crystal} crystal @param {number | null} site
 * @param {import('./lattice.js').Elements} elements
 */
export function paint(canvas, crystal, site, elements) {
  const isAtom = site !== null && site !== undefined;
  const atoms = isAtom
    ? environment(crystal, site, firstShell(crystal, site, elements)) : cellAtoms(crystal);
  const sticks = atoms.length <= MOST_WITH_STICKS ? bonds(atoms, elements, isAtom) : [];
  const frame = isAtom ? [] : edges(crystal.cell);
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
  const ratio = Math.min(2, devicePixelRatio || 1);
  const size = canvas.clientWidth || 76;
  canvas.width = size * ratio;
  canvas.height = size * ratio;
  context.scale(ratio, ratio);
  const view = outlook(crystal.cell);
  const flat = atoms.map((atom) => seen(view, atom.at));
  const lines = frame.map((edge) => edge.map((end) => seen(view, end)));
  const scale = fit([...flat, ...lines.flat()], size, atoms.map((one) => radius(one, elements)));
  const style = getComputedStyle(canvas);
  context.strokeStyle = style.getPropertyValue('--faint');
  context.lineWidth = 1;
  for (const [from, to] of lines) stroke(context, scale.at(from), scale.at(to));
  const order = [...flat.map((point, i) => ({ depth: point[2], draw: () => ball(context, scale, flat[i], atoms[i], elements, isAtom && i === 0, style) })),
    ...sticks.map(([i, j]) => ({ depth: (flat[i][2] + flat[j][2]) / 2 - 0.2, draw: () => stick(context, scale, flat[i], flat[j], style) }))];
  order.sort((a, b) => a.depth - b.depth);
  for (const one of order) one.draw();
}

/** @param {Atom} atom @param {import('./lattice.js').Elements} elements */
const radius = (atom, elements) => 0.25 + 0.28 * elements[atom.number][2];

/** What fits points into a square. @param {number[][]} points @param {number} size @param {number[]} radii */
function fit(points, size, radii) {
  const pad = Math.max(...radii, 0.3);
  const low = [0, 1].map((axis) => Math.min(...points.map((one) => one[axis])) - pad);
  const high = [0, 1].map((axis) => Math.max(...points.map((one) => one[axis])) + pad);
  const by = (size - 4) / Math.max(high[0] - low[0], high[1] - low[1]);
  const middle = [(low[0] + high[0]) / 2, (low[1] + high[1]) / 2];
  return {
    by,
    at: (/** @type {number[]} */ p) => [size / 2 + (p[0] - middle[0]) * by, size / 2 - (p[1] - middle[1]) * by],
  };
}

/** @param {CanvasRenderingContext2D} context @param {number[]} from @param {number[]} to */
function stroke(context, from, to) {
  context.beginPath();
  context.moveTo(from[0], from[1]);
  context.lineTo(to[0], to[1]);
  context.stroke();
}

/** @param {CanvasRenderingContext2D} context @param {ReturnType<typeof fit>} scale @param {number[]} from @param {number[]} to @param {CSSStyleDeclaration} style */
function stick(context, scale, from, to, style) {
  context.strokeStyle = style.getPropertyValue('--stick');
  context.lineWidth = Math.max(1, 0.16 * scale.by);
  stroke(context, scale.at(from), scale.at(to));
}

/** @param {CanvasRenderingContext2D} context @param {ReturnType<typeof fit>} scale @param {number[]} point @param {Atom} atom @param {import('./lattice.js').Elements} elements @param {boolean} isMarked @param {CSSStyleDeclaration} style */
function ball(context, scale, point, atom, elements, isMarked, style) {
  const [x, y] = scale.at(point);
  const r = Math.max(1.5, radius(atom, elements) * scale.by);
  const light = context.createRadialGradient(x - r / 3, y - r / 3, r / 8, x, y, r);
  light.addColorStop(0, '#ffffff');
  light.addColorStop(0.35, elements[atom.number][1]);
  light.addColorStop(1, shadow(elements[atom.number][1]));
  context.beginPath();
  context.arc(x, y, r, 0, 2 * Math.PI);
  context.fillStyle = light;
  context.fill();
  context.lineWidth = 0.5;
  context.strokeStyle = 'rgba(0, 0, 0, 0.45)';
  context.stroke();
  if (!isMarked) return;
  context.beginPath();
  context.arc(x, y, r + 2, 0, 2 * Math.PI);
  context.lineWidth = 2;
  context.strokeStyle = style.getPropertyValue('--mark');
  context.stroke();
}

/** @param {string} hex */
function shadow(hex) {
  const parts = [1, 3, 5].map((i) => Math.round(Number.parseInt(hex.slice(i, i + 2), 16) * 0.55));
  return `rgb(${parts.join(', ')})`;
}
