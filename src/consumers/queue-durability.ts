import type { Logger } from 'pino';
import { QueueNotDurableError } from '../contracts/index.ts';
import type { Queues } from '../queues/queues.ts';

/**
 * Says in the log how the queue may lose jobs that it has acknowledged.
 * @throws {QueueNotDurableError} when it may throw them away, or does not tell, and a durable one is required. A Redis
 * that forgets them at a restart is never refused: Lessor ends every lease that should end all the same (no-leak).
 */
export async function assertQueueDurable(queues: Queues, isRequired: boolean, logger: Logger): Promise<void> {
  const durability = await queues.durability();
  if (!durability.known) {
    const { reason } = durability;
    if (!isRequired) return logger.debug({ reason }, 'whether the queue is durable is unknown: it does not tell');
    throw new QueueNotDurableError(`whether it is cannot be told (${reason}); permit INFO to the worker's user`);
  }
  const { evictionPolicy, survivesRestart } = durability;
  if (evictionPolicy !== 'noeviction') {
    const remedy = 'set maxmemory-policy to noeviction';
    if (isRequired) {
      throw new QueueNotDurableError(`maxmemory-policy is ${evictionPolicy}, which throws jobs away; ${remedy}`);
    }
    logger.warn({ evictionPolicy }, `Redis throws jobs away when its memory is full, and their runs stall: ${remedy}`);
  }
  if (!survivesRestart) {
    logger.warn('Redis loses jobs at a restart, those since its last snapshot or all: set appendonly to yes');
  }
}
