import { array, constant, constantFrom, nat, oneof, option, tuple } from 'fast-check';
import type { Arbitrary } from 'fast-check';
import type { TerminalRunStatus } from '../../src/contracts/index.ts';
import { RELEASE_STATUSES } from '../../src/environments/service/input.ts';
import type { ReleaseStatus } from '../../src/environments/service/input.ts';
import type { Acquisition } from './model-service.ts';
import type { Place } from './model.ts';
import { anyPosted, defined, homeOf, life, message, policy, record, report, reported } from './posted.ts';
import { terminalStatus, workspace } from './posted.ts';
import type { Cast, Posted } from './posted.ts';

/** What happens in one transaction. */
export type Action =
  | { step: 'deliver'; messages: Posted[] }
  | { step: 'acquire'; request: Acquisition }
  /** Of the nth lease that was granted so far, counted round. */
  | { step: 'release'; lease: number; status: ReleaseStatus }
  | { step: 'assert current'; lease: number }
  | { step: 'release run'; run: number; status: ReleaseStatus };

/** What a sequence is made of. It is plain data: a printed sequence can be read, and pasted into a test. */
export type Step =
  | Action
  /** Messages one after the other, each in a transaction of its own. */
  | { step: 'deliver in turn'; messages: Posted[] }
  /** The nth start that was granted nothing yet, counted round, is tried again. */
  | { step: 'retry'; waiting: number }
  /** Messages submitted in one go with one among them that Postgres cannot store. */
  | { step: 'poison'; messages: Posted[]; poisonAt: number }
  /** At once, each on a connection of its own. */
  | { step: 'race'; actions: Action[] }
  /** After some seconds, in which leases can have lapsed. */
  | { step: 'race with sweep'; message: Posted; after: number }
  | { step: 'sweep' }
  | { step: 'pass'; seconds: number }
  /** Of the run of the nth lease that was granted so far, counted round, by a control plane that knows no leases. */
  | { step: 'write end'; lease: number; status: TerminalRunStatus }
  | { step: 'make environment'; company: number; place: Place }
  | { step: 'set environment'; company: number; place: Place; status: 'active' | 'archived' }
  /** Workers are run with ENABLE_ENVIRONMENTS, or without. */
  | { step: 'enable environments'; enabled: boolean }
  | { step: 'set company'; company: number; status: 'active' | 'archived' };

/** All instants of a sequence are multiples of this, so that the real time it takes decides nothing. */
export const UNIT_SECONDS = 15;

/** How often each kind of step is drawn, relative to the others; a kind left out is never drawn. */
export type Weights = Partial<Record<Step['step'], number>>;

/** A step drawn by the weights. */
export function anyStep(cast: Cast, weights: Weights): Arbitrary<Step> {
  const arbitraries = stepsOf(cast);
  const kinds = Object.entries(weights) as [Step['step'], number][];
  return oneof(...kinds.map(([kind, weight]) => ({ weight, arbitrary: arbitraries[kind] })));
}

const delivered = (messages: Arbitrary<Posted[]>) => record({ step: constant('deliver' as const), messages });

