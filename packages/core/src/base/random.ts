/** A source of numbers in [0, 1), and of 32-bit integers. */
export interface Random {
  float(): number;
  uint32(): number;
}

export const systemRandom: Random = {
  float: () => Math.random(),
  uint32: () => Math.floor(Math.random() * 0x1_0000_0000),
};

/** A repeatable source (splitmix32): the same seed gives the same numbers on every platform. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  const uint32 = () => {
    state = (state + 0x9e3779b9) >>> 0;
    let mixed = state ^ (state >>> 16);
    mixed = Math.imul(mixed, 0x21f0aaad);
    mixed ^= mixed >>> 15;
    mixed = Math.imul(mixed, 0x735a2d97);
    return (mixed ^ (mixed >>> 15)) >>> 0;
  };
  return { uint32, float: () => uint32() / 0x1_0000_0000 };
}
