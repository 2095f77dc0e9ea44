import { auditRuns } from './audit.ts';
import type { AuditOptions } from './audit.ts';
import type { BenchContext } from './context.ts';
import { CONTENDERS } from './contenders/index.ts';
import type { ContenderName } from './contenders/index.ts';
import { CostMeter, addCosts, costsBetween, costsPerJob } from './costs.ts';
import type { Costs } from './costs.ts';
import { planCompanies, planRuns } from './workload.ts';
import type { Run } from './workload.ts';

/** The result of one measurement of a contender. */
export interface Measurement {
  /** Jobs, or operations, per second. */
  rate: number;
  /** The costs of one of them. */
  costs: Costs;
}

/** The amount of work. */
export interface Load {
  pairs: number;
  companies: number;
}

/**
 * Measures how fast a contender processes a backlog of all starts, and then of all finishes, in a process of its own and in
 * a new database. The rows are audited afterwards.
 */
export async function measureContender(context: BenchContext, name: ContenderName, load: Load): Promise<Measurement> {
  const companies = planCompanies(load.companies);
  const databaseUrl = await context.stores.freshDatabase(companies);
  const runs = planRuns(load.pairs, companies);
  return measureRuns(context, name, databaseUrl, runs);
}

/** Does the same in a database where the companies are registered, and may have other runs. */
export async function measureRuns(
  context: BenchContext,
  name: ContenderName,
  databaseUrl: string,
  runs: readonly Run[],
  auditOptions: AuditOptions = {},
): Promise<Measurement> {
  const { stores, processes } = context;
  await stores.emptyRedis();
  const worker = processes.named(name);
  try {
    await worker.call('open', name, { databaseUrl, redisUrl: stores.redisUrl }, runs);
    let elapsedMs = 0;
    let costs: Costs | undefined;
    await CostMeter.during(stores, async (meter) => {
      for (const phase of ['start', 'finish'] as const) {
        await worker.call('load', phase);
        const before = await meter.read(worker);
        elapsedMs += await worker.call('drain');
        const used = costsBetween(before, await meter.read(worker));
        costs = costs === undefined ? used : addCosts(costs, used);
      }
    });
    const detected = await worker.call('close');
    const { writesRows, notPromised = [] } = CONTENDERS[name];
    const found = writesRows ? await auditRuns(databaseUrl, runs, { ...auditOptions, notPromised }) : [];
    context.recordAudit(name, [...detected, ...found]);
    const jobs = 2 * runs.length;
    return { rate: (jobs * 1_000) / elapsedMs, costs: costsPerJob(costs!, jobs) };
  } catch (error) {
    await processes.end(name);
    throw error;
  }
}
