import { deliver } from './model-messages.ts';
import type { Message } from './model-messages.ts';
import { acquire, assertCurrent, release, releaseRun } from './model-service.ts';
import type { Model, ModelOutcome } from './model.ts';
import type { SentMessages } from './sent-messages.ts';
import type { PostgresSide, Raw } from './postgres-side.ts';
import type { Action } from './steps.ts';

/** One of the concurrent transactions of a step, on either side. */
export interface Transaction {
  /** The messages it delivers, if any. */
  messages: readonly Message[];
  /** Runs it on Postgres. */
  onPostgres(postgres: PostgresSide): Promise<Raw[]>;
  /** Its parts on the model, in their order. Parts of other transactions may come in between. */
  onModel(raws: readonly Raw[]): Part[];
}

/** The messages that Postgres committed together. */
interface Part {
  /** The positions of its outcomes in those of the transaction. */
  positions: readonly number[];
  apply: (model: Model) => ModelOutcome[];
}

/** The transactions of actions. An action on something that does not exist yet is skipped. */
export function transactionsOf(actions: readonly Action[], model: Model, sent: SentMessages): Transaction[] {
  return actions.flatMap((action) => {
    if (action.step !== 'deliver') return request(action, model) ?? [];
    const messages = sent.send(action.messages, model);
    return messages.length === 0 ? [] : delivery(messages, sent.companies);
  });
}

function delivery(messages: readonly Message[], companies: number): Transaction {
  return {
    messages,
    onPostgres: (postgres) => postgres.deliver(messages),
    onModel: (raws) =>
      partsOf(raws).map((positions) => ({
        positions,
        apply: (model) =>
          deliver(
            model,
            positions.map((position) => messages[position]!),
            companies,
          ),
      })),
  };
}

/** The positions in a batch of what each of its transactions applied, in the order of the transactions. */
export function partsOf(raws: readonly Raw[]): number[][] {
  const parts = [...new Set(raws.map(partOf))].toSorted((one, other) => one - other);
  return parts.map((part) => [...raws.keys()].filter((position) => partOf(raws[position]!) === part));
}

/** A call of a service. */
function request(action: Exclude<Action, { step: 'deliver' }>, { leases }: Model): Transaction | undefined {
  if (action.step === 'acquire') {
    return serviceCall(
      (model) => acquire(model, action.request),
      (postgres) => postgres.acquire(action.request),
    );
  }
  if (action.step === 'release run') {
    const { run, status } = action;
    return serviceCall(
      (model) => releaseRun(model, run, status),
      (postgres) => postgres.releaseRun(run, status),
    );
  }
  const lease = leases[action.lease % leases.length]?.id;
  if (lease === undefined) return undefined;
  if (action.step === 'assert current') {
    return serviceCall(
      (model) => assertCurrent(model, lease),
      (postgres) => postgres.assertCurrent(lease),
    );
  }
  return serviceCall(
    (model) => release(model, lease, action.status),
    (postgres) => postgres.release(lease, action.status),
  );
}

function serviceCall(
  onModel: (model: Model) => ModelOutcome,
  onPostgres: (postgres: PostgresSide) => Promise<Raw>,
): Transaction {
  return {
    messages: [],
    onPostgres: async (postgres) => [await onPostgres(postgres)],
    onModel: () => [{ positions: [0], apply: (model) => [onModel(model)] }],
  };
}

function partOf(raw: Raw): number {
  return raw.kind === 'operation' ? raw.part : Number.POSITIVE_INFINITY;
}
