import { array, constant, constantFrom, nat, oneof, option, tuple } from 'fast-check';
import type { Arbitrary } from 'fast-check';
import type { TerminalRunStatus } from '../../src/contracts/index.ts';
import { RELEASE_STATUSES } from '../../src/environments/service/input.ts';
import type { ReleaseStatus } from '../../src/environments/service/input.ts';
import type { Acquisition } from './model-service.ts';
import type { Location } from './model.ts';
import {
  anyPlannedMessage,
  defined,
  companyOf,
  lifecycle,
  message,
  policy,
  record,
  report,
  reported,
} from './planned-messages.ts';
import { terminalStatus, workspace } from './planned-messages.ts';
import type { Population, PlannedMessage } from './planned-messages.ts';

/** A step of one transaction. */
export type Action =
  | { step: 'deliver'; messages: PlannedMessage[] }
  | { step: 'acquire'; request: Acquisition }
  /** Releases the nth lease so far, modulo their number. */
  | { step: 'release'; lease: number; status: ReleaseStatus }
  | { step: 'assert current'; lease: number }
  | { step: 'release run'; run: number; status: ReleaseStatus };

/** A step of a sequence. Plain data: a printed sequence can be read, and pasted into a test. */
export type Step =
  | Action
  /** Delivers messages one after another, each in a transaction of its own. */
  | { step: 'deliver in sequence'; messages: PlannedMessage[] }
  /** Retries the nth start, modulo their number, that has been granted nothing. */
  | { step: 'retry'; waiting: number }
  /** Submits messages together with one that Postgres cannot store. */
  | { step: 'poison'; messages: PlannedMessage[]; poisonAt: number }
  /** Runs actions concurrently, each on a connection of its own. */
  | { step: 'race'; actions: Action[] }
  /** Delivers a message and sweeps concurrently, after some seconds in which leases can expire. */
  | { step: 'race with sweep'; message: PlannedMessage; after: number }
  | { step: 'sweep' }
  | { step: 'pass'; seconds: number }
  /** Writes the end of the run of the nth lease, modulo their number, as a control plane without leases does. */
  | { step: 'write end'; lease: number; status: TerminalRunStatus }
  | { step: 'make environment'; company: number; location: Location }
  | { step: 'set environment'; company: number; location: Location; status: 'active' | 'archived' }
  /** Runs workers with ENABLE_ENVIRONMENTS, or without. */
  | { step: 'enable environments'; enabled: boolean }
  | { step: 'set company'; company: number; status: 'active' | 'archived' };

/** All times of a sequence are multiples of this, so that the real time it takes does not matter. */
export const UNIT_SECONDS = 15;

/** The relative frequency of each kind of step; default 0. */
export type Weights = Partial<Record<Step['step'], number>>;

/** A step drawn by the weights. */
export function anyStep(population: Population, weights: Weights): Arbitrary<Step> {
  const arbitraries = stepsOf(population);
  const kinds = Object.entries(weights) as [Step['step'], number][];
  return oneof(...kinds.map(([kind, weight]) => ({ weight, arbitrary: arbitraries[kind] })));
}

const delivered = (messages: Arbitrary<PlannedMessage[]>) => record({ step: constant('deliver' as const), messages });

