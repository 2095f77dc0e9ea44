import { deliver } from './model-messages.ts';
import type { Message } from './model-messages.ts';
import { acquire, assertCurrent, release, releaseRun } from './model-service.ts';
import type { Model, ModelOutcome } from './model.ts';
import type { Post } from './post.ts';
import type { PostgresSide, Raw } from './postgres-side.ts';
import type { Action } from './steps.ts';

/** What happens at once, on either side. */
export interface Transaction {
  /** What it delivers, if anything. */
  messages: readonly Message[];
  /** What comes of it. */
  onPostgres(postgres: PostgresSide): Promise<Raw[]>;
  /** What should have come of it: its parts, one after the other. Others may have come in between. */
  onModel(raws: readonly Raw[]): Part[];
}

/** What happens in one transaction. */
interface Part {
  /** Where its outcomes are in those of the whole. */
  positions: readonly number[];
  carryOut: (model: Model) => ModelOutcome[];
}

/** The transactions of actions, without those that are about something that is not there yet. */
export function transactionsOf(actions: readonly Action[], model: Model, post: Post): Transaction[] {
  return actions.flatMap((action) => {
    if (action.step !== 'deliver') return request(action, model) ?? [];
    const messages = post.send(action.messages, model);
    return messages.length === 0 ? [] : delivery(messages, post.companies);
  });
}

function delivery(messages: readonly Message[], companies: number): Transaction {
  return {
    messages,
    onPostgres: (postgres) => postgres.deliver(messages),
    onModel: (raws) =>
      partsOf(raws).map((positions) => ({
        positions,
        carryOut: (model) =>
          deliver(
            model,
            positions.map((position) => messages[position]!),
            companies,
          ),
      })),
  };
}

/** Where in a batch what each of its transactions carried out is, in their order. */
export function partsOf(raws: readonly Raw[]): number[][] {
  const parts = [...new Set(raws.map(partOf))].toSorted((one, other) => one - other);
  return parts.map((part) => [...raws.keys()].filter((position) => partOf(raws[position]!) === part));
}

/** An action that a service asks for. */
function request(action: Exclude<Action, { step: 'deliver' }>, { leases }: Model): Transaction | undefined {
  if (action.step === 'acquire') {
    return asked(
      (model) => acquire(model, action.request),
      (postgres) => postgres.acquire(action.request),
    );
  }
  if (action.step === 'release run') {
    const { run, status } = action;
    return asked(
      (model) => releaseRun(model, run, status),
      (postgres) => postgres.releaseRun(run, status),
    );
  }
  const lease = leases[action.lease % leases.length]?.id;
  if (lease === undefined) return undefined;
  if (action.step === 'assert current') {
    return asked(
      (model) => assertCurrent(model, lease),
      (postgres) => postgres.assertCurrent(lease),
    );
  }
  return asked(
    (model) => release(model, lease, action.status),
    (postgres) => postgres.release(lease, action.status),
  );
}

function asked(
  onModel: (model: Model) => ModelOutcome,
  onPostgres: (postgres: PostgresSide) => Promise<Raw>,
): Transaction {
  return {
    messages: [],
    onPostgres: async (postgres) => [await onPostgres(postgres)],
    onModel: () => [{ positions: [0], carryOut: (model) => [onModel(model)] }],
  };
}

function partOf(raw: Raw): number {
  return raw.kind === 'operation' ? raw.part : Number.POSITIVE_INFINITY;
}
