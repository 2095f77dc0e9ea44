import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import {
  LEASE_POLICIES,
  MAXIMUM_TTL_SECONDS,
  MINIMUM_TTL_SECONDS,
  TERMINAL_RUN_STATUSES,
  payloadJsonSchemas,
  payloadSchemas,
} from '../../src/contracts/index.ts';
import type { PayloadQueueName } from '../../src/contracts/index.ts';
import { runFinished, runHeartbeat, runStarted } from '../support/factories.ts';

/** The parts of a published schema that the tests read. */
interface ObjectSchema {
  $schema: string;
  type: string;
  required: string[];
  additionalProperties: boolean;
  properties: Record<string, Record<string, unknown> & { pattern?: string; format?: string }>;
}

// As a client in another language reads it.
const published: Record<PayloadQueueName, ObjectSchema> = JSON.parse(JSON.stringify(payloadJsonSchemas()));
const queues = Object.keys(payloadSchemas) as PayloadQueueName[];
const run = runStarted({ agentId: randomUUID(), ttlSeconds: 60, metadata: { a: 1 } });
const samples = { 'run-started': run, 'run-finished': runFinished(run), 'run-heartbeat': runHeartbeat(run) };

describe('the published JSON Schema', () => {
  test('exists for every queue with a payload, in draft 2020-12', () => {
    expect(Object.keys(published).toSorted()).toEqual(queues.toSorted());
    for (const queue of queues) {
      expect(published[queue]).toMatchObject({
        $schema: 'https://json-schema.org/draft/2020-12/schema',
        type: 'object',
        additionalProperties: false,
      });
    }
  });

  test.for(queues)('of %s has the same fields and required fields as the zod schema', (queue) => {
    const { shape } = payloadSchemas[queue];
    const required = Object.entries(shape).filter(([, field]) => !(field instanceof z.ZodOptional));
    expect(Object.keys(published[queue].properties).toSorted()).toEqual(Object.keys(shape).toSorted());
    expect(published[queue].required.toSorted()).toEqual(required.map(([name]) => name).toSorted());
  });

  test.for(queues)('of %s accepts and rejects the same samples as zod', (queue) => {
    const sample = samples[queue];
    expect(isAcceptedBy(published[queue], sample)).toBe(true);
    const variants = [
      { ...sample, version: 2 },
      { ...sample, runId: 'no uuid' },
      { ...sample, extra: 1 },
      ...Object.keys(sample).map((field) => ({ ...sample, [field]: undefined })),
      { ...sample, runId: sample.runId.toUpperCase() },
    ];
    for (const variant of variants) {
      expect(isAcceptedBy(published[queue], variant)).toBe(payloadSchemas[queue].safeParse(variant).success);
    }
  });

  test('contains the word lists and limits of the contract', () => {
    const { leasePolicy, ttlSeconds, metadata, environment, startedAt } = published['run-started'].properties;
    expect(leasePolicy).toMatchObject({ enum: [...LEASE_POLICIES] });
    expect(ttlSeconds).toMatchObject({ type: 'integer', minimum: MINIMUM_TTL_SECONDS, maximum: MAXIMUM_TTL_SECONDS });
    expect(metadata).toMatchObject({ type: 'object', description: expect.stringContaining('16384 bytes') });
    expect(environment).toMatchObject({ type: 'object', additionalProperties: false });
    expect(startedAt).toMatchObject({ type: 'string', format: 'date-time' });
    expect(published['run-finished'].properties['status']).toMatchObject({ enum: [...TERMINAL_RUN_STATUSES] });
  });
});

/** As much of JSON Schema as the samples need: presence, constants, and patterns of text. */
function isAcceptedBy(schema: ObjectSchema, payload: Record<string, unknown>): boolean {
  const fields = Object.entries(payload).filter(([, value]) => value !== undefined);
  const names = fields.map(([name]) => name);
  return (
    schema.required.every((name) => names.includes(name)) &&
    fields.every(([name, value]) => {
      const field = schema.properties[name];
      if (field === undefined) return false;
      if ('const' in field && field['const'] !== value) return false;
      return field.pattern === undefined || new RegExp(field.pattern, 'u').test(String(value));
    })
  );
}
