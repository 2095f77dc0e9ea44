import { array, boolean, constant, constantFrom, nat, oneof, option, record as recordOf, tuple } from 'fast-check';
import type { Arbitrary } from 'fast-check';
import { LEASE_POLICIES, TERMINAL_RUN_STATUSES } from '../../src/contracts/index.ts';
import type { TerminalRunStatus } from '../../src/contracts/index.ts';
import { RELEASE_STATUSES } from '../../src/environments/service-input.ts';
import type { ReleaseStatus } from '../../src/environments/service-input.ts';
import type { Message, RunMessage, Start } from './model-messages.ts';
import type { Acquisition } from './model-service.ts';
import type { Place } from './model.ts';

/** How many there are of what a sequence is about: few, so that its steps get in each other's way. */
export interface Cast {
  companies: number;
  runs: number;
  workspaces: number;
  /** Whether most runs are to be on their company's host, which is there from the outset then. */
  onHosts: boolean;
}

/**
 * A message; the nth of those sent before, once more; a heartbeat of the run of the nth lease; or what is about the nth
 * lease that a driver was to acquire, from the latest one. Counted round.
 */
export type Posted = Message | { again: number } | { heartbeatOfLease: number } | { report: Report; ofLatest: number };

type WithoutSubject<T> = T extends Message ? Omit<T, 'company' | 'run' | 'lease'> : never;

/** What can be sent about a lease and its run; a release also in the name of another company. */
export type Report =
  WithoutSubject<Exclude<Message, Start | { kind: 'release' }>> | { kind: 'release'; astray: boolean };

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
  /** The nth start that was granted nothing yet, counted round, is tried again. */
  | { step: 'retry'; waiting: number }
  /** Messages submitted in one go with one among them that Postgres cannot store. */
  | { step: 'poison'; messages: Posted[]; poisonAt: number }
  /** At once, each on a connection of its own. */
  | { step: 'race'; actions: Action[] }
  | { step: 'race with sweep'; message: Posted }
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

/** The company that a run belongs to, as long as nobody else names it first. */
const homeOf = (run: number, { companies }: Cast): number => run % companies;

/** A step drawn by the weights. */
export function anyStep(cast: Cast, weights: Weights): Arbitrary<Step> {
  const arbitraries = stepsOf(cast);
  const kinds = Object.entries(weights) as [Step['step'], number][];
  return oneof(...kinds.map(([kind, weight]) => ({ weight, arbitrary: arbitraries[kind] })));
}

