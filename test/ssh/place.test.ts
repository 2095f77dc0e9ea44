import { randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { assertPlaceOf, commandsPathOf, placeOf, workspacePathOf } from '../../src/ssh/place.ts';

const config = { remoteWorkspacePath: '/srv/agents', workspaceMode: 'staged' as const };

test('a place lies under the workspace path, named after its lease', () => {
  const leaseId = randomUUID();
  const place = placeOf(config, leaseId);
  expect(place).toBe(`/srv/agents/.lessor/${leaseId}`);
  expect(workspacePathOf(config, place)).toBe(`${place}/workspace`);
  expect(workspacePathOf({ ...config, workspaceMode: 'in_place' }, place)).toBe('/srv/agents');
  expect(commandsPathOf(place)).toBe(`${place}/commands`);
  expect(() => assertPlaceOf(config, place)).not.toThrow();
});

describe('what is no place of the environment is refused:', () => {
  const id = randomUUID();
  test.each([
    '/srv/agents',
    '/srv/agents/.lessor',
    '/srv/agents/.lessor/',
    `/srv/agents/.lessor/${id}/`,
    `/srv/agents/.lessor/${id}/workspace`,
    `/srv/agents/.lessor/../${id}`,
    `/srv/agents/.lessor/../../.lessor/${id}`,
    `/srv/other/.lessor/${id}`,
    `srv/agents/.lessor/${id}`,
    '/srv/agents/.lessor/somebody',
    '/srv/agents/.lessor/..',
    `/srv/agents/.lessor//${id}`,
    `/srv/agents/.lessor/${id}\n`,
    '/',
    '',
  ])('%j', (place) => {
    expect(() => assertPlaceOf(config, place)).toThrow(expect.objectContaining({ code: 'workspace_unusable' }));
  });

  test.each(['..', '', 'a/b', `${id}/..`])('that of the lease %j', (leaseId) => {
    expect(() => placeOf(config, leaseId)).toThrow(expect.objectContaining({ code: 'workspace_unusable' }));
  });
});
