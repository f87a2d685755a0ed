import { describe, expect, it } from 'vitest';
import { parseRedisTarget } from './redis-options.ts';

const parse = (target: string, scheme = 'redis', environment: Record<string, string> = {}) =>
  parseRedisTarget(scheme, target, {}, environment);

describe('parseRedisTarget', () => {
  it('takes 6379 for a port that is missing', () => {
    expect(parse('h').endpoints).toEqual([{ host: 'h', port: 6379 }]);
    expect(parse('h:80').endpoints).toEqual([{ host: 'h', port: 80 }]);
    expect(parse('[::1]:7').endpoints).toEqual([{ host: '::1', port: 7 }]);
  });

  it('reads credentials and the database of the URI, then of the options, then of MC_REDIS_*', () => {
    const environment = {
      MC_REDIS_USERNAME: 'env',
      MC_REDIS_PASSWORD: 'env-pass',
      MC_REDIS_DB_INDEX: '3',
    };
    expect(parse('u:p%40ss@h/4', 'redis', environment)).toMatchObject({
      username: 'u',
      password: 'p@ss',
      db: 4,
    });
    expect(
      parseRedisTarget('redis', 'h', { username: 'o', password: 'q', db: 5 }, environment),
    ).toMatchObject({ username: 'o', password: 'q', db: 5 });
    expect(parse('h', 'redis', environment)).toMatchObject({
      username: 'env',
      password: 'env-pass',
      db: 3,
    });
    expect(parse(':p@h')).toMatchObject({ username: undefined, password: 'p', db: 0 });
  });

  it.each(['256', '-1', 'x', ''])('takes 0 for MC_REDIS_DB_INDEX=%s, as C++ does', (index) => {
    expect(parse('h', 'redis', { MC_REDIS_DB_INDEX: index }).db).toBe(0);
  });

  it('reads sentinels with the name of their set, and clusters', () => {
    expect(parse('a,b:1/main/2', 'rediss+sentinel')).toMatchObject({
      topology: 'sentinel',
      secure: true,
      masterName: 'main',
      db: 2,
      endpoints: [
        { host: 'a', port: 26_379 },
        { host: 'b', port: 1 },
      ],
    });
    expect(parse('a', 'redis+sentinel').masterName).toBe('mymaster');
    expect(parse('a,b', 'redis+cluster')).toMatchObject({ topology: 'cluster', secure: false });
  });

  it.each([{ db: 256 }, { db: 1.5 }])('refuses %j', (options) => {
    expect(() => parseRedisTarget('redis', 'h', options, {})).toThrow(/ERR_TE_INVALID_ARGUMENT/);
  });
});
