import { Redis } from 'ioredis';
import { describe, expect, onTestFinished, test } from 'vitest';
import { batchScripts } from '../../../src/queues/backends/redis-script-batching.ts';
import { countScripts, freePort, startRedisServer, whyNoRedisServer } from '../redis-server.ts';

const unlessRunnable = whyNoRedisServer === undefined ? '' : ` (not run: ${whyNoRedisServer})`;

/** Named like a BullMQ script that is batched. */
const NAME = 'moveToFinished:1.2.3';

/** Tells what it was called with, and fails where it is to. */
const ECHO = `
  if ARGV[1] == 'wrong' then return redis.call('INCR', KEYS[1], 'too many') end
  if ARGV[1] == 'raised' then error('raised') end
  if ARGV[1] == 'nothing' then return nil end
  return { KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3] }`;

type Script = (args: unknown[]) => Promise<unknown>;

describe.skipIf(whyNoRedisServer !== undefined)(`calls of a script${unlessRunnable}`, () => {
  test('made in one turn of the event loop are sent with few commands, and each resolves to its own answer', async () => {
    const { server, call } = await openScript();
    await call('first', 'key', 'before', '', '');
    const before = await countScripts(server);
    const numbers = Array.from({ length: 120 }, (_, number) => number);
    const answers = await Promise.all(
      numbers.map((number) => call('same', `key ${number}`, number, Buffer.from(`number ${number}`), undefined)),
    );
    expect(answers).toEqual(numbers.map((number) => ['same', `key ${number}`, `${number}`, `number ${number}`, '']));
    // At most fifty in one.
    expect((await countScripts(server)) - before).toBe(3);
  });

  test('with identical arguments are each executed', async () => {
    const { call } = await openScript();
    const answers = await Promise.all([1, 2, 3].map(() => call('a', 'b', 'c', 'd', 'e')));
    expect(answers).toEqual([1, 2, 3].map(() => ['a', 'b', 'c', 'd', 'e']));
  });

  test('isolated: a call that fails rejects alone', async () => {
    const { call } = await openScript();
    const kinds = ['right', 'wrong', 'nothing', 'raised', 'right'];
    const outcomes = await Promise.allSettled(kinds.map((kind) => call('one', 'two', kind, '', '')));
    expect(outcomes).toMatchObject([
      { status: 'fulfilled', value: ['one', 'two', 'right', '', ''] },
      { status: 'rejected', reason: { message: expect.stringContaining('ERR Wrong number of args') } },
      { status: 'fulfilled', value: null },
      { status: 'rejected', reason: { message: expect.stringContaining('raised') } },
      { status: 'fulfilled', value: ['one', 'two', 'right', '', ''] },
    ]);
  });

  test('with a different number of arguments form a batch of their own', async () => {
    const { call } = await openScript();
    const answers = await Promise.all([call('a', 'b', 'c'), call('a', 'b', 'c', 'd'), call('a', 'b', 'e', 'f')]);
    expect(answers).toEqual([
      ['a', 'b', 'c'],
      ['a', 'b', 'c', 'd'],
      ['a', 'b', 'e', 'f'],
    ]);
  });

  test('are all rejected when the connection is lost', async () => {
    const { server, client, call } = await openScript();
    client.options.retryStrategy = () => null;
    client.on('error', () => undefined);
    await server.call('CLIENT', 'PAUSE', '60000', 'ALL').catch(() => undefined);
    const calls = Promise.allSettled(['one', 'two'].map((key) => call(key, 'key', '', '', '')));
    await new Promise((resolve) => setImmediate(resolve));
    await server.stop();
    expect((await calls).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  });

  test('in a pipeline or a transaction keep their position', async () => {
    const { client } = await openScript();
    for (const commands of [client.pipeline(), client.multi()]) {
      const call = (key: string) => (commands as unknown as Record<string, Script>)[NAME]!([key, 'key', '', '', '']);
      void call('first');
      void commands.set('between', 'them');
      void call('last');
      const answers = await commands.exec();
      expect(answers).toEqual([
        [null, ['first', 'key', '', '', '']],
        [null, 'OK'],
        [null, ['last', 'key', '', '', '']],
      ]);
    }
  });

  test('are sent one by one while BullMQ makes few of them concurrently', async () => {
    const { server, call } = await openScript('pause:1.2.3');
    const before = await countScripts(server);
    await Promise.all([1, 2, 3].map((number) => call('a', 'b', number, '', '')));
    expect((await countScripts(server)) - before).toBe(3);
  });
});

async function openScript(name = NAME) {
  const server = await startRedisServer(await freePort());
  const client = batchScripts(new Redis(server.port));
  onTestFinished(() => client.disconnect());
  client.defineCommand(name, { lua: ECHO, numberOfKeys: 2 });
  const call = (...args: unknown[]) => (client as unknown as Record<string, Script>)[name]!(args);
  return { server, client, call };
}
