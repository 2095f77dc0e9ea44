import fc from 'fast-check';
import { LEASE_POLICIES, TERMINAL_RUN_STATUSES } from '../../src/contracts/index.ts';
import type { TerminalRunStatus } from '../../src/contracts/index.ts';
import { RELEASE_STATUSES } from '../../src/environments/service-input.ts';
import type { ReleaseStatus } from '../../src/environments/service-input.ts';
import type { Message } from './model-messages.ts';
import type { Acquisition } from './model-service.ts';
import type { Place } from './model.ts';

/** How many there are of what a sequence is about: few, so that its steps get in each other's way. */
export interface Cast {
  companies: number;
  runs: number;
  workspaces: number;
}

/** A message, or one of those sent before, once more: the nth of them, counted round. */
export type Posted = Message | { again: number };

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
  /** The nth start that waits, counted round, is tried again. */
  | { step: 'retry'; waiting: number }
  /** Messages submitted in one go with one among them that Postgres cannot store. */
  | { step: 'poison'; messages: Posted[]; poisonAt: number }
  /** At once, each on a connection of its own. */
  | { step: 'race'; actions: Action[] }
  | { step: 'race with sweep'; message: Posted }
  | { step: 'sweep' }
  | { step: 'pass'; seconds: number }
  | { step: 'write end'; run: number; status: TerminalRunStatus }
  | { step: 'make environment'; company: number; place: Place }
  | { step: 'set environment'; company: number; place: Place; status: 'active' | 'archived' }
  | { step: 'set company'; company: number; status: 'active' | 'archived' };

/** All instants of a sequence are multiples of this, so that the real time it takes decides nothing. */
export const UNIT_SECONDS = 15;

/** How often each kind of step is drawn, relative to the others; a kind left out is never drawn. */
export type Weights = Partial<Record<Step['step'], number>>;

/** The company that a run belongs to, as long as nobody else names it first. */
export const homeOf = (run: number, { companies }: Cast): number => run % companies;

/** A step drawn by the weights. */
export function anyStep(cast: Cast, weights: Weights): fc.Arbitrary<Step> {
  const arbitraries = stepsOf(cast);
  const kinds = Object.entries(weights) as [Step['step'], number][];
  return fc.oneof(...kinds.map(([kind, weight]) => ({ weight, arbitrary: arbitraries[kind] })));
}

function stepsOf(cast: Cast): { [Kind in Step['step']]: fc.Arbitrary<Extract<Step, { step: Kind }>> } {
  const { run, company, nth, posted, place, placeStatus } = wordsOf(cast);
  const deliver = fc.record({ step: fc.constant('deliver' as const), messages: oneOrMore(posted, 6) });
  const acquire = fc.record({ step: fc.constant('acquire' as const), request: acquisition(cast) });
  const release = fc.record({ step: fc.constant('release' as const), lease: nth, status: releaseStatus });
  const releaseRun = fc.record({ step: fc.constant('release run' as const), run, status: releaseStatus });
  const assertCurrent = fc.record({ step: fc.constant('assert current' as const), lease: nth });
  const action = fc.oneof(
    { weight: 6, arbitrary: deliver },
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
    retry: fc.record({ step: fc.constant('retry'), waiting: nth }),
    poison: fc.record({
      step: fc.constant('poison'),
      messages: fc.array(posted, { minLength: 1, maxLength: 4 }),
      poisonAt: fc.nat(4),
    }),
    race: fc.record({ step: fc.constant('race'), actions: fc.array(action, { minLength: 2, maxLength: 3 }) }),
    'race with sweep': fc.record({ step: fc.constant('race with sweep'), message: posted }),
    sweep: fc.record({ step: fc.constant('sweep') }),
    pass: fc.record({ step: fc.constant('pass'), seconds: fc.constantFrom(15, 30, 60, 120, 300) }),
    'write end': fc.record({ step: fc.constant('write end'), run, status: terminalStatus }),
    'make environment': fc.record({ step: fc.constant('make environment'), company, place }),
    'set environment': fc.record({ step: fc.constant('set environment'), company, place, status: placeStatus }),
    'set company': fc.record({ step: fc.constant('set company'), company, status: placeStatus }),
  };
}

const terminalStatus = fc.constantFrom(...TERMINAL_RUN_STATUSES);
const releaseStatus = fc.constantFrom(...RELEASE_STATUSES);
const ttl = fc.option(fc.constantFrom(30, 60, 300), { nil: undefined });
/** Mostly ephemeral, as other policies get out of each other's way. */
const policy = fc.oneof({ weight: 4, arbitrary: fc.constant(undefined) }, fc.constantFrom(...LEASE_POLICIES));

/** Mostly one alone. */
const oneOrMore = <T>(arbitrary: fc.Arbitrary<T>, maxLength: number): fc.Arbitrary<T[]> =>
  fc.oneof(
    { weight: 2, arbitrary: arbitrary.map((only) => [only]) },
    { weight: 1, arbitrary: fc.array(arbitrary, { minLength: 2, maxLength }) },
  );

function wordsOf(cast: Cast) {
  const nth = fc.nat(99);
  return {
    nth,
    run: fc.nat(cast.runs - 1),
    company: fc.nat(cast.companies - 1),
    place: fc.constantFrom('local', 'host'),
    placeStatus: fc.constantFrom('active', 'archived'),
    posted: fc.oneof({ weight: 4, arbitrary: message(cast) }, fc.record({ again: nth })) as fc.Arbitrary<Posted>,
  };
}

const workspace = ({ workspaces }: Cast) => fc.option(fc.nat(workspaces - 1), { nil: undefined, freq: 4 });

/** About any run, seldom in the name of a company that it may not belong to. */
function message(cast: Cast): fc.Arbitrary<Message> {
  const named = fc.oneof(
    { weight: 20, arbitrary: fc.constant(undefined) },
    fc.constantFrom('local', 'host', 'foreign', 'unknown'),
  );
  const start = fc.record({ kind: fc.constant('start'), workspace: workspace(cast), policy, ttl, named });
  const renew = fc.record({ kind: fc.constant('renew'), ttl });
  const reason = fc.option(fc.constantFrom('out of memory', 'exit 1'), { nil: undefined });
  const finish = fc.record({ kind: fc.constant('finish'), status: terminalStatus, reason });
  const content = fc.oneof(
    { weight: 5, arbitrary: start },
    { weight: 3, arbitrary: renew },
    { weight: 2, arbitrary: finish },
  );
  const stray = fc.option(fc.nat(cast.companies - 1), { nil: undefined, freq: 15 });
  return fc
    .tuple(fc.nat(cast.runs - 1), stray, content)
    .map(([run, company, rest]) => defined({ run, company: company ?? homeOf(run, cast), ...rest }) as Message);
}

function acquisition(cast: Cast): fc.Arbitrary<Acquisition> {
  const run = fc.option(fc.nat(cast.runs - 1), { nil: undefined, freq: 4 });
  const wanted = fc.record({
    run,
    workspace: workspace(cast),
    policy,
    place: fc.constantFrom('local', 'local', 'host'),
  });
  return fc
    .tuple(fc.nat(cast.companies - 1), wanted)
    .map(
      ([company, rest]) =>
        defined({ ...rest, company: rest.run === undefined ? company : homeOf(rest.run, cast) }) as Acquisition,
    );
}

/** Without the fields that are undefined, so that a printed step shows what it has. */
const defined = (fields: object): object =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
