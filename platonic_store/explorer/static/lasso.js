// A lasso as text, `a:x,y;x,y…` in thousandths, so that it is part of the view's URL.

const MOST_CORNERS = 60;

/** @param {'a' | 'b'} side @param {[number, number][]} corners */
export function writePolygon(side, corners) {
  const step = Math.max(1, Math.ceil(corners.length / MOST_CORNERS));
  const some = corners.filter((_, i) => i % step === 0);
  return `${side}:${some.map((corner) => corner.map((one) => Math.round(one * 1000)).join(',')).join(';')}`;
}

/** @param {string} text @returns {{side: 'a' | 'b', polygon: number[][]} | null} */
export function parsePolygon(text) {
  const match = /^([ab]):(.+)$/.exec(text);
  if (!match) return null;
  const polygon = match[2].split(';').map((corner) => corner.split(',').map((one) => Number(one) / 1000));
  const isOne = polygon.length > 2 && polygon.every((corner) => corner.length === 2 && corner.every(Number.isFinite));
  return isOne ? { side: /** @type {'a' | 'b'} */ (match[1]), polygon } : null;
}

/** Whether a point lies in a polygon. @param {number[][]} polygon @param {number} x @param {number} y */
export function inside(polygon, x, y) {
  let is = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i, i += 1) {
    const [[xi, yi], [xj, yj]] = [polygon[i], polygon[j]];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) is = !is;
  }
  return is;
}
