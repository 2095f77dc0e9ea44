import { boolean, constant, constantFrom, nat, oneof, option, record as recordOf, tuple } from 'fast-check';
import type { Arbitrary } from 'fast-check';
import { LEASE_POLICIES, TERMINAL_RUN_STATUSES } from '../../src/contracts/index.ts';
import type { Message, RunMessage, Start } from './model-messages.ts';

/** How many there are of what a sequence is about: few, so that its steps get in each other's way. */
export interface Cast {
  companies: number;
  runs: number;
  workspaces: number;
  /** Whether most runs are to be on their company's host, which is there from the outset then. */
  onHosts: boolean;
}

/**
 * A message; the nth of those sent before, once more; or what is about the nth lease from the latest one, of those that it
 * can be about. Counted round.
 */
export type Posted = Message | { again: number } | { report: Report; ofLatest: number };

type WithoutSubject<T> = T extends Message ? Omit<T, 'company' | 'run' | 'lease'> : never;

/** What can be sent about a lease and its run; a release also in the name of another company. */
export type Report =
  WithoutSubject<Exclude<Message, Start | { kind: 'release' }>> | { kind: 'release'; astray: boolean };

/** The company that a run belongs to, as long as nobody else names it first. */
export const homeOf = (run: number, { companies }: Cast): number => run % companies;

export const terminalStatus = constantFrom(...TERMINAL_RUN_STATUSES);
const ttl = option(constantFrom(30, 60, 300), { nil: undefined });
/** Mostly ephemeral, as other policies get out of each other's way. */
export const policy = oneof({ weight: 8, arbitrary: constant(undefined) }, constantFrom(...LEASE_POLICIES));

/** Of those that reuse one stands out, so that leases are taken over. */
const policyOnHosts = oneof(
  { weight: 4, arbitrary: constant(undefined) },
  { weight: 3, arbitrary: constant('reuse_by_environment' as const) },
  { weight: 1, arbitrary: constantFrom(...LEASE_POLICIES) },
);

/** A plain object, as it would be written down. */
export const record = <T>(fields: { [Name in keyof T]: Arbitrary<T[Name]> }): Arbitrary<T> =>
  recordOf(fields, { noNullPrototype: true });

export const workspace = ({ workspaces }: Cast) => option(nat(workspaces - 1), { nil: undefined, freq: 8 });

const renew = record({ kind: constant('renew' as const), ttl });
const reason = option(constantFrom('out of memory', 'exit 1'), { nil: undefined });
const finish = record({ kind: constant('finish' as const), status: terminalStatus, reason });

/** Mostly as it should be: a driver begins, and is done sooner or later; the same with the cleanup. */
export const report = oneof(
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
  { weight: 4, arbitrary: finish },
).map((each) => defined(each) as Report);

export const reported = (ofLatest: Arbitrary<number>): Arbitrary<Posted> => record({ report, ofLatest });

/** About any run. A message astray is in the name of a company that the run may not belong to. */
export function message(cast: Cast, astray: 'never astray' | 'seldom astray'): Arbitrary<RunMessage> {
  const content = oneof(
    { weight: 5, arbitrary: start(cast) },
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

/** The life of a lease that a driver acquires, or the first part of it, perhaps with something missed. */
export const life = (cast: Cast): Arbitrary<Posted[]> =>
  tuple(nat(cast.runs - 1), start(cast), finish, nat(5), nat(9)).map(([run, wishes, end, more, missed]) => {
    const reports = [{ kind: 'begin-acquiring' }, { kind: 'acquired' }, end, { kind: 'release', astray: false }];
    const rest = [...reports, { kind: 'cleaned-up' }].slice(0, more).toSpliced(missed, 1) as Report[];
    const started = defined({ run, company: homeOf(run, cast), ...wishes }) as RunMessage;
    return [started, ...rest.map((each) => ({ report: defined(each) as Report, ofLatest: 0 }))];
  });

function start(cast: Cast) {
  const named = oneof(
    { weight: 20, arbitrary: constant(cast.onHosts ? 'host' : undefined) },
    constantFrom(undefined, 'local', 'host', 'foreign', 'unknown'),
  );
  const leasePolicy = cast.onHosts ? policyOnHosts : policy;
  return record({ kind: constant('start' as const), workspace: workspace(cast), policy: leasePolicy, ttl, named });
}

/** Anything that can be sent. */
export const anyPosted = (cast: Cast): Arbitrary<Posted> =>
  oneof(
    { weight: 4, arbitrary: message(cast, 'seldom astray') },
    { weight: cast.onHosts ? 5 : 1, arbitrary: reported(oneof(nat(2), nat(99))) },
    record({ again: nat(99) }),
  );

/** Without the fields that are undefined, so that a printed step shows what it has. */
export const defined = (fields: object): object =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
