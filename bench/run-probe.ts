import { Queue, QueueEvents } from 'bullmq';
import { createHeartbeatProducer } from '../src/index.ts';
import { openQueues } from '../src/queues/queues.ts';
import { jobIdOf, queueNameOf } from './queued-runs.ts';
import { finishOf, startOf } from './workload.ts';
import type { Phase, Run } from './workload.ts';

/** A queue whose latency is measured. */
export type ProbedQueue = 'noop' | 'lessor';

/** A publisher that is notified when its jobs are done. */
export interface RunProbe {
  /** Publishes a run's start, and resolves once it is notified that the job is done. */
  start(run: Run): Promise<void>;
  finish(run: Run): Promise<void>;
  close(): Promise<void>;
}

const PUBLISH_TIMEOUT_MS = 60_000;

/** Opens a probe. Both queues notify through their events. */
export async function openProbe(queue: ProbedQueue, redisUrl: string): Promise<RunProbe> {
  const publisher = queue === 'lessor' ? openLessorPublisher(redisUrl) : openPlainPublisher(redisUrl);
  const listener = new CompletionListener();
  for (const phase of ['start', 'finish'] as const) {
    const events = publisher.events(phase);
    events.on('completed', ({ jobId }) => listener.complete(jobId));
    events.on('failed', ({ jobId, failedReason }) => listener.fail(jobId, failedReason));
    await events.waitUntilReady();
  }
  const publish = async (phase: Phase, run: Run) => {
    const completed = listener.untilCompleted(jobIdOf(phase, run));
    await publisher.publish(phase, run);
    await completed;
  };
  return {
    start: (run) => publish('start', run),
    finish: (run) => publish('finish', run),
    close: () => publisher.close(),
  };
}

interface Publisher {
  publish(phase: Phase, run: Run): Promise<unknown>;
  events(phase: Phase): Pick<QueueEvents, 'on' | 'waitUntilReady'>;
  close(): Promise<void>;
}

function openLessorPublisher(queueUrl: string): Publisher {
  const producer = createHeartbeatProducer({ queueUrl, publishTimeoutMs: PUBLISH_TIMEOUT_MS });
  const queues = openQueues(queueUrl, { role: 'consumer', onError: (error) => process.emitWarning(error) });
  const opened: { close(): Promise<void> }[] = [];
  return {
    publish: (phase, run) =>
      phase === 'start' ? producer.runStarted(run) : producer.runFinished({ ...run, status: 'succeeded' }),
    events(phase) {
      const events = queues.queueEvents(queueNameOf(phase));
      opened.push(events);
      return events as unknown as QueueEvents;
    },
    async close() {
      await Promise.all(opened.map((events) => events.close()));
      await producer.close();
      await queues.close();
    },
  };
}

function openPlainPublisher(redisUrl: string): Publisher {
  const connection = { url: redisUrl, maxRetriesPerRequest: null };
  const open = (phase: Phase) => new Queue(queueNameOf(phase), { connection });
  const queues = { start: open('start'), finish: open('finish') };
  const opened: { close(): Promise<void> }[] = Object.values(queues);
  return {
    publish: (phase, run) =>
      queues[phase].add(queues[phase].name, phase === 'start' ? startOf(run) : finishOf(run), {
        jobId: jobIdOf(phase, run),
      }),
    events(phase) {
      const events = new QueueEvents(queues[phase].name, { connection });
      opened.push(events);
      return events;
    },
    async close() {
      await Promise.all(opened.map((each) => each.close()));
    },
  };
}

/** Resolves promises of jobs by their events. */
class CompletionListener {
  readonly #waiting = new Map<string, { resolve(): void; reject(error: Error): void }>();

  untilCompleted(jobId: string): Promise<void> {
    return new Promise((resolve, reject) => this.#waiting.set(jobId, { resolve, reject }));
  }

  complete(jobId: string): void {
    this.#waiting.get(jobId)?.resolve();
    this.#waiting.delete(jobId);
  }

  fail(jobId: string, reason: string): void {
    this.#waiting.get(jobId)?.reject(new Error(`job ${jobId} failed: ${reason}`));
    this.#waiting.delete(jobId);
  }
}