function stepsOf(cast: Cast): { [Kind in Step['step']]: Arbitrary<Extract<Step, { step: Kind }>> } {
  const { run, company, nth, place, placeStatus } = wordsOf(cast);
  const posted = anyPosted(cast);
  const deliver = delivered(oneOrMore(posted, posted));
  const acquire = record({ step: constant('acquire' as const), request: acquisition(cast) });
  const release = record({ step: constant('release' as const), lease: nth, status: releaseStatus });
  const releaseRun = record({ step: constant('release run' as const), run, status: releaseStatus });
  const assertCurrent = record({ step: constant('assert current' as const), lease: nth });
  // Batches of different companies about the same runs may deadlock, and are then replayed one by one.
  const racing = delivered(oneOrMore(posted, oneof(message(cast, 'never astray'), reported(nat(2)))));
  const action = oneof(
    { weight: 6, arbitrary: racing },
    { weight: 2, arbitrary: acquire },
    release,
    releaseRun,
    assertCurrent,
  );
  return {
    deliver,
    'deliver in turn': record({ step: constant('deliver in turn'), messages: life(cast) }),
    acquire,
    release,
    'release run': releaseRun,
    'assert current': assertCurrent,
    retry: record({ step: constant('retry'), waiting: nth }),
    poison: record({
      step: constant('poison'),
      messages: array(posted, { minLength: 1, maxLength: 4 }),
      poisonAt: nat(4),
    }),
    race: record({
      step: constant('race'),
      actions: oneof(
        { weight: 2, arbitrary: array(action, { minLength: 2, maxLength: 3 }) },
        contest(cast),
        twins(cast),
        { weight: cast.onHosts ? 4 : 1, arbitrary: crossing },
      ),
    }),
    'race with sweep': record({
      step: constant('race with sweep'),
      message: oneof(posted, reported(nat(2))),
      after: constantFrom(0, 60, 300),
    }),
    sweep: record({ step: constant('sweep') }),
    pass: record({ step: constant('pass'), seconds: constantFrom(15, 15, 15, 30, 60, 180, 300) }),
    'write end': record({ step: constant('write end'), lease: nth, status: terminalStatus }),
    'make environment': record({ step: constant('make environment'), company, place }),
    'set environment': record({ step: constant('set environment'), company, place, status: placeStatus }),
    'enable environments': record({
      step: constant('enable environments'),
      enabled: constantFrom(true, true, true, false),
    }),
    'set company': record({ step: constant('set company'), company, status: placeStatus }),
  };
}

const LARGEST_BATCH = 6;

const releaseStatus = constantFrom(...RELEASE_STATUSES);

/** Mostly one alone. */
const oneOrMore = <T>(one: Arbitrary<T>, several: Arbitrary<T>): Arbitrary<T[]> =>
  oneof(
    { weight: 2, arbitrary: one.map((only) => [only]) },
    { weight: 1, arbitrary: array(several, { minLength: 2, maxLength: LARGEST_BATCH }) },
  );

function wordsOf(cast: Cast) {
  const nth = nat(99);
  return {
    nth,
    run: nat(cast.runs - 1),
    company: nat(cast.companies - 1),
    place: constantFrom('local', 'host'),
    placeStatus: constantFrom('active', 'archived'),
  };
}

/** Two or three things at once about one lease that a driver was to acquire. */
const crossing: Arbitrary<Action[]> = tuple(nat(2), array(report, { minLength: 2, maxLength: 3 })).map(
  ([ofLatest, reports]) => reports.map((each) => ({ step: 'deliver', messages: [{ report: each, ofLatest }] })),
);

/** Runs of one company start on the same workspace. */
function contest(cast: Cast): Arbitrary<Action[]> {
  const runs = array(nat(Math.floor(cast.runs / cast.companies) - 1), { minLength: 2, maxLength: 3 });
  return tuple(nat(cast.companies - 1), nat(cast.workspaces - 1), runs).map(([company, onWorkspace, ofCompany]) =>
    ofCompany.map((nth) => {
      const run = company + nth * cast.companies;
      const wanted = { kind: 'start', company, run, workspace: onWorkspace } as const;
      return { step: 'deliver', messages: [cast.onHosts ? { ...wanted, named: 'host' } : wanted] };
    }),
  );
}

/** A message is delivered to two workers. */
const twins = (cast: Cast): Arbitrary<Action[]> =>
  message(cast, 'seldom astray').map((twin) => [
    { step: 'deliver', messages: [twin] },
    { step: 'deliver', messages: [twin] },
  ]);

function acquisition(cast: Cast): Arbitrary<Acquisition> {
  const run = option(nat(cast.runs - 1), { nil: undefined, freq: 4 });
  const wanted = record({
    run,
    workspace: workspace(cast),
    policy,
    place: constantFrom('local', 'local', 'host'),
  });
  return tuple(nat(cast.companies - 1), wanted).map(
    ([company, rest]) =>
      defined({ ...rest, company: rest.run === undefined ? company : homeOf(rest.run, cast) }) as Acquisition,
  );
}
