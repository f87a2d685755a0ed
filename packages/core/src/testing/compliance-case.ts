/**
 * One promise of a contract, and the steps that prove it.
 *
 * Runner-agnostic: `run` resolves when the promise holds, and rejects with an error that says what
 * was seen instead. Each case makes what it needs through the fixture and disposes of it.
 */
export interface ComplianceCase<Fixture, Requirement extends string = never> {
  /** A sentence, unique in its suite. */
  readonly name: string;
  /** What the fixture must be able to do; cases with other requirements do not apply to it. */
  readonly requires: readonly Requirement[];
  run(fixture: Fixture): Promise<void>;
}

/** The cases that a fixture with these abilities has to pass. */
export function applicableCases<Fixture, Requirement extends string>(
  cases: readonly ComplianceCase<Fixture, Requirement>[],
  abilities: readonly Requirement[],
): readonly ComplianceCase<Fixture, Requirement>[] {
  return cases.filter(({ requires }) => requires.every((name) => abilities.includes(name)));
}
