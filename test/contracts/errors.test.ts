import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import * as contracts from '../../src/contracts/index.ts';
import {
  ERROR_CODES,
  LessorError,
  REJECTION_CODES,
  formatRejection,
  parseRejection,
} from '../../src/contracts/index.ts';

const { error: zodError } = z.string().safeParse(1);

/** One of each class that contracts export, made as its throwers make it. */
const ERRORS = {
  LessorError: new LessorError('invalid_payload', 'message'),
  InvalidPayloadError: new contracts.InvalidPayloadError('payload', zodError!),
  RejectedError: new contracts.RejectedError({ code: 'foreign_run', reason: 'reason' }),
  JobFailedError: new contracts.JobFailedError('job', 'reason'),
  QueueUnreachableError: new contracts.QueueUnreachableError('detail'),
  EnvironmentFailedError: new contracts.EnvironmentFailedError('driver_failed', 'message'),
  QueueNotDurableError: new contracts.QueueNotDurableError('detail'),
  LeaseWaitTimeoutError: new contracts.LeaseWaitTimeoutError('run', 1),
  RunEndedError: new contracts.RunEndedError('run'),
  LeaseLostError: new contracts.LeaseLostError('lease', 'detail'),
  UnknownLeaseError: new contracts.UnknownLeaseError('lease'),
  InvalidTransitionError: new contracts.InvalidTransitionError('lease', 'detail'),
  StaleLeaseError: new contracts.StaleLeaseError('lease', 'detail'),
  SchemaOutdatedError: new contracts.SchemaOutdatedError('detail'),
  InvalidConfigurationError: new contracts.InvalidConfigurationError('message'),
};

describe('errors', () => {
  test("are all listed in this test's table", () => {
    const exported = Object.keys(contracts).filter((name) => name.endsWith('Error'));
    expect(exported.toSorted()).toEqual(Object.keys(ERRORS).toSorted());
  });

  test.for(Object.entries(ERRORS))('%s has its own name, a message and a documented code', ([name, error]) => {
    expect(error).toBeInstanceOf(LessorError);
    expect(error.name).toBe(name);
    expect(error.message).not.toBe('');
    expect(Object.keys(ERROR_CODES)).toContain(error.code);
  });

  test('keep their cause', () => {
    const cause = new Error('ECONNREFUSED');
    expect(new contracts.QueueUnreachableError('detail', { cause }).cause).toBe(cause);
  });
});

describe('a rejection', () => {
  test.for(REJECTION_CODES)("%s survives formatting and parsing of a failed job's reason", (code) => {
    for (const reason of ['because', 'with: a colon: inside', 'over\ntwo lines', '']) {
      expect(parseRejection(formatRejection({ code, reason }))).toEqual({ code, reason });
    }
  });

  test.for(['', 'connection lost', 'run_ended: not a reason for rejection', 'toString: x', 'foreign_run', ': '])(
    'is not read from %j',
    (failedReason) => {
      expect(parseRejection(failedReason)).toBeUndefined();
    },
  );
});
