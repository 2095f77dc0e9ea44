import { expect, test } from 'vitest';
import { payloadJsonSchemas } from '../../src/contracts/index.ts';
import { lessor } from './lessor.ts';

test('`lessor schema` prints the JSON Schema of the three payloads, and nothing else', async () => {
  const { exit, stdout, stderr } = await lessor(['schema']);

  expect({ exit, stderr }).toEqual({ exit: 0, stderr: '' });
  const schemas = JSON.parse(stdout) as Record<
    string,
    { type: string; required: string[]; additionalProperties: boolean }
  >;
  expect(Object.keys(schemas).toSorted()).toEqual(['run-finished', 'run-heartbeat', 'run-started']);
  for (const schema of Object.values(schemas)) {
    expect(schema).toMatchObject({
      $schema: 'https://json-schema.org/draft/2020-12/schema',
      type: 'object',
      additionalProperties: false,
      required: expect.arrayContaining(['version', 'companyId', 'runId']) as unknown,
    });
  }
  expect(schemas).toEqual(payloadJsonSchemas());
});
