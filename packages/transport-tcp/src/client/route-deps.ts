import type { CompletionSink, Peer, Route, Transport } from '@transfer-engine/core/transport';
import type { ExtendedLane } from './abort-call.ts';
import type { LaneDeps } from './lane.ts';

/** What a route of either framing is made of. */
export interface RouteDeps extends Omit<LaneDeps, 'version' | 'owner' | 'extended'> {
  readonly transport: Transport;
  readonly peer: Peer;
  readonly sink: CompletionSink;
  /** The peer's document promises framing x1, and this engine may use it. */
  readonly extended: Omit<ExtendedLane, 'token'> | undefined;
  /** The route takes no work any more. */
  readonly onClosing: (route: Route) => void;
  /** The route has ended. */
  readonly onClosed: (route: Route) => void;
}
