import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import {
  InvalidPayloadError,
  MAXIMUM_REASON_LENGTH,
  instantSchema,
  parse,
  payloadSchemas,
  runFinishedSchema,
  runHeartbeatSchema,
  runStartedSchema,
} from '../../src/contracts/index.ts';
import { runFinished, runHeartbeat, runStarted } from '../support/factories.ts';

const isValid = (payload: unknown) => runStartedSchema.safeParse(payload).success;

const acceptsReason = (failureReason: string) =>
  runFinishedSchema.safeParse(runFinished(runStarted(), { failureReason })).success;

describe('payloads', () => {
  test('with required fields only, and with all fields, are accepted unchanged', () => {
    const start = runStarted({
      agentId: randomUUID(),
      issueId: randomUUID(),
      projectId: randomUUID(),
      executionWorkspaceId: randomUUID(),
      environment: { issue: randomUUID(), project: randomUUID(), agent: randomUUID() },
      leasePolicy: 'retain_on_failure',
      ttlSeconds: 60,
      metadata: { nested: [{ text: '👋', number: -1.5, nothing: null, truth: true }] },
    });
    expect(runStartedSchema.parse(start)).toEqual(start);
    for (const payload of [runStarted(), runStarted({ environment: {} })]) {
      expect(runStartedSchema.parse(payload)).toEqual(payload);
    }
    const finish = runFinished(start, { status: 'failed', failureReason: 'out of memory' });
    expect(runFinishedSchema.parse(finish)).toEqual(finish);
    const heartbeat = runHeartbeat(start, { ttlSeconds: 30 });
    expect(runHeartbeatSchema.parse(heartbeat)).toEqual(heartbeat);
  });

  test('without a required field, or with an unknown one, are rejected', () => {
    const run = runStarted();
    const payloads = { 'run-started': run, 'run-finished': runFinished(run), 'run-heartbeat': runHeartbeat(run) };
    for (const [queue, payload] of Object.entries(payloads)) {
      const schema = payloadSchemas[queue as keyof typeof payloadSchemas];
      expect(schema.safeParse({ ...payload, extra: 1 }).error?.issues).toMatchObject([{ code: 'unrecognized_keys' }]);
      for (const field of Object.keys(payload)) {
        expect(schema.safeParse({ ...payload, [field]: undefined }).success, `${queue} without ${field}`).toBe(false);
      }
    }
  });

  test.for([2, 0, '1', null])('of version %j are rejected', (version) => {
    expect(isValid({ ...runStarted(), version })).toBe(false);
  });

  test.for(['', 'run-1', '123e4567-e89b-12d3-a456', 42, null, `${randomUUID()} `, `{${randomUUID()}}`])(
    'do not take %j for a UUID',
    (runId) => {
      expect(isValid({ ...runStarted(), runId })).toBe(false);
      expect(isValid({ ...runStarted(), environment: { issue: runId } })).toBe(false);
    },
  );

  test('have their UUIDs converted to lower case', () => {
    const runId = randomUUID();
    expect(runStartedSchema.parse(runStarted({ runId: runId.toUpperCase() })).runId).toBe(runId);
    expect(runFinishedSchema.parse(runFinished(runStarted({ runId: runId.toUpperCase() }))).runId).toBe(runId);
  });

  test.for([0, -1, 86_401, 1.5, '60', Number.NaN, Infinity])('reject %j as ttl', (ttlSeconds) => {
    expect(isValid({ ...runStarted(), ttlSeconds })).toBe(false);
    expect(runHeartbeatSchema.safeParse({ ...runHeartbeat(runStarted()), ttlSeconds }).success).toBe(false);
  });

  test.for([1, 86_400])('accept %d seconds as ttl', (ttlSeconds) => {
    expect(isValid(runStarted({ ttlSeconds }))).toBe(true);
  });

  test('name environments by issue, project and agent only', () => {
    expect(isValid({ ...runStarted(), environment: { issue: randomUUID() } })).toBe(true);
    expect(isValid({ ...runStarted(), environment: { company: randomUUID() } })).toBe(false);
    expect(isValid({ ...runStarted(), environment: randomUUID() })).toBe(false);
  });

  test('reject values outside the word lists', () => {
    expect(isValid({ ...runStarted(), leasePolicy: 'forever' })).toBe(false);
    for (const status of ['running', 'queued', 'done']) {
      expect(runFinishedSchema.safeParse({ ...runFinished(runStarted()), status }).success).toBe(false);
    }
  });

  test('accept only a failure reason that Postgres can store', () => {
    expect(acceptsReason('x'.repeat(MAXIMUM_REASON_LENGTH))).toBe(true);
    for (const reason of ['', 'a\u0000b', 'a\uD800', 'x'.repeat(MAXIMUM_REASON_LENGTH + 1)]) {
      expect(acceptsReason(reason)).toBe(false);
    }
  });

  test('that do not fit are rejected with every field and its reason, and no other error', () => {
    const bad = { ...runStarted(), runId: 'x', ttlSeconds: 0 };
    expect(() => parse(runStartedSchema, bad, 'run-started payload')).toThrow(InvalidPayloadError);
    expect(() => parse(runStartedSchema, bad, 'run-started payload')).toThrow(
      /run-started payload does not fit[^]*runId[^]*ttlSeconds/,
    );
    for (const payload of [null, undefined, 'text', 7, [], () => 1]) {
      expect(() => parse(runStartedSchema, payload, 'payload')).toThrow(InvalidPayloadError);
    }
  });
});

describe('instants', () => {
  test.for([
    ['2026-11-01T12:00:00Z', '2026-11-01T12:00:00.000Z'],
    ['2026-11-01T12:00:00.123456+05:30', '2026-11-01T06:30:00.123Z'],
    ['2026-11-01T00:30:00-08:00', '2026-11-01T08:30:00.000Z'],
    ['1970-01-01T01:00:00+01:00', '1970-01-01T00:00:00.000Z'],
  ] as const)('%s is kept in UTC', ([text, instant]) => {
    expect(instantSchema.parse(text)).toBe(instant);
  });

  test.for([
    '0000-01-01T00:00:00Z',
    '0001-01-01T00:00:00Z',
    '1969-12-31T23:59:59Z',
    '1970-01-01T00:00:00+01:00',
    '9999-12-31T23:59:59-23:59',
    '+010000-01-01T00:00:00Z',
    '2026-02-30T00:00:00Z',
    '2026-11-01T25:00:00Z',
    '2026-11-01T12:00:00',
    '2026-11-01T12:00:00+99:99',
    '2026-11-01',
    'yesterday',
    '',
    1_793_534_400_000,
  ])('%j is none', (input) => {
    expect(instantSchema.safeParse(input).success).toBe(false);
  });
});