function stepsOf(cast: Cast): { [Kind in Step['step']]: Arbitrary<Extract<Step, { step: Kind }>> } {
  const { run, company, nth, posted, place, placeStatus } = wordsOf(cast);
  const delivered = (messages: Arbitrary<Posted[]>) => record({ step: constant('deliver' as const), messages });
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
    'race with sweep': record({ step: constant('race with sweep'), message: posted }),
    sweep: record({ step: constant('sweep') }),
    pass: record({ step: constant('pass'), seconds: constantFrom(15, 15, 15, 30, 60, 300) }),
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

const terminalStatus = constantFrom(...TERMINAL_RUN_STATUSES);
const releaseStatus = constantFrom(...RELEASE_STATUSES);
const ttl = option(constantFrom(30, 60, 300), { nil: undefined });
/** Mostly ephemeral, as other policies get out of each other's way. */
const policy = oneof({ weight: 8, arbitrary: constant(undefined) }, constantFrom(...LEASE_POLICIES));

/** Mostly one alone. */
const oneOrMore = <T>(one: Arbitrary<T>, several: Arbitrary<T>): Arbitrary<T[]> =>
  oneof(
    { weight: 2, arbitrary: one.map((only) => [only]) },
    { weight: 1, arbitrary: array(several, { minLength: 2, maxLength: LARGEST_BATCH }) },
  );

/** A plain object, as it would be written down. */
const record = <T>(fields: { [Name in keyof T]: Arbitrary<T[Name]> }): Arbitrary<T> =>
  recordOf(fields, { noNullPrototype: true });

function wordsOf(cast: Cast) {
  const nth = nat(99);
  return {
    nth,
    run: nat(cast.runs - 1),
    company: nat(cast.companies - 1),
    place: constantFrom('local', 'host'),
    placeStatus: constantFrom('active', 'archived'),
    posted: oneof(
      { weight: 4, arbitrary: message(cast, 'seldom astray') },
      { weight: cast.onHosts ? 8 : 1, arbitrary: reported(oneof(nat(2), nat(99))) },
      record({ again: nth }),
    ) as Arbitrary<Posted>,
  };
}

const workspace = ({ workspaces }: Cast) => option(nat(workspaces - 1), { nil: undefined, freq: 8 });

const renew = record({ kind: constant('renew' as const), ttl });
const reason = option(constantFrom('out of memory', 'exit 1'), { nil: undefined });
const finish = record({ kind: constant('finish' as const), status: terminalStatus, reason });

/** Mostly as it should be: a driver begins, and is done sooner or later; the same with the cleanup. */
const report = oneof(
  { weight: 3, arbitrary: record({ kind: constant('begin-acquiring') }) },
  { weight: 6, arbitrary: record({ kind: constant('acquired') }) },
  {
    weight: 2,
    arbitrary: record({
      kind: constant('not-acquired'),
      isOver: constantFrom(true, true, false),
      isFinal: boolean(),
      isRefused: boolean(),
    }),
  },
  {
    weight: 3,
    arbitrary: record({
      kind: constant('release'),
      astray: oneof({ weight: 9, arbitrary: constant(false) }, constant(true)),
    }),
  },
  { weight: 4, arbitrary: record({ kind: constant('cleaned-up') }) },
  { weight: 1, arbitrary: record({ kind: constant('not-cleaned-up'), isFinal: boolean() }) },
  { weight: 1, arbitrary: renew },
  { weight: 3, arbitrary: finish },
).map((each) => defined(each) as Report);

const reported = (ofLatest: Arbitrary<number>): Arbitrary<Posted> => record({ report, ofLatest });

/** Two or three things at once about one lease that a driver was to acquire. */
const crossing: Arbitrary<Action[]> = tuple(nat(2), array(report, { minLength: 2, maxLength: 3 })).map(
  ([ofLatest, reports]) => reports.map((each) => ({ step: 'deliver', messages: [{ report: each, ofLatest }] })),
);

/** About any run. A message astray is in the name of a company that the run may not belong to. */
function message(cast: Cast, astray: 'never astray' | 'seldom astray'): Arbitrary<RunMessage> {
  const named = oneof(
    { weight: 20, arbitrary: constant(cast.onHosts ? 'host' : undefined) },
    constantFrom(undefined, 'local', 'host', 'foreign', 'unknown'),
  );
  const policies = cast.onHosts ? oneof(policy, constantFrom(...LEASE_POLICIES)) : policy;
  const start = record({ kind: constant('start'), workspace: workspace(cast), policy: policies, ttl, named });
  const content = oneof(
    { weight: 5, arbitrary: start },
    { weight: 3, arbitrary: renew },
    { weight: 2, arbitrary: finish },
  );
  const stray = oneof(
    { weight: 40, arbitrary: constant(undefined) },
    { weight: astray === 'never astray' ? 0 : 1, arbitrary: nat(cast.companies - 1) },
  );
  return tuple(nat(cast.runs - 1), stray, content).map(
    ([run, company, rest]) => defined({ run, company: company ?? homeOf(run, cast), ...rest }) as RunMessage,
  );
}

/** Runs of one company start on the same workspace. */
function contest(cast: Cast): Arbitrary<Action[]> {
  const runs = array(nat(Math.floor(cast.runs / cast.companies) - 1), { minLength: 2, maxLength: 3 });
  return tuple(nat(cast.companies - 1), nat(cast.workspaces - 1), runs).map(([company, onWorkspace, ofCompany]) =>
    ofCompany.map((nth) => {
      const run = company + nth * cast.companies;
      const start = { kind: 'start', company, run, workspace: onWorkspace } as const;
      return { step: 'deliver', messages: [cast.onHosts ? { ...start, named: 'host' } : start] };
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

/** Without the fields that are undefined, so that a printed step shows what it has. */
const defined = (fields: object): object =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
