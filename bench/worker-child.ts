import type { OpenContender } from './contenders/contender.ts';
import { startLessorWorker } from './contenders/lessor.ts';
import { openBullMq } from './contenders/bullmq.ts';
import { CONCURRENCY } from './contenders/noop.ts';
import type { AnswerMessage, CallMessage, WorkerCalls } from './worker-calls.ts';

/** The child of a `WorkerProcess`: answers its calls. */

let contender: OpenContender | undefined;
let worker: { close(): Promise<void> } | undefined;

const calls: WorkerCalls = {
  async open(name, stores, runs) {
    // Loaded on demand, so that the memory of a worker does not include the packages of its peers.
    const { CONTENDERS } = await import('./contenders/index.ts');
    contender = await CONTENDERS[name].open(stores, runs);
  },

  load: (phase) => opened().load(phase),

  async drain() {
    const startedAt = performance.now();
    await opened().drain();
    return performance.now() - startedAt;
  },

  async close() {
    const closing = opened();
    contender = undefined;
    await closing.close();
    return closing.violations();
  },

  async startLessor(settings) {
    worker = await startLessorWorker(settings);
  },

  async startNoop(redisUrl) {
    worker = await openBullMq(redisUrl, CONCURRENCY, [], async () => undefined);
  },

  async stopWorker() {
    const stopping = worker;
    worker = undefined;
    await stopping?.close();
  },

  async usage() {
    const { user, system } = process.cpuUsage();
    return { cpuMs: (user + system) / 1_000, rss: process.memoryUsage().rss };
  },
};

function opened(): OpenContender {
  if (contender === undefined) throw new Error('no contender is open');
  return contender;
}

function answer(message: AnswerMessage): void {
  process.send!(message);
}

async function execute({ call, method, args }: CallMessage): Promise<void> {
  try {
    const result = await (calls[method] as (...given: unknown[]) => Promise<unknown>)(...args);
    answer({ call, result });
  } catch (error) {
    if (error instanceof Error) answer({ call, error: error.message, stack: error.stack ?? '' });
    else answer({ call, error: String(error) });
  }
}

process.on('message', (message: CallMessage) => void execute(message));

// The parent has ended.
process.on('disconnect', () => process.exit(0));
