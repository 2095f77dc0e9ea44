import { auditRuns } from '../audit.ts';
import type { BenchContext } from '../context.ts';
import { countUnfinished, publishBacklog, withRunQueues } from '../queued-runs.ts';
import { median } from '../../testing/statistics.ts';
import { untilDrained } from '../until-drained.ts';
import { planCompanies, planRuns } from '../workload.ts';

/** The memory of a worker process after a number of jobs. */
export interface MemorySample {
  jobs: number;
  bytes: number;
}

export interface MemoryResults {
  jobs: number;
  samples: MemorySample[];
  /** Samples up to this number of jobs are not counted. */
  warmUpJobs: number;
  /** After the warm-up, in bytes. */
  median: number;
  minimum: number;
  maximum: number;
  /** The largest distance from the median, as a share of it. */
  deviation: number;
}

/** Pairs that are published and processed before the next ones, so that the backlog stays short. */
const PAIRS_PER_STEP = 2_500;

const WARM_UP_SHARE = 0.2;

/** Measures the memory of a worker process of its own, on Redis. */
export async function measureMemory(context: BenchContext): Promise<MemoryResults> {
  const { stores, scale, processes } = context;
  const companies = planCompanies(scale.companies);
  await stores.emptyRedis();
  const databaseUrl = await stores.freshDatabase(companies);
  const queueUrl = stores.redisUrl;
  const worker = processes.named('memory');
  const samples: MemorySample[] = [];
  let jobs = 0;
  try {
    await worker.call('startLessor', { databaseUrl, queueUrl });
    samples.push({ jobs, bytes: (await worker.call('usage')).rss });
    await withRunQueues(queueUrl, async (queues) => {
      while (jobs < scale.memory.jobs) {
        const pairs = Math.min(PAIRS_PER_STEP, Math.ceil((scale.memory.jobs - jobs) / 2));
        const runs = planRuns(pairs, companies);
        for (const phase of ['start', 'finish'] as const) {
          await publishBacklog(queues[phase], phase, runs);
          await untilDrained(() => countUnfinished(queues[phase]));
          jobs += runs.length;
          samples.push({ jobs, bytes: (await worker.call('usage')).rss });
        }
        context.describe(`memory: ${jobs.toLocaleString('en')} of ${scale.memory.jobs.toLocaleString('en')} jobs`);
        context.recordAudit('memory', await auditRuns(databaseUrl, runs, { exclusive: false }));
      }
    });
    return { jobs, samples, ...afterWarmUp(samples, jobs * WARM_UP_SHARE) };
  } finally {
    await worker.call('stopWorker');
    await processes.end('memory');
  }
}

function afterWarmUp(samples: readonly MemorySample[], warmUpJobs: number) {
  const bytes = samples.filter(({ jobs }) => jobs > warmUpJobs).map((sample) => sample.bytes);
  const middle = median(bytes);
  const [minimum, maximum] = [Math.min(...bytes), Math.max(...bytes)];
  return {
    warmUpJobs,
    median: middle,
    minimum,
    maximum,
    deviation: Math.max(maximum - middle, middle - minimum) / middle,
  };
}
