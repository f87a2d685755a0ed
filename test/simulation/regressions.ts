/**
 * Seeds of engine worlds that have found a broken promise once, each with what it was. They are
 * run for ever; because workloads change, they are no proof, but they have an eye for trouble.
 */
export const REGRESSIONS: readonly (readonly [seed: number, what: string])[] = [
  [138, 'closing left a notification on its way, whose timers outlived the engine'],
  [196, 'closing left a notification on its way, whose timers outlived the engine'],
  [361, 'closing left a call on the metadata store on its way'],
  [387, 'closing left a call on the metadata store on its way'],
  [313, 'columns that had all completed were reported as canceled, and as completed to the peer'],
  [686, 'columns that had all completed were reported as canceled, and as completed to the peer'],
];
