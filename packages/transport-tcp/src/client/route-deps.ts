import type { CompletionSink, Peer, Route, Transport } from '@transfer-engine/core/transport';
import type { LaneDeps } from './lane.ts';

/** What a route of either framing is made of. */
export interface RouteDeps extends Omit<LaneDeps, 'version' | 'owner'> {
  readonly transport: Transport;
  readonly peer: Peer;
  readonly sink: CompletionSink;
  /** The route takes no work any more. */
  readonly onClosing: (route: Route) => void;
  /** The route has ended. */
  readonly onClosed: (route: Route) => void;
}