function stepsOf(population: Population): { [Kind in Step['step']]: Arbitrary<Extract<Step, { step: Kind }>> } {
  const { run, company, nth, location, environmentStatus } = arbitrariesOf(population);
  const planned = anyPlannedMessage(population);
  const deliver = delivered(oneOrMore(planned, planned));
  const acquire = record({ step: constant('acquire' as const), request: acquisition(population) });
  const release = record({ step: constant('release' as const), lease: nth, status: releaseStatus });
  const releaseRun = record({ step: constant('release run' as const), run, status: releaseStatus });
  const assertCurrent = record({ step: constant('assert current' as const), lease: nth });
  // Batches of different companies about the same runs may deadlock, and are then retried one by one.
  const racing = delivered(oneOrMore(planned, oneof(message(population, 'never misaddressed'), reported(nat(2)))));
  const action = oneof(
    { weight: 6, arbitrary: racing },
    { weight: 2, arbitrary: acquire },
    release,
    releaseRun,
    assertCurrent,
  );
  return {
    deliver,
    'deliver in sequence': record({ step: constant('deliver in sequence'), messages: lifecycle(population) }),
    acquire,
    release,
    'release run': releaseRun,
    'assert current': assertCurrent,
    retry: record({ step: constant('retry'), waiting: nth }),
    poison: record({
      step: constant('poison'),
      messages: array(planned, { minLength: 1, maxLength: 4 }),
      poisonAt: nat(4),
    }),
    race: record({
      step: constant('race'),
      actions: oneof(
        { weight: 2, arbitrary: array(action, { minLength: 2, maxLength: 3 }) },
        contention(population),
        duplicates(population),
        { weight: population.onHosts ? 4 : 1, arbitrary: concurrentReports },
      ),
    }),
    'race with sweep': record({
      step: constant('race with sweep'),
      message: oneof(planned, reported(nat(2))),
      after: constantFrom(0, 60, 300),
    }),
    sweep: record({ step: constant('sweep') }),
    pass: record({ step: constant('pass'), seconds: constantFrom(15, 15, 15, 30, 60, 180, 300) }),
    'write end': record({ step: constant('write end'), lease: nth, status: terminalStatus }),
    'make environment': record({ step: constant('make environment'), company, location }),
    'set environment': record({ step: constant('set environment'), company, location, status: environmentStatus }),
    'enable environments': record({
      step: constant('enable environments'),
      enabled: constantFrom(true, true, true, false),
    }),
    'set company': record({ step: constant('set company'), company, status: environmentStatus }),
  };
}

const LARGEST_BATCH = 6;

const releaseStatus = constantFrom(...RELEASE_STATUSES);

/** Mostly a single one. */
const oneOrMore = <T>(one: Arbitrary<T>, several: Arbitrary<T>): Arbitrary<T[]> =>
  oneof(
    { weight: 2, arbitrary: one.map((only) => [only]) },
    { weight: 1, arbitrary: array(several, { minLength: 2, maxLength: LARGEST_BATCH }) },
  );

function arbitrariesOf(population: Population) {
  const nth = nat(99);
  return {
    nth,
    run: nat(population.runs - 1),
    company: nat(population.companies - 1),
    location: constantFrom('local', 'host'),
    environmentStatus: constantFrom('active', 'archived'),
  };
}

/** Two or three concurrent reports about one lease that a driver acquires. */
const concurrentReports: Arbitrary<Action[]> = tuple(nat(2), array(report, { minLength: 2, maxLength: 3 })).map(
  ([ofLatest, reports]) => reports.map((each) => ({ step: 'deliver', messages: [{ report: each, ofLatest }] })),
);

/** Runs of one company start on the same workspace. */
function contention(population: Population): Arbitrary<Action[]> {
  const runs = array(nat(Math.floor(population.runs / population.companies) - 1), { minLength: 2, maxLength: 3 });
  return tuple(nat(population.companies - 1), nat(population.workspaces - 1), runs).map(
    ([company, onWorkspace, ofCompany]) =>
      ofCompany.map((nth) => {
        const run = company + nth * population.companies;
        const wanted = { kind: 'start', company, run, workspace: onWorkspace } as const;
        return { step: 'deliver', messages: [population.onHosts ? { ...wanted, named: 'host' } : wanted] };
      }),
  );
}

/** A message is delivered to two workers. */
const duplicates = (population: Population): Arbitrary<Action[]> =>
  message(population, 'seldom misaddressed').map((twin) => [
    { step: 'deliver', messages: [twin] },
    { step: 'deliver', messages: [twin] },
  ]);

function acquisition(population: Population): Arbitrary<Acquisition> {
  const run = option(nat(population.runs - 1), { nil: undefined, freq: 4 });
  const wanted = record({
    run,
    workspace: workspace(population),
    policy,
    location: constantFrom('local', 'local', 'host'),
  });
  return tuple(nat(population.companies - 1), wanted).map(
    ([company, rest]) =>
      defined({ ...rest, company: rest.run === undefined ? company : companyOf(rest.run, population) }) as Acquisition,
  );
}
