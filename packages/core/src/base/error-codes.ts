/** Task states with the numbers that the C++, C, Rust and Python interfaces share. */
export const TaskState = {
  waiting: 0,
  pending: 1,
  invalid: 2,
  canceled: 3,
  completed: 4,
  timeout: 5,
  failed: 6,
} as const;
export type TaskState = (typeof TaskState)[keyof typeof TaskState];

interface ErrorCodeRow {
  /** `int` result of the C++ engine that means the same. Source: Mooncake 3b5a594, include/error.h. */
  readonly teResult: number;
  /** State that a task ends in when this error ends it. */
  readonly taskState: TaskState;
  /** Whether the same call can succeed later without a change of its arguments. */
  readonly retryable: boolean;
}

const row = (teResult: number, retryable = false, taskState: TaskState = TaskState.failed) =>
  ({ teResult, taskState, retryable }) as const;

/**
 * Every stable error code of the product.
 *
 * The table is the only place where our codes meet the numbers of the C++ engine.
 */
export const ERROR_CODES = {
  ERR_TE_INVALID_ARGUMENT: row(-1, false, TaskState.invalid),
  ERR_TE_TOO_MANY_REQUESTS: row(-2),
  ERR_TE_ADDRESS_NOT_REGISTERED: row(-3),
  ERR_TE_BATCH_BUSY: row(-4, true),
  ERR_TE_DEVICE_NOT_FOUND: row(-6),
  ERR_TE_ADDRESS_OVERLAPPED: row(-7),
  ERR_TE_NOT_SUPPORTED_TRANSPORT: row(-1),
  ERR_TE_DNS: row(-101, true),
  ERR_TE_SOCKET: row(-102, true),
  ERR_TE_MALFORMED_JSON: row(-103),
  ERR_TE_REJECT_HANDSHAKE: row(-104),
  ERR_TE_METADATA: row(-200, true),
  ERR_TE_SEGMENT_NOT_FOUND: row(-200, true),
  ERR_TE_ENDPOINT: row(-201, true),
  ERR_TE_CONTEXT: row(-202),
  ERR_TE_MEMORY: row(-302),
  ERR_TE_NOT_IMPLEMENTED: row(-303),
  /** The peer refused the remote address: outside its registered memory, or not permitted. */
  ERR_TE_ADDRESS_REJECTED: row(-3),
  ERR_TE_PERMISSION_DENIED: row(-3),
  /** The connection to the peer ended before it had answered. */
  ERR_TE_PEER_LOST: row(-102, true),
  ERR_TE_CONNECT_FAILED: row(-102, true),
  /** The peer sent bytes that the protocol does not allow. */
  ERR_TE_PROTOCOL: row(-102),
  ERR_TE_FRAME_TOO_LARGE: row(-102),
  ERR_TE_PORT_UNAVAILABLE: row(-102, true),
  ERR_TE_TIMEOUT: row(-102, true, TaskState.timeout),
  /** Nothing moved for as long as the stall bound allows, although the deadline has not come. */
  ERR_TE_STALLED: row(-102, true, TaskState.timeout),
  /** Bytes arrived that are not the bytes that were sent. */
  ERR_TE_INTEGRITY: row(-1, true),
  ERR_TE_CANCELED: row(-1, true, TaskState.canceled),
  ERR_TE_CLOSED: row(-1, false, TaskState.canceled),
  ERR_TE_INTERNAL: row(-1),
} as const satisfies Record<string, ErrorCodeRow>;

export type ErrorCode = keyof typeof ERROR_CODES;
