import { describe, expect, it } from 'vitest';
import { MemoryDirectory, MemoryStore } from './memory-store.ts';

describe('MemoryStore', () => {
  it('shares a directory, and nothing without one', async () => {
    const directory = new MemoryDirectory();
    const first = new MemoryStore(directory);
    const second = new MemoryStore(directory);
    const apart = new MemoryStore();
    await first.put('key', 'value');
    expect(await second.get('key')).toBe('value');
    expect(await apart.get('key')).toBeUndefined();
  });

  it('keeps the documents when one of its engines closes it', async () => {
    const directory = new MemoryDirectory();
    const first = new MemoryStore(directory);
    await first.put('key', 'value');
    await first.close();
    await expect(first.get('key')).rejects.toMatchObject({ code: 'ERR_TE_CLOSED' });
    expect(await new MemoryStore(directory).get('key')).toBe('value');
  });

  it('has no effect when the signal aborts while the call runs', async () => {
    const store = new MemoryStore();
    const controller = new AbortController();
    const put = store.put('key', 'value', { signal: controller.signal });
    controller.abort(new Error('changed my mind'));
    await expect(put).rejects.toThrow('changed my mind');
    expect(await store.get('key')).toBeUndefined();
  });

  it('refuses an empty key and a value that is no text', async () => {
    const store = new MemoryStore();
    await expect(store.get('')).rejects.toMatchObject({ code: 'ERR_TE_INVALID_ARGUMENT' });
    await expect(store.put('key', 5 as unknown as string)).rejects.toMatchObject({
      code: 'ERR_TE_INVALID_ARGUMENT',
    });
  });
});
