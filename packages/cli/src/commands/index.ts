import type { Command } from '../command.ts';
import { bench } from './bench.ts';
import { ceilingPeer } from './ceiling-peer.ts';
import { demo } from './demo.ts';
import { demoRole } from './demo-role.ts';
import { doctor } from './doctor.ts';
import { initiator } from './initiator.ts';
import { metadataGet, metadataPut, metadataRm } from './metadata-documents.ts';
import { metadataServe } from './metadata-serve.ts';
import { metadataDump, metadataList, metadataPrune } from './metadata-survey.ts';
import { target } from './target.ts';

/** Every command, in the order in which the help shows them. */
export const COMMANDS: readonly Command[] = [
  demo,
  target,
  initiator,
  bench,
  metadataServe,
  metadataGet,
  metadataPut,
  metadataRm,
  metadataList,
  metadataDump,
  metadataPrune,
  doctor,
  demoRole,
  ceilingPeer,
];
