/** Longest command line; longer ones are refused and skipped. */
export const LINE_MAX = 1 << 20;

/**
 * Lines of a byte stream, as they are asked for: while nobody asks, the stream is not read.
 *
 * A line longer than {@link LINE_MAX} comes out as undefined. The last line needs no line end.
 */
export async function* linesOf(
  chunks: AsyncIterable<Uint8Array | string>,
): AsyncGenerator<string | undefined> {
  const decoder = new TextDecoder();
  let rest = '';
  let skipping = false;
  for await (const chunk of chunks) {
    rest += typeof chunk === 'string' ? chunk : decoder.decode(chunk, { stream: true });
    let start = 0;
    for (let end = rest.indexOf('\n'); end !== -1; end = rest.indexOf('\n', start)) {
      const line = rest.slice(start, end);
      start = end + 1;
      if (skipping || line.length > LINE_MAX) yield undefined;
      else yield line.endsWith('\r') ? line.slice(0, -1) : line;
      skipping = false;
    }
    rest = rest.slice(start);
    if (rest.length > LINE_MAX) {
      rest = '';
      skipping = true;
    }
  }
  rest += decoder.decode();
  if (skipping) yield undefined;
  else if (rest !== '') yield rest;
}
