/**
 * Length of the slice that starts when `remaining` bytes are left.
 *
 * A short tail is not worth a slice of its own: up to a quarter of the slice size it rides with
 * the last full one. The rule (not the sizes) is the classic engine's.
 * Source: Mooncake 3b5a594, rdma_transport.cpp (SliceLengthCalculator).
 */
export function sliceLength(remaining: number, sliceBytes: number): number {
  return remaining <= sliceBytes + sliceBytes / 4 ? remaining : sliceBytes;
}

/** How many slices `length` bytes (at least 1) make. */
export function sliceCount(length: number, sliceBytes: number): number {
  const rest = length - (sliceBytes + sliceBytes / 4);
  return rest <= 0 ? 1 : Math.ceil(rest / sliceBytes) + 1;
}
