import { expect, onTestFinished, test } from 'vitest';
import { whyNoRedisServer } from '../../testing/stores/redis-server.ts';
import { startRestartableRedis } from '../../testing/stores/redis-server.ts';

const notRun = whyNoRedisServer === undefined ? '' : ` (not run: ${whyNoRedisServer})`;

test.skipIf(whyNoRedisServer !== undefined)(
  `a restartable Redis keeps what it acknowledged, also when it is killed${notRun}`,
  async () => {
    const redis = await startRestartableRedis();
    onTestFinished(() => redis.close());
    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      await redis.call('RPUSH', 'kept', signal);
      await redis.stop(signal);
      await expect(redis.call('PING')).rejects.toThrow('is stopped');
      await redis.start();
    }
    await redis.restart('SIGKILL');
    expect(await redis.call('LRANGE', 'kept', '0', '-1')).toEqual(['SIGTERM', 'SIGKILL']);
  },
);
