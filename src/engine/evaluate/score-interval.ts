/** 97.5 % of a normal distribution lie below: intervals of 95 %. */
const Z = 1.959964;

export type Interval = [low: number, high: number];

/** Wilson's 95 % score interval of a share (JASA 22, 1927): holds near 0 and 1, where the textbook's has width 0. */
export function wilsonInterval(right: number, asked: number): Interval {
  const share = right / asked;
  const middle = share + (Z * Z) / (2 * asked);
  const reach = Z * Math.sqrt((share * (1 - share)) / asked + (Z * Z) / (4 * asked * asked));
  const scale = 1 + (Z * Z) / asked;
  return [Math.max(0, (middle - reach) / scale), Math.min(1, (middle + reach) / scale)];
}

/** The same questions before and after. */
export interface PairedAnswers {
  bothRight: number;
  onlyBefore: number;
  onlyAfter: number;
  neither: number;
}

/**
 * 95 % interval of the share after minus the share before, of the same questions: Newcombe's method 10 (Statistics in
 * Medicine 17, 1998), which joins both Wilson intervals by how much the answers go together.
 */
export function differenceInterval({ bothRight, onlyBefore, onlyAfter, neither }: PairedAnswers): Interval {
  const asked = bothRight + onlyBefore + onlyAfter + neither;
  const [before, after] = [(bothRight + onlyBefore) / asked, (bothRight + onlyAfter) / asked];
  const [lowBefore, highBefore] = wilsonInterval(bothRight + onlyBefore, asked);
  const [lowAfter, highAfter] = wilsonInterval(bothRight + onlyAfter, asked);
  const phi = correlation({ bothRight, onlyBefore, onlyAfter, neither });
  const reach = (a: number, b: number): number => Math.sqrt(Math.max(0, a * a - 2 * phi * a * b + b * b));
  return [
    Math.max(-1, after - before - reach(after - lowAfter, highBefore - before)),
    Math.min(1, after - before + reach(highAfter - after, before - lowBefore)),
  ];
}

function correlation({ bothRight, onlyBefore, onlyAfter, neither }: PairedAnswers): number {
  const margins = (bothRight + onlyBefore) * (onlyAfter + neither) * (bothRight + onlyAfter) * (onlyBefore + neither);
  if (margins === 0) return 0;
  const asked = bothRight + onlyBefore + onlyAfter + neither;
  const cross = bothRight * neither - onlyBefore * onlyAfter;
  // Newcombe's continuity correction, where the answers go together.
  const corrected = cross > asked / 2 ? cross - asked / 2 : Math.min(cross, 0);
  return corrected / Math.sqrt(margins);
}
