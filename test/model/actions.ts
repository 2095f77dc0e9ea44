import type { ReleaseStatus } from '../../src/environments/service-input.ts';
import { deliver } from './model-messages.ts';
import type { Message } from './model-messages.ts';
import { acquire, assertCurrent, release, releaseRun } from './model-service.ts';
import type { Acquisition } from './model-service.ts';
import type { Model, ModelOutcome } from './model.ts';
import type { PostgresSide, Raw } from './postgres-side.ts';

/** A transaction of a sequence, with what it is about found. */
export type Transaction =
  | { step: 'deliver'; messages: Message[] }
  | { step: 'acquire'; request: Acquisition }
  | { step: 'release'; lease: string; status: ReleaseStatus }
  | { step: 'release run'; run: number; status: ReleaseStatus }
  | { step: 'assert current'; lease: string };

/** What should come of it. */
export function actOnModel(model: Model, transaction: Transaction, companies: number): ModelOutcome[] {
  switch (transaction.step) {
    case 'deliver':
      return deliver(model, transaction.messages, companies);
    case 'acquire':
      return [acquire(model, transaction.request)];
    case 'release':
      return [release(model, transaction.lease, transaction.status)];
    case 'release run':
      return [releaseRun(model, transaction.run, transaction.status)];
    case 'assert current':
      return [assertCurrent(model, transaction.lease)];
  }
}

/** What comes of it. */
export async function actOnPostgres(postgres: PostgresSide, transaction: Transaction): Promise<Raw[]> {
  switch (transaction.step) {
    case 'deliver':
      return postgres.deliver(transaction.messages);
    case 'acquire':
      return [await postgres.acquire(transaction.request)];
    case 'release':
      return [await postgres.release(transaction.lease, transaction.status)];
    case 'release run':
      return [await postgres.releaseRun(transaction.run, transaction.status)];
    case 'assert current':
      return [await postgres.assertCurrent(transaction.lease)];
  }
}
