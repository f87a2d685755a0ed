import { describe, it } from 'vitest';
import { cancel } from '../support/robust/cancel.ts';
import { deadline } from '../support/robust/deadline.ts';
import { halfOpen, swallowed } from '../support/robust/half-open.ts';
import { killInitiator, killTarget } from '../support/robust/kill.ts';
import { KINDS } from '../support/robust/parties.ts';
import { restart } from '../support/robust/restart.ts';
import { playRounds, testMs } from '../support/robust/rounds.ts';
import { stall } from '../support/robust/stall.ts';
import { stranger } from '../support/robust/stranger.ts';

// Many of them wait most of the time, and others start processes: side by side they take half as
// long. Nothing is shared between them.
describe.each([
  ...[stall, halfOpen, swallowed, killTarget, killInitiator],
  ...[stranger, restart, cancel, deadline],
])('rounds of $name', { concurrent: true }, (scenario) => {
  it.each(KINDS)('target: %s', (kind) => playRounds(scenario, kind), testMs());
});
