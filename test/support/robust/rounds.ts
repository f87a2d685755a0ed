import { Chance } from './chance.ts';
import type { Kind } from './parties.ts';
import { Scope } from './scope.ts';

/** What one round found. Measured times are information; nothing is expected of them. */
export interface Verdict {
  readonly findings: readonly string[];
  readonly measured: Readonly<Record<string, number>>;
  /** Whether what the scenario is about happened while something was under way. */
  readonly hit: boolean;
  /** A bystander paid for a proof that did not come in time. */
  readonly unproved?: boolean;
}

export interface OpenScenario {
  round(chance: Chance, index: number): Promise<Verdict>;
  /** What can only be told after all rounds. */
  finish(): Promise<readonly string[]>;
}

export interface Scenario {
  readonly name: string;
  /** Starts the processes that all rounds share; `scope` ends them. */
  open(scope: Scope, kind: Kind): Promise<OpenScenario>;
}

const ROUNDS = 20;
/** Rounds with each of the other kinds of targets, when nobody says how many. */
const FOREIGN_ROUNDS = 6;
/** Memory is looked at after every so many rounds. */
export const SAMPLED = 4;
/** Of the rounds, this part has to catch the transfer in its middle. */
const HITS_MIN = 0.3;
/** Of the rounds, this part may cost a bystander something; more is not the machine's load. */
const UNPROVED_MAX = 0.1;

const number = (name: string, fallback: number) => {
  const value = process.env[name];
  if (value === undefined || value === '') return fallback;
  if (!/^\d{1,9}$/.test(value)) throw new Error(`${name} is not a number: ${value}`);
  return Number(value);
};

/** How many rounds to play: what the environment says, or a few. */
export const rounds = (kind: Kind): number =>
  number('TRANSFER_ENGINE_ROUNDS', kind === 'own' ? ROUNDS : FOREIGN_ROUNDS);
/** Bound of a whole test: a round takes well under a second, and a few when it waits for leaks. */
export const testMs = (): number => 60_000 + rounds('own') * 5_000;
const firstSeed = () => number('TRANSFER_ENGINE_SEED', Math.floor(Math.random() * 1e9));

/** Plays all rounds of a scenario; fails with every finding, and the seed of its round. */
export async function playRounds(scenario: Scenario, kind: Kind): Promise<void> {
  const seed = firstSeed();
  const count = rounds(kind);
  const what = `${scenario.name} (${kind})`;
  const findings: string[] = [];
  const measured = new Map<string, number[]>();
  let hits = 0;
  let unproved = 0;
  const startedAt = performance.now();
  {
    await using scope = new Scope();
    const open = await scenario.open(scope, kind);
    for (let index = 0; index < count && findings.length === 0; index += 1) {
      const where = `${what}, round ${index}, seed ${seed + index}`;
      try {
        const verdict = await open.round(new Chance(seed + index), index);
        findings.push(...verdict.findings.map((finding) => `${where}: ${finding}`));
        if (verdict.hit) hits += 1;
        if (verdict.unproved === true) unproved += 1;
        for (const [name, value] of Object.entries(verdict.measured)) {
          measured.set(name, [...(measured.get(name) ?? []), value]);
        }
      } catch (error) {
        findings.push(`${where}: ${error instanceof Error ? error.stack : String(error)}`);
      }
    }
    if (findings.length === 0) {
      findings.push(...(await open.finish()).map((finding) => `${what}, seed ${seed}: ${finding}`));
    }
  }
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
  const times = [...measured].map(([name, values]) => `${name} ${describe(values)}`);
  console.info(
    [
      `${what}: ${count} rounds from seed ${seed}, ${hits} in the middle, ${unproved} unproved, ${seconds} s`,
    ]
      .concat(times)
      .join('; '),
  );
  if (findings.length === 0 && hits < count * HITS_MIN) {
    findings.push(`${what}, seed ${seed}: only ${hits} of ${count} rounds were in the middle`);
  }
  if (findings.length === 0 && unproved > 1 + count * UNPROVED_MAX) {
    findings.push(`${what}, seed ${seed}: bystanders failed in ${unproved} of ${count} rounds`);
  }
  if (findings.length > 0) throw new Error(findings.join('\n'));
}

function describe(values: readonly number[]): string {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (part: number) => (sorted[Math.floor((sorted.length - 1) * part)] ?? 0).toFixed(1);
  return `${at(0.5)} (median) ${at(1)} (most)`;
}
