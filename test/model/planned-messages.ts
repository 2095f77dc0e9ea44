import { boolean, constant, constantFrom, nat, oneof, option, record as recordOf, tuple } from 'fast-check';
import type { Arbitrary } from 'fast-check';
import { LEASE_POLICIES, TERMINAL_RUN_STATUSES } from '../../src/contracts/index.ts';
import type { Message, RunMessage, Start } from './model-messages.ts';

/** The numbers of companies, runs and workspaces in a sequence: few, so that its steps conflict. */
export interface Population {
  companies: number;
  runs: number;
  workspaces: number;
  /** Whether most runs are on their company's host, which exists from the start then. */
  onHosts: boolean;
}

/**
 * A new message; a repetition of the nth one sent; or a report about the nth latest lease that it can be about. Indexes are
 * taken modulo the number of candidates.
 */
export type PlannedMessage = Message | { again: number } | { report: Report; ofLatest: number };

type WithoutSubject<T> = T extends Message ? Omit<T, 'company' | 'run' | 'lease'> : never;

/** A message about a lease or its run; a release may name another company. */
export type Report =
  WithoutSubject<Exclude<Message, Start | { kind: 'release' }>> | { kind: 'release'; misaddressed: boolean };

/** The company of a run, unless a misaddressed message registers the run first. */
export const companyOf = (run: number, { companies }: Population): number => run % companies;

export const terminalStatus = constantFrom(...TERMINAL_RUN_STATUSES);
const ttl = option(constantFrom(30, 60, 300), { nil: undefined });
/** Mostly ephemeral, as leases of other policies do not conflict. */
export const policy = oneof({ weight: 8, arbitrary: constant(undefined) }, constantFrom(...LEASE_POLICIES));

/** One reusing policy is frequent, so that leases are adopted. */
const policyOnHosts = oneof(
  { weight: 4, arbitrary: constant(undefined) },
  { weight: 3, arbitrary: constant('reuse_by_environment' as const) },
  { weight: 1, arbitrary: constantFrom(...LEASE_POLICIES) },
);

/** A plain object, which prints as a literal. */
export const record = <T>(fields: { [Name in keyof T]: Arbitrary<T[Name]> }): Arbitrary<T> =>
  recordOf(fields, { noNullPrototype: true });

export const workspace = ({ workspaces }: Population) => option(nat(workspaces - 1), { nil: undefined, freq: 8 });

const renew = record({ kind: constant('renew' as const), ttl });
const reason = option(constantFrom('out of memory', 'exit 1'), { nil: undefined });
const finish = record({ kind: constant('finish' as const), status: terminalStatus, reason });

/** Mostly regular: a driver starts and completes an acquisition, and a cleanup. */
export const report = oneof(
  { weight: 3, arbitrary: record({ kind: constant('begin-acquiring') }) },
  { weight: 6, arbitrary: record({ kind: constant('acquired') }) },
  {
    weight: 2,
    arbitrary: record({
      kind: constant('not-acquired'),
      isOver: constantFrom(true, true, false),
      isFinal: boolean(),
      isRejected: boolean(),
    }),
  },
  {
    weight: 3,
    arbitrary: record({
      kind: constant('release'),
      misaddressed: oneof({ weight: 9, arbitrary: constant(false) }, constant(true)),
    }),
  },
  { weight: 4, arbitrary: record({ kind: constant('cleaned-up') }) },
  { weight: 1, arbitrary: record({ kind: constant('not-cleaned-up'), isFinal: boolean() }) },
  { weight: 1, arbitrary: renew },
  { weight: 4, arbitrary: finish },
).map((each) => defined(each) as Report);

export const reported = (ofLatest: Arbitrary<number>): Arbitrary<PlannedMessage> => record({ report, ofLatest });

/** A message about any run. A misaddressed one names a company that may not own the run. */
export function message(
  population: Population,
  misaddressed: 'never misaddressed' | 'seldom misaddressed',
): Arbitrary<RunMessage> {
  const content = oneof(
    { weight: 5, arbitrary: start(population) },
    { weight: 3, arbitrary: renew },
    { weight: 2, arbitrary: finish },
  );
  const stray = oneof(
    { weight: 40, arbitrary: constant(undefined) },
    { weight: misaddressed === 'never misaddressed' ? 0 : 1, arbitrary: nat(population.companies - 1) },
  );
  return tuple(nat(population.runs - 1), stray, content).map(
    ([run, company, rest]) => defined({ run, company: company ?? companyOf(run, population), ...rest }) as RunMessage,
  );
}

/** The lifecycle of a lease that a driver acquires, or its first part, possibly with one step missing. */
export const lifecycle = (population: Population): Arbitrary<PlannedMessage[]> =>
  tuple(nat(population.runs - 1), start(population), finish, nat(5), nat(9)).map(
    ([run, requestedOptions, end, more, missed]) => {
      const reports = [
        { kind: 'begin-acquiring' },
        { kind: 'acquired' },
        end,
        { kind: 'release', misaddressed: false },
      ];
      const rest = [...reports, { kind: 'cleaned-up' }].slice(0, more).toSpliced(missed, 1) as Report[];
      const started = defined({ run, company: companyOf(run, population), ...requestedOptions }) as RunMessage;
      return [started, ...rest.map((each) => ({ report: defined(each) as Report, ofLatest: 0 }))];
    },
  );

function start(population: Population) {
  const named = oneof(
    { weight: 20, arbitrary: constant(population.onHosts ? 'host' : undefined) },
    constantFrom(undefined, 'local', 'host', 'foreign', 'unknown'),
  );
  const leasePolicy = population.onHosts ? policyOnHosts : policy;
  return record({
    kind: constant('start' as const),
    workspace: workspace(population),
    policy: leasePolicy,
    ttl,
    named,
  });
}

/** Anything that can be sent. */
export const anyPlannedMessage = (population: Population): Arbitrary<PlannedMessage> =>
  oneof(
    { weight: 4, arbitrary: message(population, 'seldom misaddressed') },
    { weight: population.onHosts ? 5 : 1, arbitrary: reported(oneof(nat(2), nat(99))) },
    record({ again: nat(99) }),
  );

/** Without undefined fields, so that a printed step is short. */
export const defined = (fields: object): object =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
