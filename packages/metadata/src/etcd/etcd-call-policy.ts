import { isRecoverableError, type IOptions } from 'etcd3';

type Faults = NonNullable<IOptions['faultHandling']>;
type Policy = NonNullable<Faults['global']>;
type PolicyWork<T> = Parameters<typeof execute<T>>[0];

const neverAborted = new AbortController().signal;
const silentEvent = () => ({ dispose() {} });

async function execute<T>(
  work: (context: { signal: AbortSignal }) => PromiseLike<T> | T,
  signal: AbortSignal = neverAborted,
): Promise<T> {
  return await work({ signal });
}

function policyOf(run: <T>(work: PolicyWork<T>, signal?: AbortSignal) => Promise<T>): Policy {
  return {
    _altReturn: undefined as never,
    onSuccess: silentEvent,
    onFailure: silentEvent,
    execute: run,
  };
}

/**
 * How calls meet a cluster of which some members may be away.
 *
 * Each call is tried once at every endpoint, twice at a single one, because an idle connection may
 * be dead. etcd3's own rules would refuse calls for five seconds after three failures, also when
 * the server is back.
 */
export function callPolicy(endpoints: number): Faults {
  const attempts = Math.max(2, endpoints);
  const global = policyOf(async (work, signal) => {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await execute(work, signal);
      } catch (error) {
        const again = error instanceof Error && isRecoverableError(error) && attempt < attempts;
        if (!again) throw error;
      }
    }
  });
  return { global, host: () => policyOf(execute) };
}
